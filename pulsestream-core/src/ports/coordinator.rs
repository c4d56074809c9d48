//! The coordinator port: who works on what, and how far they got.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::text::Text;
use crate::time::Timestamp;

/// A lease that was granted: until it expires nobody else holds the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What is leased, for example `alerting/7`.
    pub resource: Text,
    /// Who holds it: unique for each process.
    pub holder: Text,
    /// Ascends with every change of holder; whoever writes under a lower token came too late.
    pub fencing_token: u64,
    /// When it ends unless it is renewed, by the coordinator's clock.
    pub expires_at: Timestamp,
}

/// Grants leases with fencing tokens.
#[async_trait]
pub trait Coordinator: fmt::Debug + Send + Sync + 'static {
    /// Takes or renews the lease on `resource` for `ttl`; `None` while another holder has it.
    ///
    /// # Contract
    /// - At most one holder has an unexpired lease (`lease_has_one_holder`).
    /// - The fencing token is higher than that of every earlier holder, and stays when the holder renews in time
    ///   (`lease_token_ascends`, `lease_renewal_keeps_the_token`).
    /// - After expiry another may take it (`lease_expires`).
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>>;

    /// Gives a lease back early; a lease that is not held any more is passed over.
    ///
    /// # Contract
    /// - The next `acquire` by another holder succeeds at once, with a higher token (`lease_release`).
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Returns the unexpired leases whose resource starts with `prefix`, by resource.
    async fn leases(&self, prefix: &str) -> Result<Vec<Lease>>;
}
