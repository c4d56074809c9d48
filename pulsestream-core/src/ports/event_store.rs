//! The event store port: the durable log of a tenant's events, and questions to it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::filter::Filter;
use crate::id::{EventId, TenantId};
use crate::query::{AggregateQuery, AggregateTable, ColumnBatch, FindPage, FindQuery, ScanQuery};
use crate::time::{TimeRange, Timestamp};

/// What an acknowledgement means, from weak to strong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In memory only: gone when the process ends.
    Accepted,
    /// Survives the end of the process, not the loss of power.
    Written,
    /// Survives the crash of the operating system and the loss of power.
    #[default]
    Durable,
    /// On a second machine as well.
    Replicated,
}

/// How many partitions the tenants of a store are spread over; fixed, because checkpoints name them.
pub const PARTITIONS: u16 = 16;

/// A share of the tenants, the unit in which processors work; 0 to [`PARTITIONS`] - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(u16);

impl Partition {
    /// Returns the partition of a tenant: the top bits of a multiplicative hash of its id.
    #[allow(clippy::cast_possible_truncation, reason = "the modulus is below 2^16")]
    pub const fn of(tenant: TenantId) -> Self {
        let folded = (tenant.as_u128() >> 64) as u64 ^ tenant.as_u128() as u64;
        Self(((folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % PARTITIONS as u64) as u16)
    }

    /// Returns the partition with this number, when there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < PARTITIONS { Some(Self(number)) } else { None }
    }

    /// Returns all partitions.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// Returns its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A place in the log of a store. Positions of one partition ascend in the order in which `tail` delivers; the bits mean
/// something to the store only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u128);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bits = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| {
            Error::invalid("position.parse", "", "invalid_position", "a position has 32 hexadecimal digits")
        })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// How to append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// What the acknowledgement must mean; `None` takes the store's own class.
    pub durability: Option<Durability>,
}

/// What became of one event of an append.
#[derive(Debug)]
pub enum AppendOutcome {
    /// It is stored.
    Stored,
    /// An event with its id was there already; nothing changed.
    Duplicate,
    /// The store cannot hold it; the others are not affected.
    Refused(Error),
}

/// How to read the tail of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailOptions {
    /// How many events at most, at least 1.
    pub limit: usize,
    /// Whose events are wanted; `None` for everybody's. It saves a store the work of reading the others.
    pub tenants: Option<Arc<BTreeSet<TenantId>>>,
}

impl TailOptions {
    /// Returns whether the events of a tenant are wanted.
    pub fn wants(&self, tenant: TenantId) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(&tenant))
    }
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { limit: 1_000, tenants: None }
    }
}

/// One event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct TailedEvent {
    /// Whose event it is.
    pub tenant: TenantId,
    /// Its place in the log.
    pub position: Position,
    /// The event.
    pub event: Event,
}

/// Events of a partition, in the order of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct TailBatch {
    /// The events after the position asked.
    pub events: Vec<TailedEvent>,
    /// Where to continue; may lie beyond the last event when others were deleted.
    pub next: Position,
    /// Whether there was nothing more at the time of reading.
    pub caught_up: bool,
}

/// What to delete.
#[derive(Debug, Clone, PartialEq)]
pub enum DeleteSelection {
    /// The events with these ids; unknown ids are passed over.
    Ids(Vec<EventId>),
    /// The events that match, all of them in the range.
    Matching {
        /// When they happened.
        range: TimeRange,
        /// What they match; `None` matches all.
        filter: Option<Filter>,
    },
}

/// What a store can do, so that nobody has to find out by failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventStoreCapabilities {
    /// The strongest durability it gives.
    pub durability: Durability,
    /// Whether events survive `close` and reopening.
    pub persistent: bool,
    /// Whether several processes may use the same data at once.
    pub shared: bool,
}

/// In which way a store works less well than it should, while it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Impairment {
    /// Its name for machines, in snake case.
    pub code: &'static str,
    /// What is the matter.
    pub cause: String,
    /// What helps.
    pub remedy: String,
}

/// The state of a store, for health checks and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// Which store this is, for example `memory`.
    pub backend: &'static str,
    /// The durability in force for an append without options.
    pub durability: Durability,
    /// Whether appends are accepted.
    pub writable: bool,
    /// Events held, when cheap to know.
    pub events: Option<u64>,
    /// Bytes held on disk or in memory, when cheap to know.
    pub bytes: Option<u64>,
    /// What is slow or missing now, although the store goes on.
    pub impairments: Vec<Impairment>,
    /// Named facts for people, for example a recovery that cut a torn tail.
    pub details: Vec<(&'static str, String)>,
}

/// Reads the batches of a scan one after the other.
#[async_trait]
pub trait EventScan: fmt::Debug + Send {
    /// Returns the next batch, `None` after the last.
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>>;
}

