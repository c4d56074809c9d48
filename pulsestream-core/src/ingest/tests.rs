mod queue;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::env::{Env, ManualClock};
use crate::error::{Error, ErrorKind, FieldError, Result, Retry};
use crate::event::{BatchForm, Dialect, Event, JsonObject};
use crate::id::{EventId, TenantId};
use crate::memory::{MemoryEventStore, MemoryRateLimiter};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use crate::ports::rate_limiter::RateLimit;
use crate::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use crate::settings::IngestSettings;
use crate::time::Timestamp;

const TENANT: TenantId = TenantId::from_u128(1);
const OTHER: TenantId = TenantId::from_u128(2);

/// The memory store, which waits, fails or refuses when it is told to.
#[derive(Debug, Default)]
struct TestStore {
    inner: MemoryEventStore,
    held: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// After how many appends one fails.
    fail_after: Mutex<Option<usize>>,
    refused_id: Mutex<Option<EventId>>,
    /// An event for which the whole append is refused.
    poison: Mutex<Option<EventId>>,
}

#[async_trait]
impl EventStore for TestStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        std::future::poll_fn(
            |_| if self.held.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) },
        )
        .await;
        if let Some(error) = self.failure.lock().unwrap().take() {
            return Err(error);
        }
        let countdown = self.fail_after.lock().unwrap().take();
        match countdown {
            Some(0) => return Err(Error::new(ErrorKind::Unavailable, "test_store.append", "down")),
            Some(left) => *self.fail_after.lock().unwrap() = Some(left - 1),
            None => {}
        }
        let poison = self.poison.lock().unwrap().clone();
        if events.iter().any(|event| Some(&event.id) == poison.as_ref()) {
            return Err(Error::new(ErrorKind::Invalid, "test_store.append", "one of them is wrong"));
        }
        let refused = self.refused_id.lock().unwrap().clone();
        let place = events.iter().position(|event| Some(&event.id) == refused.as_ref());
        let mut events = events;
        if let Some(place) = place {
            events.remove(place);
        }
        let mut outcomes = self.inner.append(tenant, events, options).await?;
        if let Some(place) = place {
            let error = Error::new(ErrorKind::StorageFull, "test_store.append", "no room for this one");
            outcomes.insert(place, AppendOutcome::Refused(error));
        }
        Ok(outcomes)
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.inner.get(tenant, ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.inner.find(tenant, query).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.inner.aggregate(tenant, query).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.inner.scan(tenant, query).await
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.inner.tail(partition, after, options).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.inner.wait_for_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.inner.delete(tenant, selection).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.inner.retain(tenant, before).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

struct Fixture {
    service: IngestService,
    store: Arc<TestStore>,
    clock: Arc<ManualClock>,
    env: Env,
}

fn fixture(change: impl FnOnce(&mut IngestSettings)) -> Fixture {
    let (env, clock) = Env::manual("2026-01-31T12:00:00Z".parse().unwrap(), 1);
    let mut settings = IngestSettings::default();
    change(&mut settings);
    let store = Arc::new(TestStore::default());
    let limiter = Arc::new(MemoryRateLimiter::new(env.clone()));
    let service = IngestService::new(env.clone(), store.clone(), limiter, settings).unwrap();
    Fixture { service, store, clock, env }
}

impl Fixture {
    fn event(&self, id: &str) -> Event {
        Event::new(EventId::new(id).unwrap(), "order", self.env.now())
    }

    fn events(&self, prefix: &str, count: usize) -> Vec<Result<Event, Vec<FieldError>>> {
        (0..count).map(|index| Ok(self.event(&format!("{prefix}{index}")))).collect()
    }

    async fn batch(&self, prefix: &str, count: usize) -> Result<Vec<Result<Accepted>>> {
        self.service.ingest_batch(TENANT, self.events(prefix, count), IngestOptions::default()).await
    }

    fn refused(&self, reason: Refusal) -> u64 {
        self.service.counts().refused_for(reason)
    }

    async fn stored(&self, id: &str) -> bool {
        self.store.get(TENANT, &[EventId::new(id).unwrap()]).await.unwrap()[0].is_some()
    }
}

#[tokio::test]
async fn an_event_is_stored_once_and_its_repetition_is_no_error() {
    let fixture = fixture(|_| {});
    let first = fixture.service.ingest(TENANT, fixture.event("a"), IngestOptions::default()).await.unwrap();
    assert_eq!((first.id.as_str(), first.duplicate), ("a", false));
    assert!(fixture.stored("a").await);
    let again = fixture.service.ingest(TENANT, fixture.event("a"), IngestOptions::default()).await.unwrap();
    assert!(again.duplicate);
    let elsewhere =
        fixture.service.ingest(OTHER, fixture.event("a"), IngestOptions::default()).await.unwrap();
    assert!(!elsewhere.duplicate);
    let counts = fixture.service.counts();
    assert_eq!((counts.stored, counts.duplicates, counts.in_flight_events), (2, 1, 0));
}

#[tokio::test]
async fn refused_events_keep_their_places_and_do_not_affect_others() {
    let fixture = fixture(|_| {});
    let body = br#"[{"id":"a","event_type":"x"},{"id":"b"},{"id":"c","event_type":"x"},{"id":"a","event_type":"x"}]"#;
    let mut events =
        fixture.service.parser(Dialect::Strict).batch(body, BatchForm::Array).unwrap().events.into_inner();
    let mut late = fixture.event("d");
    late.metrics.status_code = Some(99);
    events.insert(0, Ok(late));
    *fixture.store.refused_id.lock().unwrap() = Some(EventId::new("c").unwrap());
    let outcomes = fixture.service.ingest_batch(TENANT, events, IngestOptions::default()).await.unwrap();
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(accepted) => format!("{} {}", accepted.id, accepted.duplicate),
            Err(error) => {
                format!("{} {}", error.kind(), error.fields().first().map_or("", |field| &field.pointer))
            }
        })
        .collect();
    assert_eq!(
        told,
        ["invalid /metrics/status_code", "a false", "invalid /event_type", "storage_full ", "a true"]
    );
    let counts = fixture.service.counts();
    assert_eq!((counts.stored, counts.duplicates), (1, 1));
    assert_eq!((fixture.refused(Refusal::Invalid), fixture.refused(Refusal::RefusedByStore)), (2, 1));
}

