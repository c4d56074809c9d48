//! Who is calling: API keys, access tokens and tickets.

use async_trait::async_trait;

use super::AuthService;
use crate::auth::api_key::ApiKeyText;
use crate::auth::jwt::{AccessClaims, CommonClaims, TicketClaims, TicketHolder, TokenUse};
use crate::auth::permission::{Role, Scopes};
use crate::auth::request::Ticket;
use crate::auth::secret::Digest256;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, SessionId, TenantId, UserId};
use crate::ports::auth::{Credential, Credentials, Principal, Subject, TenantAuth};
use crate::ports::identity::{ApiKeyState, IdentityOutcome, IdentityWrite, SessionState, TenantStatus};
use crate::time::Timestamp;

/// What was found out about a good session.
#[derive(Debug, Clone)]
pub(super) struct CheckedSession {
    pub(super) user: UserId,
    role: Role,
    expires_at: Timestamp,
    active_at: Option<Timestamp>,
}

/// What was found out about a key, good or not.
#[derive(Debug, Clone)]
pub(super) struct CheckedKey {
    pub(super) tenant: TenantId,
    digest: Digest256,
    scopes: Scopes,
    expires_at: Option<Timestamp>,
    used_at: Option<Timestamp>,
}

#[async_trait]
impl TenantAuth for AuthService {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal> {
        match &credentials.credential {
            Credential::Missing => Err(Error::new(
                ErrorKind::Unauthenticated,
                "auth.authenticate",
                "credentials are missing: send an API key in X-API-Key or a token in Authorization: Bearer",
            )),
            Credential::ApiKey(key) => self.authenticate_key(key.expose()).await,
            Credential::Bearer(key) if ApiKeyText::looks_like(key.expose()) => {
                self.authenticate_key(key.expose()).await
            }
            Credential::Bearer(token) => {
                let claims: AccessClaims = self.claims(token.expose()).await?;
                self.principal_of_session(claims.tenant, claims.sub, claims.sid, claims.exp).await
            }
            Credential::Ticket(ticket) => {
                let claims: TicketClaims = self.claims(ticket.expose()).await?;
                match claims.holder {
                    TicketHolder::User { user, session } => {
                        self.principal_of_session(claims.tenant, user, session, claims.exp).await
                    }
                    TicketHolder::ApiKey { key } => {
                        let checked =
                            self.checked_key(key).await?.filter(|checked| checked.tenant == claims.tenant);
                        let mut principal = self.principal_of_key(key, checked.ok_or_else(refused)?).await?;
                        principal.expires_at = Some(Timestamp::from_seconds(claims.exp));
                        Ok(principal)
                    }
                }
            }
        }
    }
}