/// Stores the events of all tenants and answers questions about one tenant at a time.
///
/// Identity of an event is `(tenant, id)`. Random operations have the answers that the memory store gives (`model_agrees`,
/// `model_agrees_for_long`).
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Returns what this store can do.
    fn capabilities(&self) -> EventStoreCapabilities;

    /// Appends events, one outcome for each in the same order.
    ///
    /// # Contract
    /// - Appending the same id again stores nothing and answers `Duplicate`: in the same batch, later, in a race
    ///   (`append_same_id_twice`, `append_same_id_in_one_batch`, `append_races_store_once`).
    /// - Two tenants may use the same id (`append_same_id_for_two_tenants`).
    /// - What was acknowledged is found by the next call of any method (`append_then_read`).
    /// - Outcomes stand in the order of the events, and a duplicate leaves the first event as it is
    ///   (`append_answers_in_order`, `append_duplicate_keeps_the_first`).
    /// - Ids are bytes: no folding, no trimming, up to the longest (`append_ids_are_bytes`, `append_longest_ids`).
    /// - A durability that the store cannot give is refused with `Unsupported` (`append_refuses_stronger_durability`).
    /// - An error of the whole call means that nothing is known of any event: appending again with the same ids is safe.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each event stored or not stored, and the store usable (`append_dropped_midway`).
    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>>;

    /// Returns the events with these ids, in the same order, `None` where there is none.
    ///
    /// # Contract
    /// - An event comes back equal to what was appended (`get_returns_what_was_appended`, `get_*`, `json_*`).
    /// - Ids of another tenant are unknown ids (`get_is_isolated`).
    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>>;

    /// Finds events, a page at a time.
    ///
    /// # Contract
    /// - Order is by timestamp, then by the bytes of the id, both in the direction asked (`find_orders_newest_first`,
    ///   `find_orders_oldest_first`, `find_orders_ties_by_id`).
    /// - Following `next` visits every event that was there at the start once, also while others are appended
    ///   (`find_pages_are_complete`, `find_pages_under_inserts`).
    /// - A filter selects what [`Filter::matches`] selects (`filter_*`).
    /// - `next` is there exactly when a match follows the page (`find_last_page_has_no_next`), and `after` may name an event that
    ///   is not there (`find_cursor_of_an_absent_event`).
    /// - `limit` 0 is refused with `Invalid` (`find_refuses_limit_zero`).
    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage>;

    /// Measures events in groups and buckets.
    ///
    /// # Contract
    /// - Equals the reference evaluation of the memory backend; sums may differ in the last bits, because the order of
    ///   addition is open (`aggregate_*`, `bucket_*`).
    /// - What [`AggregateQuery::validate`] refuses is refused (`aggregate_refuses_invalid`).
    /// - More groups than `max_groups` fail with `TooLarge` (`aggregate_refuses_too_many_groups`).
    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable>;

    /// Starts to read projected columns.
    ///
    /// # Contract
    /// - Rows ascend by (timestamp, id); each match comes once (`scan_is_ordered_and_complete`).
    /// - A value is what [`FieldPath::value`](crate::event::FieldPath::value) finds, in its own type (`scan_keeps_types`).
    /// - What [`ScanQuery::validate`] refuses is refused (`limits_of_scan`).
    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>>;

    /// Reads the log of a partition after a position: the one method that spans tenants, for processors only.
    ///
    /// # Contract
    /// - Every acknowledged event comes exactly once to a reader that continues at `next`, whatever is appended
    ///   meanwhile and whatever its timestamp (`tail_has_no_gaps_or_repeats`, `tail_under_concurrent_appends`).
    /// - Events come under the tenant that appended them, in the partition of that tenant (`tail_partitions_by_tenant`).
    /// - Reading again from an older position delivers the same events again, less the deleted (`tail_replays`).
    /// - Appends that were acknowledged one after the other stand in this order (`tail_follows_acknowledgements`).
    /// - With `tenants` each event of those comes as it does without, none of others does, and `next` moves on past them
    ///   (`tail_of_some_tenants`).
    /// - `limit` 0 is refused with `Invalid` (`limits_of_tail`).
    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch>;

    /// Completes once the partition may hold events after a position, or the store is closed; it may complete too early, never
    /// too late. A caller that wants a deadline adds one.
    ///
    /// # Contract
    /// - An append after the call wakes the waiting future (`tail_wakes_after_append`, `tail_wakes_across_threads`).
    /// - Closing wakes it too (`close_wakes_waiters`); a call on a closed store fails with `Closed`.
    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()>;

    /// Deletes events and returns how many. Their ids may be used again.
    ///
    /// # Contract
    /// - What was deleted is gone from every answer at once (`delete_is_visible_at_once`).
    /// - Each event is counted once, also in a race (`delete_counts_what_was_there`, `delete_races_count_once`).
    /// - A deleted id is new again, and comes again to a reader of the log (`delete_frees_the_id`,
    ///   `tail_delivers_a_reused_id_again`).
    /// - Another tenant's events stay (`delete_is_isolated`).
    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64>;

    /// Deletes the events that happened before `before`, at the latest when the call returns, and returns how many.
    ///
    /// # Contract
    /// - None that is older stays, none that is not older goes (`retain_cuts_exactly`).
    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64>;

    /// Looks at the store itself and at what it depends on.
    async fn check(&self) -> Result<StoreStatus>;

    /// Finishes what was acknowledged and releases everything; later calls fail with `Closed`.
    ///
    /// # Contract
    /// - Closing twice is fine (`close_twice`), a call after it fails with `Closed` (`closed_store_refuses`).
    /// - A persistent store has everything when it is opened again (`reopen_keeps_everything`).
    async fn close(&self) -> Result<()>;
}