#[tokio::test]
async fn what_was_read_by_other_rules_is_checked_again() {
    let body = br#"[{"id":"a","event_type":"x","payload":{"k":"0123456789"}},{"id":"b"}]"#;
    let told = |outcomes: Vec<Result<Accepted>>| -> Vec<String> {
        let pointer = |error: crate::Error| error.fields()[0].pointer.clone();
        outcomes.into_iter().map(|one| one.map_or_else(pointer, |accepted| accepted.id.to_string())).collect()
    };
    let generous = fixture(|_| {});
    let read = || generous.service.parser(Dialect::Strict).batch(body, BatchForm::Array).unwrap().events;
    let outcomes = generous.service.ingest_parsed(TENANT, read(), IngestOptions::default()).await.unwrap();
    assert_eq!(told(outcomes), ["a", "/event_type"]);
    let strict = fixture(|settings| settings.max_payload_bytes = 10);
    let outcomes = strict.service.ingest_parsed(TENANT, read(), IngestOptions::default()).await.unwrap();
    assert_eq!(told(outcomes), ["/payload", "/event_type"]);
    let options = IngestOptions { dialect: Dialect::V1, ..IngestOptions::default() };
    let outcomes = generous.service.ingest_parsed(OTHER, read(), options).await.unwrap();
    assert_eq!(told(outcomes), ["/event_type", "/event_type"]);
    assert!(!strict.stored("a").await);
}

#[tokio::test]
async fn the_dialect_decides_about_rules_and_spelling() {
    let fixture = fixture(|settings| settings.max_payload_bytes = 20);
    let mut event = fixture.event("a");
    event.payload = JsonObject::parse(r#"{"k":"xxxxxxxxxxxxxxxxxxxxxxx"}"#).unwrap();
    let error = fixture.service.ingest(TENANT, event.clone(), IngestOptions::default()).await.unwrap_err();
    assert_eq!(error.fields()[0].pointer, "/payload");
    let options = IngestOptions { dialect: Dialect::V1, ..IngestOptions::default() };
    let error = fixture.service.ingest(TENANT, event, options).await.unwrap_err();
    let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/event_type", "/title", "/source/service", "/source/endpoint", "/source/method"]);
}

/// How many events a batch got stored, found stored already, and had refused; those come last, and are rate limited.
#[track_caller]
fn tally(outcomes: &[Result<Accepted>]) -> (usize, usize, usize) {
    let accepted = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    let refused = &outcomes[accepted..];
    for outcome in refused {
        assert_eq!(outcome.as_ref().unwrap_err().kind(), ErrorKind::RateLimited);
    }
    let is_duplicate = |outcome: &&Result<Accepted>| outcome.as_ref().unwrap().duplicate;
    let duplicates = outcomes[..accepted].iter().filter(is_duplicate).count();
    (accepted - duplicates, duplicates, refused.len())
}

#[tokio::test]
async fn a_batch_above_the_rate_is_accepted_in_order_as_far_as_the_rate_goes() {
    let fixture = fixture(|_| {});
    assert_eq!(tally(&fixture.batch("a", 150).await.unwrap()), (150, 0, 0));
    let outcomes = fixture.batch("b", 51).await.unwrap();
    assert_eq!(tally(&outcomes), (50, 0, 1));
    assert_eq!(outcomes[50].as_ref().unwrap_err().retry_after(), Some(Duration::from_millis(600)));
    assert!(fixture.stored("b49").await && !fixture.stored("b50").await);
    // With nothing left the batch is refused whole, and told when most of it fits.
    let error = fixture.batch("c", 1_000).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(120))));
    assert_eq!(fixture.refused(Refusal::RateLimited), 1_001);
    assert_eq!(fixture.service.rate_limit(TENANT, TenantLimits::default()).await.unwrap().remaining, 0);
    assert_eq!(fixture.service.rate_limit(OTHER, TenantLimits::default()).await.unwrap().remaining, 200);
    let counts = fixture.service.counts();
    assert_eq!((counts.stored, counts.in_flight_events), (200, 0));
}

