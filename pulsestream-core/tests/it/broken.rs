//! Proof that the suite can fail: stores that each break one promise, and the cases that must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::memory::MemoryEventStore;
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use pulsestream_core::query::{
    AggregateQuery, AggregateTable, Bucket, FindPage, FindQuery, Measure, Order, ScanQuery,
};
use pulsestream_core::testkit::{EventStoreHarness, event_store};
use pulsestream_core::time::Timestamp;

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsTheTenant,
    AnswersStoredToDuplicates,
    ReturnsPagesBackwards,
    IgnoresTheFilterOfFind,
    RepeatsTheLastOfAPage,
    AlwaysHasANextPage,
    CutsBucketsInUtc,
    CountsErrorsAsNone,
    IgnoresTheLimitOfGroups,
    SkipsInTheTail,
    RepeatsInTheTail,
    IgnoresWhoIsWantedInTheTail,
    RetainsOneMicrosecondTooMuch,
    DeletesTooMuch,
    DeletesNothing,
    AcceptsAnyDurability,
    StaysOpen,
    LosesTheMetadata,
}

#[derive(Debug)]
struct Broken {
    inner: MemoryEventStore,
    fault: Fault,
}

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn tenant(&self, tenant: TenantId) -> TenantId {
        if self.is(Fault::ForgetsTheTenant) { TenantId::from_u128(0) } else { tenant }
    }
}

#[async_trait]
impl EventStore for Broken {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        mut events: Vec<Event>,
        mut options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        if self.is(Fault::AcceptsAnyDurability) {
            options.durability = None;
        }
        if self.is(Fault::LosesTheMetadata) {
            events.iter_mut().for_each(|event| event.metadata = Default::default());
        }
        let mut outcomes = self.inner.append(self.tenant(tenant), events, options).await?;
        if self.is(Fault::AnswersStoredToDuplicates) {
            outcomes.iter_mut().for_each(|outcome| *outcome = AppendOutcome::Stored);
        }
        Ok(outcomes)
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.inner.get(self.tenant(tenant), ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        let mut query = query.clone();
        if self.is(Fault::IgnoresTheFilterOfFind) {
            query.filter = None;
        }
        if self.is(Fault::ReturnsPagesBackwards) {
            query.order = match query.order {
                Order::NewestFirst => Order::OldestFirst,
                Order::OldestFirst => Order::NewestFirst,
            };
        }
        let mut page = self.inner.find(self.tenant(tenant), &query).await?;
        let last = page.events.last().cloned();
        if self.is(Fault::RepeatsTheLastOfAPage)
            && let Some(next) = &mut page.next
            && let [.., before, _] = page.events.as_slice()
        {
            (next.timestamp, next.id) = (before.timestamp, before.id.clone());
        }
        if self.is(Fault::AlwaysHasANextPage)
            && let Some(last) = last
        {
            let (timestamp, id) = (last.timestamp, last.id);
            page.next = Some(pulsestream_core::query::Cursor { timestamp, id });
        }
        Ok(page)
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        let mut query = query.clone();
        if self.is(Fault::CutsBucketsInUtc)
            && let Some(Bucket::Calendar { time_zone, .. }) = &mut query.bucket
        {
            *time_zone = pulsestream_core::query::TimeZoneName::utc();
        }
        if self.is(Fault::IgnoresTheLimitOfGroups) {
            query.max_groups = usize::MAX;
        }
        let mut table = self.inner.aggregate(self.tenant(tenant), &query).await?;
        if self.is(Fault::CountsErrorsAsNone)
            && let Some(index) = query.measures.iter().position(|measure| *measure == Measure::ErrorRate)
        {
            table.rows.iter_mut().for_each(|row| row.values[index] = Some(0.0));
        }
        Ok(table)
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.inner.scan(self.tenant(tenant), query).await
    }

    async fn tail(
        &self,
        partition: Partition,
        after: Position,
        mut options: TailOptions,
    ) -> Result<TailBatch> {
        if self.is(Fault::IgnoresWhoIsWantedInTheTail) {
            options.tenants = None;
        }
        let mut batch = self.inner.tail(partition, after, options).await?;
        if self.is(Fault::SkipsInTheTail) && batch.events.len() > 1 {
            batch.events.remove(0);
        }
        if self.is(Fault::RepeatsInTheTail)
            && let [.., before, _] = batch.events.as_slice()
        {
            batch.next = before.position;
        }
        Ok(batch)
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.inner.wait_for_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        match selection {
            DeleteSelection::Ids(ids) if self.is(Fault::DeletesNothing) => Ok(ids.len() as u64),
            DeleteSelection::Matching { range, .. } if self.is(Fault::DeletesTooMuch) => {
                let everything = DeleteSelection::Matching { range: *range, filter: None };
                self.inner.delete(tenant, &everything).await
            }
            selection => self.inner.delete(self.tenant(tenant), selection).await,
        }
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let offset = i64::from(self.is(Fault::RetainsOneMicrosecondTooMuch));
        let before = Timestamp::from_micros(before.as_micros() - offset);
        self.inner.retain(self.tenant(tenant), before).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        if self.is(Fault::StaysOpen) { Ok(()) } else { self.inner.close().await }
    }
}

