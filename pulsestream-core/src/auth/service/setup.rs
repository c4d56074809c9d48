//! The first administrator: a link that works once, while nobody is there yet.

use std::time::Duration;

use super::{AuthService, MAX_ATTEMPTS, conflict_error, too_busy};
use crate::auth::opaque::{OpaqueToken, OpaqueUse};
use crate::auth::request::{CompleteSetup, EnsureAdmin, EnsuredAdmin, SetupToken};
use crate::auth::secret::SecretBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::ports::auth::Origin;
use crate::ports::identity::{IdentityOutcome, KeyringRecord, PendingSetup};

/// How long a link works.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// How many links there are at once: one for each start of each node. The oldest makes room.
const MAX_PENDING: usize = 16;

impl AuthService {
    /// Makes a link for the first administrator; `None` when there is a tenant already, or the application keeps the secrets. It may
    /// be called at every start, on every node: each link works until one of them was used, an hour at most.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open_setup(&self) -> Result<Option<SetupToken>> {
        if !self.0.ring.is_stored() || self.has_tenants().await? {
            return Ok(None);
        }
        let token = OpaqueToken {
            usage: OpaqueUse::Setup,
            tenant: TenantId::from_u128(0),
            id: self.0.env.uuid_v7()?,
            secret: SecretBytes::random(&self.0.env)?,
        };
        let expires_at = self.0.env.now().plus(LIFETIME);
        let pending = PendingSetup { digest: token.digest(), expires_at };
        self.change_setups("auth.open_setup", |record| {
            let now = self.0.env.now();
            record.setups.retain(|setup| setup.expires_at > now);
            let excess = (record.setups.len() + 1).saturating_sub(MAX_PENDING);
            record.setups.drain(..excess);
            record.setups.push(pending.clone());
            Ok(())
        })
        .await?;
        Ok(Some(SetupToken { token: token.text(), expires_at }))
    }

    /// Returns whether a link waits to be used.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_setup_open(&self) -> Result<bool> {
        let now = self.0.env.now();
        let pending = match self.0.store.keyring().await? {
            Some(record) => record.setups.iter().any(|setup| setup.expires_at > now),
            None => false,
        };
        Ok(pending && !self.has_tenants().await?)
    }

    /// Makes the first tenant and its owner; afterwards no link works any more. A request that is refused leaves the link as it is.
    ///
    /// # Errors
    /// `NotFound` when there is somebody already, or no link waits; `Unauthenticated` for a link that is unknown, used or too old;
    /// `Invalid` with every refused field.
    pub async fn complete_setup(&self, request: &CompleteSetup, origin: &Origin) -> Result<EnsuredAdmin> {
        const OPERATION: &str = "auth.complete_setup";
        if !self.is_setup_open().await? {
            return Err(Error::new(ErrorKind::NotFound, OPERATION, "there is nothing to set up"));
        }
        let refused = || {
            let message = "the link is not valid: start the server again for a new one";
            Error::new(ErrorKind::Unauthenticated, OPERATION, message)
        };
        let token = OpaqueToken::parse(OpaqueUse::Setup, request.token.expose()).ok_or_else(refused)?;
        let digest = token.digest();
        let now = self.0.env.now();
        let is_good = |record: &KeyringRecord| {
            record.setups.iter().any(|setup| setup.expires_at > now && setup.digest == digest)
        };
        if !self.0.store.keyring().await?.as_ref().is_some_and(is_good) {
            return Err(refused());
        }
        let admin = EnsureAdmin {
            tenant_name: request.tenant_name.clone(),
            tenant_slug: request.tenant_slug.clone(),
            email: request.email.clone(),
            full_name: request.full_name.clone(),
            password: Some(request.password.clone()),
        };
        let draft = self.draft_admin(OPERATION, &admin, None, origin).await?;
        // Whoever takes the links away is the only one who goes on. After a crash here the next start makes a new link.
        self.change_setups(OPERATION, |record| {
            if !is_good(record) {
                return Err(refused());
            }
            record.setups.clear();
            Ok(())
        })
        .await?;
        self.commit_admin(draft).await?.map_err(|conflict| conflict_error(OPERATION, conflict))
    }

    async fn has_tenants(&self) -> Result<bool> {
        Ok(!self.0.store.tenants(None, 1).await?.is_empty())
    }

    async fn change_setups(
        &self,
        operation: &'static str,
        mut change: impl FnMut(&mut KeyringRecord) -> Result<()> + Send,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.0.store.keyring().await? else {
                return Err(Error::new(ErrorKind::Corrupt, operation, "the stored secrets are gone"));
            };
            change(&mut record)?;
            if self.0.store.put_keyring(&record).await? == IdentityOutcome::Committed {
                return Ok(());
            }
        }
        Err(too_busy(operation))
    }
}
