//! What every [`EventStore`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::event_store::EventStore;

mod append;
mod filter;
mod find;
mod get;
mod isolation;
mod probe;

pub use probe::Probe;

/// What the suite needs to know about a store.
#[async_trait]
pub trait EventStoreHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty store that nobody else uses, not even another case.
    async fn open(&self) -> Arc<dyn EventStore>;

    /// Closes the store and opens the same data again; must answer when `capabilities().persistent`.
    async fn reopen(&self, _store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
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

/// Runs the case with this name.
///
/// # Panics
/// When the store breaks the promise, or there is no such case.
pub fn run(name: &str, harness: Arc<dyn EventStoreHarness>) {
    let case = cases().iter().find(|case| case.name == name).expect("the name comes from the list of cases");
    harness.block_on((case.run)(harness.clone()));
}

super::suite! {
    $
    /// Lists every promise of an event store as a test; takes an expression that makes the harness.
    event_store_conformance, event_store, EventStoreHarness, Probe,
    [
        append: append_nothing, append_same_id_twice, append_same_id_in_one_batch, append_races_store_once,
            append_same_id_for_two_tenants, append_then_read, append_refuses_stronger_durability,
            append_accepts_own_and_weaker_durability, append_answers_in_order, append_duplicate_keeps_the_first,
            append_big_batch, append_longest_ids, append_ids_are_bytes, append_extreme_timestamps,
            append_concurrently_keeps_all, append_dropped_midway;
        get: get_returns_what_was_appended, get_keeps_order_and_repeats, get_nothing, get_is_isolated,
            get_tells_empty_from_absent, get_text_corners, get_number_corners;
        find: find_orders_newest_first, find_orders_oldest_first, find_orders_ties_by_id, find_pages_are_complete,
            find_pages_under_inserts, find_pages_with_a_filter, find_pages_after_deletion, find_refuses_limit_zero,
            find_range_is_half_open, find_empty_range, find_counts_all_matches, find_skips, find_last_page_has_no_next,
            find_cursor_of_an_absent_event, find_in_an_empty_store;
        filter: filter_equals_text, filter_compares_text_by_bytes, filter_numbers, filter_booleans, filter_severity,
            filter_in_lists, filter_exists, filter_not_equal_is_negation, filter_never_converts_types,
            filter_contains_is_literal, filter_starts_and_ends_literally, filter_matches_is_a_regex, filter_free_text,
            filter_connectives, filter_tags, filter_payload_paths, filter_quoted_keys, filter_array_elements,
            filter_metadata, filter_unicode, filter_every_fixed_field, filter_big_in_list, filter_integers_up_to_2_53;
        isolation: isolation_of_find, isolation_of_aggregate, isolation_of_scan, delete_is_isolated,
            isolation_of_retain, isolation_of_get_after_delete;
    ]
}
