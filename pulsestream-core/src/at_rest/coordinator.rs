//! The coordinator over the key-value port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::keys::coordination;
use super::record::decode;
use super::transaction::{Attempts, Transaction};
use super::turns::Turns;
use crate::env::Env;
use crate::error::Result;
use crate::ports::coordinator::{Coordinator, Lease};
use crate::ports::key_value::{KeyValue, KeyValueExt};
use crate::time::Timestamp;

/// Most leases that a listing returns.
const MAX_LISTED: usize = 10_000;

/// Grants leases that are kept in a [`KeyValue`] store, by the wall clock of this process.
///
/// The record of a resource stays after its release, because it knows the last fencing token.
#[derive(Debug, Clone)]
pub struct KeyValueCoordinator {
    store: Arc<dyn KeyValue>,
    env: Env,
    turns: Turns,
}

impl KeyValueCoordinator {
    /// Creates a coordinator over a store.
    pub fn new(store: Arc<dyn KeyValue>, env: Env) -> Self {
        Self { store, env, turns: Turns::default() }
    }

    /// Ends all leases, so that the next holders need not wait. Only for a store that nobody else works on: for example after the
    /// exclusive lock of a folder has shown that its last owner is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end_all(&self) -> Result<()> {
        for lease in self.leases("").await? {
            self.release(&lease).await?;
        }
        Ok(())
    }

    /// Replaces the lease of a resource by what `change` makes of the present one, unless it makes nothing of it.
    async fn update(
        &self,
        operation: &'static str,
        resource: &str,
        change: impl Fn(Option<Lease>, Timestamp) -> Option<Lease> + Send + Sync,
    ) -> Result<Option<Lease>> {
        let key = coordination::lease(resource);
        let mut attempts = Attempts::in_turn(operation, &self.turns);
        loop {
            attempts.next().await.map_err(|error| error.with_context("resource", resource))?;
            let mut transaction = Transaction::new(&*self.store);
            let present = transaction.get(&key, "lease").await?;
            let Some(lease) = change(present, self.env.now()) else { return Ok(None) };
            transaction.put(key.clone(), &lease)?;
            if transaction.commit().await? {
                return Ok(Some(lease));
            }
        }
    }
}

#[async_trait]
impl Coordinator for KeyValueCoordinator {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>> {
        let grant = |present: Option<Lease>, now: Timestamp| {
            let fencing_token = match &present {
                Some(lease) if lease.expires_at > now && lease.holder == *holder => lease.fencing_token,
                Some(lease) if lease.expires_at > now => return None,
                Some(lease) => lease.fencing_token + 1,
                None => 1,
            };
            let expires_at = now.plus(ttl);
            Some(Lease { resource: resource.into(), holder: holder.into(), fencing_token, expires_at })
        };
        self.update("coordinator.acquire", resource, grant).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let end = |present: Option<Lease>, now: Timestamp| {
            let held = |found: &Lease| {
                found.holder == lease.holder
                    && found.fencing_token == lease.fencing_token
                    && found.expires_at > now
            };
            present.filter(held).map(|lease| Lease { expires_at: now, ..lease })
        };
        self.update("coordinator.release", &lease.resource, end).await?;
        Ok(())
    }

    async fn leases(&self, prefix: &str) -> Result<Vec<Lease>> {
        let entries = self.store.prefix(coordination::lease(prefix), MAX_LISTED).await?;
        let now = self.env.now();
        let leases: Vec<Lease> =
            entries.iter().map(|(_, value)| decode(value, "lease")).collect::<Result<_>>()?;
        Ok(leases.into_iter().filter(|lease| lease.expires_at > now).collect())
    }
}
