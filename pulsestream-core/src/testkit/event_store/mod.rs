//! What every [`EventStore`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::model;
use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::event_store::EventStore;

mod aggregate;
mod append;
mod bucket;
mod close;
mod delete;
mod filter;
mod filter_path;
mod find;
mod get;
mod group;
mod isolation;
mod json;
mod limits;
mod probe;
mod scan;
mod tail;

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

    /// Ends the store without closing it, as a kill or a loss of power does, and opens what is left; `None` when the harness cannot.
    async fn crash(&self, _store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
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
        find: find_orders_newest_first, find_orders_oldest_first, find_orders_ties_by_id,
            find_pages_are_complete,
            find_pages_under_inserts, find_pages_with_a_filter, find_pages_after_deletion, find_refuses_limit_zero,
            find_range_is_half_open, find_empty_range, find_counts_all_matches, find_skips, find_last_page_has_no_next,
            find_cursor_of_an_absent_event, find_in_an_empty_store;
        filter: filter_equals_text, filter_compares_text_by_bytes, filter_numbers, filter_booleans,
            filter_severity,
            filter_in_lists, filter_exists, filter_not_equal_is_negation, filter_never_converts_types,
            filter_contains_is_literal, filter_hostile_texts_are_only_texts, filter_starts_and_ends_literally, filter_matches_is_a_regex, filter_free_text,
            filter_connectives, filter_unicode, filter_big_in_list, filter_integers_up_to_2_53;
        filter_path: filter_tags, filter_payload_paths, filter_quoted_keys, filter_array_elements,
            filter_metadata,
            filter_every_fixed_field;
        isolation: isolation_of_find, isolation_of_aggregate, isolation_of_scan, delete_is_isolated,
            isolation_of_retain, isolation_of_get_after_delete;
        aggregate: aggregate_over_nothing, aggregate_counts, aggregate_sum_avg_min_max,
            aggregate_beyond_the_largest_double, aggregate_of_no_numbers_is_null, aggregate_fixed_fields, aggregate_count_distinct,
            aggregate_percentiles_interpolate, aggregate_percentiles_with_ties,
            aggregate_percentiles_of_one_value, aggregate_rate, aggregate_error_rate,
            aggregate_filters_and_cuts, aggregate_refuses_invalid, aggregate_sums_precisely,
            aggregate_approximately, aggregate_equals_reference;
        group: aggregate_groups_by_type, aggregate_groups_missing_together, aggregate_groups_by_severity,
            aggregate_groups_by_three_paths, aggregate_own_fields, aggregate_orders_by_measure,
            aggregate_orders_by_place, aggregate_limits_rows, aggregate_refuses_too_many_groups;
        bucket: bucket_fixed, bucket_before_1970, bucket_days, bucket_days_across_spring,
            bucket_days_across_autumn, bucket_days_of_odd_offsets, bucket_weeks, bucket_months,
            bucket_day_without_midnight, bucket_starts_before_the_range;
        scan: scan_is_ordered_and_complete, scan_without_columns, scan_filters_and_cuts, scan_keeps_types,
            scan_every_field, scan_realistic_events;
        tail: tail_has_no_gaps_or_repeats, tail_follows_acknowledgements, tail_under_concurrent_appends,
            tail_partitions_by_tenant, tail_of_some_tenants, tail_carries_whole_events, tail_replays,
            tail_positions_have_a_text_form, tail_of_an_empty_partition, tail_omits_duplicates,
            tail_delivers_a_reused_id_again, tail_wakes_after_append, tail_wakes_across_threads,
            tail_wait_ends_at_once_when_behind;
        delete: delete_is_visible_at_once, delete_counts_what_was_there, delete_by_filter, delete_by_range,
            delete_everything, delete_frees_the_id, delete_races_count_once, retain_cuts_exactly,
            retain_extremes;
        json: json_nested_deep, json_escapes, json_control_characters, json_long_numbers, json_keys,
            json_empty_containers, json_big;
        limits: limits_of_scan, limits_of_tail, limits_of_find, limits_of_filters;
        close: close_twice, closed_store_refuses, close_wakes_waiters, reopen_keeps_everything;
        model: model_agrees, model_agrees_for_long;
    ]
}
