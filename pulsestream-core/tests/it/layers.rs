//! Layers over the memory store: the whole suite, and what they do with each kind of failure.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::layers::{RetryLayer, RetrySettings, TimeoutLayer, TimeoutSettings};
use pulsestream_core::memory::MemoryEventStore;
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, DeleteSelection, EventStore};
use pulsestream_core::query::{FindQuery, ScanQuery};
use pulsestream_core::testkit::{
    EventStoreCall, EventStoreHarness, FlakyEventStore, Intercept, InterceptedEventStore, Interception,
    TestTimer, block_on,
};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result, Retry};

fn env() -> Env {
    Env::manual(Timestamp::from_seconds(1_800_000_000), 1).0
}

/// Deadlines around retries around a store that fails two calls of three.
#[derive(Debug)]
struct Layered;

#[async_trait]
impl EventStoreHarness for Layered {
    async fn open(&self) -> Arc<dyn EventStore> {
        let flaky = FlakyEventStore::new(Arc::new(MemoryEventStore::new()), 3);
        // Concurrent callers take each other's successes, so a few attempts more than three.
        let settings = RetrySettings { attempts: 100, ..RetrySettings::default() };
        let retry =
            RetryLayer::new(Arc::new(flaky), Arc::new(TestTimer::instant()), env(), settings).unwrap();
        let timer = Arc::new(TestTimer::standing_still());
        Arc::new(TimeoutLayer::new(Arc::new(retry), timer, TimeoutSettings::default()).unwrap())
    }
}

pulsestream_core::event_store_conformance!(Layered);

/// A store that does what the script says, call by call, and works after its end.
type Scripted = InterceptedEventStore<Script>;

#[derive(Debug)]
struct Script {
    left: Mutex<Vec<Interception>>,
    calls: AtomicUsize,
}

#[async_trait]
impl Intercept for Script {
    async fn intercept(&self, _call: EventStoreCall) -> Interception {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.left.lock().unwrap().pop().unwrap_or(Interception::Pass)
    }
}

impl Script {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn next(&self, interception: Interception) {
        self.left.lock().unwrap().push(interception);
    }
}

fn scripted(script: impl IntoIterator<Item = Interception>) -> Arc<Scripted> {
    let mut left: Vec<Interception> = script.into_iter().collect();
    left.reverse();
    let script = Script { left: Mutex::new(left), calls: AtomicUsize::new(0) };
    Arc::new(InterceptedEventStore::around(Arc::new(MemoryEventStore::new()), script))
}

fn tenant() -> TenantId {
    TenantId::from_name("layers")
}

fn event() -> Event {
    Event::new(EventId::new("e1").unwrap(), "order", Timestamp::from_seconds(1_700_000_000))
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "test", "as the script says")
}

fn retrying(store: &Arc<Scripted>) -> (RetryLayer, Arc<TestTimer>) {
    let timer = Arc::new(TestTimer::instant());
    let inner = Arc::clone(store) as Arc<dyn EventStore>;
    let settings = RetrySettings::default();
    (RetryLayer::new(inner, timer.clone(), env(), settings).unwrap(), timer)
}

fn append(store: &dyn EventStore) -> Result<Vec<AppendOutcome>> {
    block_on(store.append(tenant(), vec![event()], AppendOptions::default()))
}

fn delete(store: &dyn EventStore) -> Result<u64> {
    block_on(store.delete(tenant(), &DeleteSelection::Ids(vec![event().id])))
}

#[test]
fn what_passes_by_itself_is_tried_again() {
    let store = scripted([
        Interception::Fail(error(ErrorKind::Unavailable)),
        Interception::Fail(error(ErrorKind::Timeout)),
        Interception::Fail(error(ErrorKind::RateLimited).with_retry(Retry::After(Duration::from_secs(3)))),
    ]);
    let (layer, timer) = retrying(&store);
    assert!(matches!(append(&layer).unwrap().as_slice(), [AppendOutcome::Stored]));
    assert_eq!(store.interceptor().calls(), 4);
    // 100 ms and 200 ms, each at least half of it, and what the store asked for.
    let slept = timer.slept();
    assert!(slept >= Duration::from_millis(3_150) && slept <= Duration::from_millis(3_300), "{slept:?}");
}

#[test]
fn what_will_not_change_is_not_tried_again() {
    for (kind, retry) in [
        (ErrorKind::Invalid, Retry::Never),
        (ErrorKind::Unavailable, Retry::Never),
        (ErrorKind::Unavailable, Retry::Exhausted),
        (ErrorKind::RateLimited, Retry::After(Duration::from_secs(60))),
    ] {
        let store = scripted([Interception::Fail(error(kind).with_retry(retry))]);
        let (layer, timer) = retrying(&store);
        let refused = append(&layer).unwrap_err();
        assert_eq!((refused.kind(), refused.retry()), (kind, retry), "as the store said it");
        assert_eq!((store.interceptor().calls(), timer.slept()), (1, Duration::ZERO));
    }
}

#[test]
fn attempts_run_out() {
    let store = scripted((0..9).map(|_| Interception::Fail(error(ErrorKind::Unavailable))));
    let (layer, _) = retrying(&store);
    let failed = append(&layer).unwrap_err();
    assert_eq!((failed.kind(), failed.retry()), (ErrorKind::Unavailable, Retry::Exhausted));
    assert_eq!(failed.context(), [("attempts", "4".to_owned())]);
    assert_eq!(store.interceptor().calls(), 4);
}

