//! What every [`AlertStore`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::alert_store::AlertStore;
use crate::ports::outbox::Outbox;

mod alerts;
mod changes;
mod commit;
mod documents;
mod erase;
mod probe;
mod query;

pub use probe::Probe;
pub(super) use probe::{at, delivery};

/// What the suite needs to know about a store.
#[async_trait]
pub trait AlertStoreHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty store that nobody else uses, not even another case, with the outbox of its commits.
    async fn open(&self) -> (Arc<dyn AlertStore>, Arc<dyn Outbox>);

    /// Lets go of the store and opens the same data again; `None` for a store that keeps nothing.
    async fn reopen(
        &self,
        _store: (Arc<dyn AlertStore>, Arc<dyn Outbox>),
    ) -> Option<(Arc<dyn AlertStore>, Arc<dyn Outbox>)> {
        None
    }

    /// Returns a tenant that is not used yet; a store that knows its tenants makes it.
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
    /// Lists every promise of an alert store as a test; takes an expression that makes the harness.
    alert_store_conformance, alert_store, AlertStoreHarness, Probe,
    [
        documents: rules_conflict_on_version, rules_conflict_on_name, rules_replace_needs_one, rules_are_isolated,
            rules_names_given_up_can_be_taken, rules_pages_are_complete, rules_race_has_one_winner,
            deletes_conflict_on_version, documents_read_what_was_written, config_is_complete, revision_ascends;
        changes: changes_tell_who_and_what, changes_have_pages, changes_are_pruned, changes_are_isolated;
        query: alerts_query_conditions, alerts_query_labels, alerts_query_range, alerts_query_unfired,
            alerts_query_counts_all, alerts_pages_are_complete;
        alerts: alerts_actions_survive_the_engine, alerts_actions_race_the_engine, alerts_are_counted,
            alerts_are_isolated, alerts_are_pruned, timeline_counts_once, timeline_keeps_the_latest;
        commit: commit_refuses_old_tokens, commit_is_compare_and_set, commit_twice_is_once, commit_is_atomic,
            commit_makes_alerts_timelines_and_deliveries, commit_processors_are_apart, commit_races_have_one_winner,
            commit_survives_reopening;
        erase: erase_leaves_nothing, erase_outlasts_commits;
    ]
}
