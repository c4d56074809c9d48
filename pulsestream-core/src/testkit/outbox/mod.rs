//! What every [`Outbox`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::outbox::Outbox;

mod lease;
mod log;
mod probe;

pub use probe::Probe;

/// What the suite needs to know about an outbox.
#[async_trait]
pub trait OutboxHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty outbox that nobody else uses, not even another case.
    async fn open(&self) -> Arc<dyn Outbox>;

    /// Returns a tenant that is not used yet; a store that knows its tenants makes it.
    fn tenant(&self) -> TenantId {
        fresh_tenant()
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

super::suite! {
    $
    /// Lists every promise of an outbox as a test; takes an expression that makes the harness.
    outbox_conformance, outbox, OutboxHarness, Probe,
    [
        lease: outbox_enqueue_twice, outbox_lease_is_exclusive, outbox_lease_expires, outbox_leases_in_order,
            outbox_caps_channels, outbox_passes_over_full_tenants, outbox_refuses_lost_leases, outbox_next_due, outbox_dispatchers_race;
        log: outbox_logs_attempts, outbox_dispositions, outbox_is_isolated, outbox_replay_keeps_identity,
            outbox_replay_selects, outbox_pages_are_complete, outbox_prunes, outbox_erase_leaves_nothing;
    ]
}