#[tokio::test]
async fn sending_a_large_batch_again_and_again_gets_all_of_it_stored() {
    let fixture = fixture(|_| {});
    for (stored, duplicates) in [(200, 0), (200, 200), (200, 400), (200, 600), (200, 800)] {
        let outcomes = fixture.batch("a", 1_000).await.unwrap();
        assert_eq!(tally(&outcomes), (stored, duplicates, 1_000 - stored - duplicates));
        if let Err(error) = outcomes.last().unwrap() {
            fixture.clock.advance(error.retry_after().unwrap());
        }
    }
    assert_eq!(fixture.refused(Refusal::RateLimited), 800 + 600 + 400 + 200);
}

#[tokio::test]
async fn a_failure_in_the_middle_of_a_batch_is_told_of_the_events_that_it_kept_out() {
    let fixture = fixture(|_| {});
    assert_eq!(tally(&fixture.batch("a", 200).await.unwrap()), (200, 0, 0));
    fixture.clock.advance(Duration::from_secs(120));
    *fixture.store.fail_after.lock().unwrap() = Some(1);
    let outcomes = fixture.batch("a", 300).await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 200);
    assert!(outcomes[200..].iter().all(|it| it.as_ref().unwrap_err().kind() == ErrorKind::Unavailable));
    assert_eq!((outcomes.len(), fixture.refused(Refusal::Failed)), (300, 100));
}

#[tokio::test]
async fn a_tenant_may_have_limits_of_its_own() {
    let fixture = fixture(|settings| settings.max_events_per_month = Some(1));
    let limits = TenantLimits {
        rate_limit: Some(RateLimit::per_minute(1_000, 1_000).unwrap()),
        max_events_per_month: Some(500),
    };
    let options = IngestOptions { limits, ..IngestOptions::default() };
    let outcomes = fixture.service.ingest_batch(TENANT, fixture.events("a", 500), options).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(fixture.service.rate_limit(TENANT, limits).await.unwrap().remaining, 500);
    let error = fixture.service.ingest(TENANT, fixture.event("b"), options).await.unwrap_err();
    assert!(error.to_string().contains("max_events_per_month=`500`"), "{error}");
}

#[tokio::test]
async fn invalid_events_cost_nothing() {
    let fixture = fixture(|_| {});
    let refused = || (0..300).map(|_| Err(vec![FieldError::new("", "invalid_json", "no")])).collect();
    let outcomes = fixture.service.ingest_batch(TENANT, refused(), IngestOptions::default()).await.unwrap();
    assert_eq!((outcomes.len(), outcomes.iter().filter(|outcome| outcome.is_err()).count()), (300, 300));
    assert_eq!(fixture.batch("a", 200).await.unwrap().len(), 200);
    assert_eq!(fixture.batch("b", 0).await.unwrap().len(), 0);
}