#[derive(Debug)]
struct Harness(Fault);

#[async_trait]
impl EventStoreHarness for Harness {
    async fn open(&self) -> Arc<dyn EventStore> {
        Arc::new(Broken { inner: MemoryEventStore::new(), fault: self.0 })
    }
}

fn fails(fault: Fault, name: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| event_store::run(name, Arc::new(Harness(fault))))).is_err()
}

fn assert_noticed(fault: Fault, by: &[&str]) {
    for name in by {
        assert!(fails(fault, name), "{fault:?} is not noticed by {name}");
    }
}

#[test]
fn the_wrapper_itself_breaks_nothing() {
    let names = event_store::cases().iter().map(|case| case.name);
    let failing: Vec<&str> = names.filter(|name| fails(Fault::None, name)).collect();
    assert!(failing.is_empty(), "{failing:?}");
}

#[test]
fn a_forgotten_tenant_is_noticed() {
    let by = [
        "append_same_id_for_two_tenants",
        "get_is_isolated",
        "isolation_of_find",
        "isolation_of_aggregate",
        "isolation_of_scan",
        "delete_is_isolated",
        "isolation_of_retain",
        "tail_partitions_by_tenant",
    ];
    assert_noticed(Fault::ForgetsTheTenant, &by);
}

#[test]
fn wrong_outcomes_of_append_are_noticed() {
    let by = [
        "append_same_id_twice",
        "append_same_id_in_one_batch",
        "append_races_store_once",
        "append_answers_in_order",
    ];
    assert_noticed(Fault::AnswersStoredToDuplicates, &by);
    let by = ["append_refuses_stronger_durability"];
    assert_noticed(Fault::AcceptsAnyDurability, &by);
    assert_noticed(Fault::LosesTheMetadata, &["get_returns_what_was_appended", "filter_metadata"]);
}

#[test]
fn wrong_pages_are_noticed() {
    let by = ["find_orders_newest_first", "find_orders_oldest_first", "find_orders_ties_by_id"];
    assert_noticed(Fault::ReturnsPagesBackwards, &by);
    assert_noticed(
        Fault::IgnoresTheFilterOfFind,
        &["filter_equals_text", "filter_connectives", "filter_tags"],
    );
    assert_noticed(Fault::RepeatsTheLastOfAPage, &["find_pages_are_complete", "find_pages_under_inserts"]);
    assert_noticed(Fault::AlwaysHasANextPage, &["find_last_page_has_no_next"]);
}

#[test]
fn wrong_aggregates_are_noticed() {
    let by = [
        "bucket_days_across_spring",
        "bucket_days_across_autumn",
        "bucket_weeks",
        "aggregate_equals_reference",
    ];
    assert_noticed(Fault::CutsBucketsInUtc, &by);
    assert_noticed(Fault::CountsErrorsAsNone, &["aggregate_error_rate", "aggregate_equals_reference"]);
    assert_noticed(Fault::IgnoresTheLimitOfGroups, &["aggregate_refuses_too_many_groups"]);
}

#[test]
fn a_wrong_tail_is_noticed() {
    let by = ["tail_has_no_gaps_or_repeats", "tail_replays", "tail_carries_whole_events"];
    assert_noticed(Fault::SkipsInTheTail, &by);
    assert_noticed(Fault::RepeatsInTheTail, &["tail_has_no_gaps_or_repeats"]);
    assert_noticed(Fault::IgnoresWhoIsWantedInTheTail, &["tail_of_some_tenants"]);
}

#[test]
fn wrong_deletion_and_closing_are_noticed() {
    assert_noticed(Fault::RetainsOneMicrosecondTooMuch, &["retain_cuts_exactly"]);
    assert_noticed(Fault::DeletesTooMuch, &["delete_by_filter", "delete_by_range"]);
    assert_noticed(Fault::DeletesNothing, &["delete_is_visible_at_once", "delete_counts_what_was_there"]);
    assert_noticed(Fault::StaysOpen, &["closed_store_refuses"]);
}

/// The random operations find most faults as well, without knowing what they look for.
#[test]
fn the_model_notices_faults() {
    let faults = [
        Fault::AnswersStoredToDuplicates,
        Fault::ReturnsPagesBackwards,
        Fault::IgnoresTheFilterOfFind,
        Fault::RepeatsTheLastOfAPage,
        Fault::AlwaysHasANextPage,
        Fault::CutsBucketsInUtc,
        Fault::CountsErrorsAsNone,
        Fault::IgnoresTheLimitOfGroups,
        Fault::SkipsInTheTail,
        Fault::DeletesTooMuch,
        Fault::DeletesNothing,
        Fault::LosesTheMetadata,
    ];
    for fault in faults {
        assert_noticed(fault, &["model_agrees"]);
    }
}