impl AuthService {
    /// Returns a ticket that opens one WebSocket within seconds, for clients that cannot send headers.
    ///
    /// # Errors
    /// `Forbidden` for a caller of another identity provider.
    pub async fn issue_ticket(&self, actor: &Principal) -> Result<Ticket> {
        let holder = match (&actor.subject, actor.session) {
            (Subject::User(user), Some(session)) => TicketHolder::User { user: *user, session },
            (Subject::ApiKey(key), _) => TicketHolder::ApiKey { key: *key },
            _ => {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    "auth.issue_ticket",
                    "a ticket takes a signed-in user or an API key",
                ));
            }
        };
        let (settings, now) = (&self.0.settings, self.0.env.now().as_seconds());
        let claims = TicketClaims {
            iss: settings.issuer.clone(),
            aud: settings.audience.clone(),
            exp: now.saturating_add_unsigned(settings.ticket_ttl.as_secs()),
            nbf: now,
            iat: now,
            jti: SessionId::from_u128(self.0.env.uuid_v7()?),
            tenant: actor.tenant,
            typ: TokenUse::Ticket,
            holder,
        };
        Ok(Ticket { ticket: self.0.ring.codec().sign(&claims)?, expires_in: settings.ticket_ttl })
    }

    /// Returns the active tenant that another identity provider means by `name`, its id or its slug; `None` when there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn active_tenant(&self, name: &str) -> Result<Option<TenantId>> {
        let read_at = match self.0.tenants.get(&name.to_owned(), self.0.env.monotonic()) {
            Ok(tenant) => return Ok(Some(tenant)),
            Err(read_at) => read_at,
        };
        let found = match name.parse::<TenantId>() {
            Ok(id) => self.0.store.tenant(id).await?,
            // Exactly: two names that only we take for one may be two tenants to the provider.
            Err(_) => self.0.store.tenant_by_slug(name).await?.filter(|tenant| tenant.slug == name),
        };
        let Some(tenant) = found.filter(|tenant| tenant.status == TenantStatus::Active) else {
            return Ok(None);
        };
        self.0.tenants.insert(name.to_owned(), tenant.id, self.0.env.monotonic(), read_at);
        Ok(Some(tenant.id))
    }

    async fn claims<C: CommonClaims>(&self, token: &str) -> Result<C> {
        self.codec_for(token).await?.verify(token, self.0.env.now())
    }

    async fn principal_of_session(
        &self,
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        expires_at: i64,
    ) -> Result<Principal> {
        let now = self.0.env.now();
        let checked = match self.0.sessions.get(&(tenant, session), self.0.env.monotonic()) {
            Ok(checked) => checked,
            Err(read_at) => {
                let state =
                    self.0.store.session(tenant, session).await?.filter(is_good).ok_or_else(refused)?;
                let checked = CheckedSession {
                    user: state.user.id,
                    role: state.user.role,
                    expires_at: state.session.expires_at,
                    active_at: state.user.activity.last_active_at,
                };
                self.0.sessions.insert((tenant, session), checked.clone(), self.0.env.monotonic(), read_at);
                checked
            }
        };
        if checked.user != user || now >= checked.expires_at {
            return Err(refused());
        }
        if self.is_due(checked.active_at, now) {
            self.note_use(tenant, IdentityWrite::RecordActivity(user, now)).await?;
            self.0.sessions.update(&(tenant, session), |held| held.active_at = Some(now));
        }
        Ok(Principal {
            tenant,
            subject: Subject::User(user),
            role: Some(checked.role),
            scopes: None,
            session: Some(session),
            expires_at: Some(Timestamp::from_seconds(expires_at)),
        })
    }

    async fn authenticate_key(&self, text: &str) -> Result<Principal> {
        let key = ApiKeyText::parse(text).ok_or_else(refused)?;
        let checked = self.checked_key(key.id()).await?;
        if !key.matches(&self.0.ring.pepper(), checked.as_ref().map(|checked| &checked.digest)) {
            return Err(refused());
        }
        self.principal_of_key(key.id(), checked.ok_or_else(refused)?).await
    }

    async fn principal_of_key(&self, key: ApiKeyId, checked: CheckedKey) -> Result<Principal> {
        let now = self.0.env.now();
        if checked.expires_at.is_some_and(|at| now >= at) {
            return Err(refused());
        }
        if self.is_due(checked.used_at, now) {
            self.note_use(checked.tenant, IdentityWrite::RecordKeyUse(key, now)).await?;
            self.0.keys.update(&key, |held| held.used_at = Some(now));
        }
        Ok(Principal {
            tenant: checked.tenant,
            subject: Subject::ApiKey(key),
            role: None,
            scopes: Some(checked.scopes),
            session: None,
            expires_at: checked.expires_at,
        })
    }

    /// Returns a key that is not revoked, of an active tenant.
    async fn checked_key(&self, key: ApiKeyId) -> Result<Option<CheckedKey>> {
        let read_at = match self.0.keys.get(&key, self.0.env.monotonic()) {
            Ok(checked) => return Ok(Some(checked)),
            Err(read_at) => read_at,
        };
        let now = self.0.env.now();
        let good =
            |state: &ApiKeyState| state.key.is_live(now) && state.tenant.status == TenantStatus::Active;
        let Some(state) = self.0.store.api_key(key).await?.filter(good) else { return Ok(None) };
        let checked = CheckedKey {
            tenant: state.tenant.id,
            digest: state.key.digest,
            scopes: state.key.scopes,
            expires_at: state.key.expires_at,
            used_at: state.key.last_used_at,
        };
        self.0.keys.insert(key, checked.clone(), self.0.env.monotonic(), read_at);
        Ok(Some(checked))
    }

    fn is_due(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        last.is_none_or(|last| now.since(last) >= self.0.settings.activity_resolution)
    }

    /// Notes a use. For a tenant that is going away there is nothing to be opened; a store that cannot take the note now, such
    /// as on a full disk, does not lock callers out.
    async fn note_use(&self, tenant: TenantId, write: IdentityWrite) -> Result<()> {
        match self.0.store.commit(tenant, vec![write]).await {
            Ok(IdentityOutcome::Committed) => {}
            Ok(IdentityOutcome::Conflict(_)) => return Err(refused()),
            Err(error) => tracing::warn!(%tenant, %error, "the use of a credential could not be noted"),
        }
        Ok(())
    }

    /// Forgets what was found out about the sessions of a user.
    pub(super) fn forget_user(&self, tenant: TenantId, user: UserId) {
        self.0.sessions.forget(|(of, _), checked| *of == tenant && checked.user == user);
    }

    /// Forgets what was found out about anything of a tenant.
    pub(super) fn forget_tenant(&self, tenant: TenantId) {
        self.0.sessions.forget(|(of, _), _| *of == tenant);
        self.0.keys.forget(|_, checked| checked.tenant == tenant);
        self.0.tenants.forget(|_, named| *named == tenant);
    }
}

/// Whether a session opens anything: it is live, of the user's epoch, and user and tenant are active.
pub(super) fn is_good(state: &SessionState) -> bool {
    state.session.ended.is_none()
        && state.session.epoch == state.user.epoch
        && state.user.is_active
        && state.tenant.status == TenantStatus::Active
}

fn refused() -> Error {
    Error::new(ErrorKind::Unauthenticated, "auth.authenticate", "the credentials are not valid")
}