#[tokio::test]
async fn batch_size_at_the_edge() {
    let fixture = fixture(|settings| {
        settings.max_batch_events = 5;
        settings.max_batch_events_v1 = 3;
    });
    assert_eq!(fixture.batch("a", 5).await.unwrap().len(), 5);
    assert_eq!(fixture.batch("b", 6).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let options = IngestOptions { dialect: Dialect::V1, ..IngestOptions::default() };
    assert!(fixture.service.ingest_batch(TENANT, fixture.events("c", 3), options).await.is_ok());
    assert!(fixture.service.ingest_batch(TENANT, fixture.events("d", 4), options).await.is_err());
}

#[tokio::test]
async fn the_quota_of_a_month_holds_across_restarts_and_ends_with_the_month() {
    let fixture = fixture(|settings| settings.max_events_per_month = Some(10));
    assert_eq!(fixture.batch("a", 6).await.unwrap().len(), 6);
    // Six that are there already are set aside and given back.
    assert!(fixture.batch("a", 4).await.unwrap().iter().all(|outcome| outcome.as_ref().unwrap().duplicate));
    let outcomes = fixture.batch("b", 5).await.unwrap();
    assert_eq!(tally(&outcomes), (4, 0, 1));
    assert_eq!(outcomes[4].as_ref().unwrap_err().retry_after(), Some(Duration::from_secs(43_200)));
    assert_eq!(fixture.refused(Refusal::QuotaExceeded), 1);
    assert_eq!(fixture.batch("c", 5).await.unwrap_err().kind(), ErrorKind::RateLimited);
    assert_eq!(fixture.refused(Refusal::QuotaExceeded), 6);
    // Another node, or this one after a restart, counts what is stored.
    let limiter = Arc::new(MemoryRateLimiter::new(fixture.env.clone()));
    let settings = IngestSettings { max_events_per_month: Some(10), ..IngestSettings::default() };
    let again = IngestService::new(fixture.env.clone(), fixture.store.clone(), limiter, settings).unwrap();
    assert!(again.ingest(TENANT, fixture.event("c"), IngestOptions::default()).await.is_err());
    assert!(again.ingest(OTHER, fixture.event("c"), IngestOptions::default()).await.is_ok());
    fixture.clock.advance(Duration::from_secs(43_200));
    assert!(again.ingest(TENANT, fixture.event("c"), IngestOptions::default()).await.is_ok());
}

#[tokio::test]
async fn what_others_store_counts_after_a_minute_and_a_failed_append_is_given_back() {
    let fixture = fixture(|settings| settings.max_events_per_month = Some(10));
    *fixture.store.failure.lock().unwrap() = Some(Error::new(ErrorKind::Unavailable, "test", "down"));
    assert_eq!(fixture.batch("a", 10).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.refused(Refusal::Failed), 10);
    assert_eq!(fixture.batch("a", 5).await.unwrap().len(), 5);
    let elsewhere = (0..5).map(|index| fixture.event(&format!("x{index}"))).collect();
    fixture.store.append(TENANT, elsewhere, AppendOptions::default()).await.unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(fixture.batch("b", 1).await.unwrap_err().kind(), ErrorKind::RateLimited);
}

#[test]
fn what_is_in_flight_is_bounded_and_a_dropped_call_gives_its_place_back() {
    let fixture = fixture(|settings| {
        settings.max_in_flight_events = 10;
        settings.max_batch_events = 10;
    });
    fixture.store.held.store(true, Ordering::SeqCst);
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut held = pin!(fixture.batch("a", 7));
        assert!(held.as_mut().poll(&mut context).is_pending());
        assert_eq!(fixture.service.counts().in_flight_events, 7);
        assert!(fixture.service.counts().in_flight_bytes >= 7 * size_of::<Event>());
        let Poll::Ready(Err(error)) = pin!(fixture.batch("b", 4)).poll(&mut context) else {
            panic!("the second batch was let in")
        };
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::After(Duration::from_secs(1)))
        );
        assert!(pin!(fixture.batch("c", 3)).poll(&mut context).is_pending());
    }
    assert_eq!(fixture.refused(Refusal::Overloaded), 4);
    let counts = fixture.service.counts();
    assert_eq!((counts.in_flight_events, counts.in_flight_bytes), (0, 0));
    fixture.store.held.store(false, Ordering::SeqCst);
    assert!(pin!(fixture.batch("d", 10)).poll(&mut context).is_ready());
}

#[test]
fn counts_have_a_stable_form() {
    let fixture = fixture(|_| {});
    insta::assert_json_snapshot!(fixture.service.counts(), @r#"
    {
      "stored": 0,
      "duplicates": 0,
      "queued": 0,
      "refused": {
        "invalid": 0,
        "too_large": 0,
        "rate_limited": 0,
        "quota_exceeded": 0,
        "overloaded": 0,
        "refused_by_store": 0,
        "failed": 0
      },
      "in_flight_events": 0,
      "in_flight_bytes": 0
    }
    "#);
}