#[test]
fn an_append_of_unknown_outcome_is_there_once() {
    let store = scripted([Interception::FailAfter(error(ErrorKind::OutcomeUnknown))]);
    let (layer, _) = retrying(&store);
    assert!(matches!(append(&layer).unwrap().as_slice(), [AppendOutcome::Duplicate]));
    assert_eq!(block_on(layer.find(tenant(), &FindQuery::default())).unwrap().events, [event()]);
}

#[test]
fn an_outcome_stays_unknown_whatever_the_last_attempt_says() {
    let last = error(ErrorKind::Unavailable).with_retry(Retry::Never);
    let store =
        scripted([Interception::FailAfter(error(ErrorKind::OutcomeUnknown)), Interception::Fail(last)]);
    let (layer, _) = retrying(&store);
    let failed = append(&layer).unwrap_err();
    assert_eq!((failed.kind(), failed.retry()), (ErrorKind::OutcomeUnknown, Retry::Never));
    assert!(failed.context().iter().any(|(key, _)| *key == "last_attempt"), "{failed}");
    assert_eq!(
        block_on(layer.find(tenant(), &FindQuery::default())).unwrap().events.len(),
        1,
        "it was stored"
    );
}

#[test]
fn a_deletion_is_counted_once_or_not_claimed() {
    let store = scripted([]);
    let (layer, _) = retrying(&store);
    append(&layer).unwrap();
    store.interceptor().next(Interception::Fail(error(ErrorKind::Unavailable)));
    assert_eq!(delete(&layer).unwrap(), 1, "nothing had happened, so it was tried again");
    append(&layer).unwrap();
    store.interceptor().next(Interception::FailAfter(error(ErrorKind::OutcomeUnknown)));
    let calls = store.interceptor().calls();
    let failed = delete(&layer).unwrap_err();
    assert_eq!(
        (failed.kind(), store.interceptor().calls() - calls),
        (ErrorKind::OutcomeUnknown, 1),
        "0 would be wrong"
    );
    store.interceptor().next(Interception::FailAfter(error(ErrorKind::OutcomeUnknown)));
    let failed = block_on(layer.retain(tenant(), Timestamp::MAX)).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
}

#[test]
fn what_takes_too_long_says_whether_it_may_have_happened() {
    let hanging = || {
        let store = scripted([Interception::Hang]);
        let timer = Arc::new(TestTimer::instant());
        let inner = Arc::clone(&store) as Arc<dyn EventStore>;
        (TimeoutLayer::new(inner, timer.clone(), TimeoutSettings::default()).unwrap(), timer)
    };
    let (layer, timer) = hanging();
    let late = append(&layer).unwrap_err();
    assert_eq!((late.kind(), late.retry()), (ErrorKind::OutcomeUnknown, Retry::Maybe));
    assert_eq!(timer.slept(), Duration::from_secs(10));
    assert!(matches!(append(&layer).unwrap().as_slice(), [AppendOutcome::Duplicate]), "it had happened");

    assert_eq!(delete(&hanging().0).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let retained = block_on(hanging().0.retain(tenant(), Timestamp::MIN));
    assert_eq!(retained.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let (layer, timer) = hanging();
    let late = block_on(layer.find(tenant(), &FindQuery::default())).unwrap_err();
    assert_eq!((late.kind(), late.operation()), (ErrorKind::Timeout, "event_store.find"));
    assert_eq!(late.context(), [("timeout_ms", "30000".to_owned())]);
    assert_eq!(timer.slept(), Duration::from_secs(30));
    let late = block_on(hanging().0.scan(tenant(), &ScanQuery::default())).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
}

#[test]
fn deadlines_and_retries_together_append_once() {
    let store =
        scripted([Interception::Hang, Interception::Fail(error(ErrorKind::Unavailable)), Interception::Hang]);
    let timer = Arc::new(TestTimer::instant());
    let inner = Arc::clone(&store) as Arc<dyn EventStore>;
    let timed = TimeoutLayer::new(inner, timer.clone(), TimeoutSettings::default()).unwrap();
    let layer = RetryLayer::new(Arc::new(timed), timer, env(), RetrySettings::default()).unwrap();
    assert!(matches!(append(&layer).unwrap().as_slice(), [AppendOutcome::Duplicate]));
    assert_eq!(store.interceptor().calls(), 4);
    assert_eq!(block_on(layer.find(tenant(), &FindQuery::default())).unwrap().events.len(), 1);
}

#[test]
fn settings_have_limits() {
    let pointers =
        |error: Error| -> Vec<String> { error.fields().iter().map(|field| field.pointer.clone()).collect() };
    let retry = RetrySettings {
        attempts: 0,
        first_pause: Duration::from_secs(700),
        max_pause: Duration::from_secs(601),
    };
    assert_eq!(pointers(retry.validate().unwrap_err()), ["/attempts", "/max_pause", "/first_pause"]);
    let edge = RetrySettings {
        attempts: 100,
        first_pause: Duration::from_secs(600),
        max_pause: Duration::from_secs(600),
    };
    edge.validate().unwrap();
    assert!(RetrySettings { attempts: 101, ..edge }.validate().is_err());
    let timeout = TimeoutSettings { read: Duration::ZERO, ..TimeoutSettings::default() };
    assert_eq!(pointers(timeout.validate().unwrap_err()), ["/read"]);
    TimeoutSettings { read: Duration::from_millis(1), ..TimeoutSettings::default() }.validate().unwrap();
    let text = serde_json::to_string(&RetrySettings::default()).unwrap();
    assert_eq!(text, r#"{"attempts":4,"first_pause":"100ms","max_pause":"5s"}"#);
    assert_eq!(serde_json::from_str::<RetrySettings>(&text).unwrap(), RetrySettings::default());
}
