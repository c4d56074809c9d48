//! A lease that is kept for as long as somebody works under it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::ports::coordinator::{Coordinator, Lease};
use crate::text::Text;
use crate::time::Timestamp;

/// The lease of one process on one resource, renewed after a third of its time, or a little before that when its holder looks then.
#[derive(Debug)]
pub(crate) struct KeptLease {
    coordinator: Arc<dyn Coordinator>,
    resource: String,
    holder: Text,
    ttl: Duration,
    lease: Option<Lease>,
    renew_at: Timestamp,
    /// From when on it is renewed when somebody looks, so that holders of many leases who look together renew them together.
    renew_from: Timestamp,
    /// When it has ended by the time of this process, which began to count before the coordinator did.
    ends_at: Timestamp,
}

impl KeptLease {
    pub(crate) fn new(
        coordinator: Arc<dyn Coordinator>,
        resource: String,
        holder: Text,
        ttl: Duration,
    ) -> Self {
        Self {
            coordinator,
            resource,
            holder,
            ttl,
            lease: None,
            renew_at: Timestamp::MIN,
            renew_from: Timestamp::MIN,
            ends_at: Timestamp::MIN,
        }
    }

    /// Returns the fencing token while the lease is held.
    pub(crate) fn token(&self) -> Option<u64> {
        self.lease.as_ref().map(|lease| lease.fencing_token)
    }

    /// Returns when the lease is to be renewed.
    pub(crate) fn renew_at(&self) -> Timestamp {
        self.renew_at
    }

    /// Takes or renews the lease when that is due. What was known under another token than the one returned is known no more.
    pub(crate) async fn keep(&mut self, now: Timestamp) -> Result<Option<u64>> {
        if self.lease.is_none() || now >= self.renew_from {
            self.take(now).await?;
        }
        Ok(self.token())
    }

    /// Takes the lease when none is held, and passes on one that was not renewed in time: for whoever renews it by what was done under
    /// it, with [`Self::renew`].
    pub(crate) async fn hold(&mut self, now: Timestamp) -> Result<Option<u64>> {
        if self.lease.is_none() || now >= self.ends_at {
            self.take(now).await?;
        }
        Ok(self.token())
    }

    /// Renews the lease that is held, when that is due. A failure is tried again soon; when the lease ends first, taking it fails.
    pub(crate) async fn renew(&mut self, now: Timestamp) {
        if now < self.renew_from {
            return;
        }
        if let Err(error) = self.take(now).await {
            self.renew_at = now.plus(self.ttl / 6);
            self.renew_from = self.renew_at;
            tracing::warn!(resource = self.resource, %error, "a lease is not renewed; it is tried again");
        }
    }

    async fn take(&mut self, now: Timestamp) -> Result<()> {
        self.lease = self.coordinator.acquire(&self.resource, &self.holder, self.ttl).await?;
        self.renew_at = now.plus(self.ttl / 3);
        self.renew_from = now.plus(self.ttl / 4);
        self.ends_at = now.plus(self.ttl);
        Ok(())
    }

    /// Forgets a lease that turned out to be another's, so that the next `keep` asks again.
    pub(crate) fn forget(&mut self) {
        self.lease = None;
    }

    /// Gives the lease back.
    pub(crate) async fn release(&mut self) -> Result<()> {
        match self.lease.take() {
            Some(lease) => self.coordinator.release(&lease).await,
            None => Ok(()),
        }
    }
}
