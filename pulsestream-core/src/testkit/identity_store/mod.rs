//! What every [`IdentityStore`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::identity::IdentityStore;

mod commit;
mod deletion;
mod listing;
mod names;
mod probe;

pub use probe::Probe;

/// What the suite needs to know about a store.
#[async_trait]
pub trait IdentityStoreHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty store that nobody else uses, not even another case.
    async fn open(&self) -> Arc<dyn IdentityStore>;

    /// Lets go of the store and opens the same data again; `None` for a store that keeps nothing.
    async fn reopen(&self, _store: Arc<dyn IdentityStore>) -> Option<Arc<dyn IdentityStore>> {
        None
    }

    /// Returns a tenant that is not used yet.
    fn tenant(&self) -> TenantId {
        fresh_tenant()
    }

    /// Runs a future to its end; several threads may ask at once. A backend that lives in a runtime enters it here, for example
    /// with `tokio::runtime::Handle::block_on` of a multi-threaded runtime.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

super::suite! {
    $
    /// Lists every promise of an identity store as a test; takes an expression that makes the harness.
    identity_store_conformance, identity_store, IdentityStoreHarness, Probe,
    [
        commit: identity_reads_what_was_written, identity_versions_guard, identity_commit_is_atomic,
            identity_races_have_one_winner, identity_activity_never_conflicts, identity_key_use_never_conflicts,
            identity_keyring_is_guarded, identity_session_comes_with_user_and_tenant, identity_sessions_can_be_deleted, identity_users_can_be_deleted,
            identity_survives_reopening;
        names: identity_names_are_unique, identity_names_race, identity_names_given_up_can_be_taken,
            identity_names_are_per_tenant, identity_api_key_ids_are_unique;
        listing: identity_lookups_answer_in_order, identity_users_are_paged, identity_users_are_searched_literally,
            identity_tenants_are_paged, identity_audit_is_newest_first, identity_foreign_user_is_absent;
        deletion: identity_gone_tenant_refuses, identity_deleted_tenant_is_gone, identity_delete_resumes,
            identity_purge_takes_what_expired;
    ]
}
