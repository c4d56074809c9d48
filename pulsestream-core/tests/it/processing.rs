//! What an application's processor is promised.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueCoordinator};
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::memory::{MemoryEventStore, MemoryKeyValue};
use pulsestream_core::ports::event_store::{AppendOptions, Partition, Position};
use pulsestream_core::ports::processor::{Processor, ProcessorBatch, ProcessorStart};
use pulsestream_core::processing::{FeedParts, FeedSettings, ProcessorFeed, check_processor_name};
use pulsestream_core::testkit::block_on;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};

const TTL: Duration = Duration::from_secs(15);

/// Writes down the ids that it gets, and fails when it is told to.
#[derive(Debug, Default)]
struct Recorder {
    from_now: bool,
    failures: Mutex<Vec<Error>>,
    seen: Mutex<Vec<String>>,
    last: Mutex<Option<(u64, Position)>>,
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

#[async_trait]
impl Processor for Recorder {
    fn start(&self) -> ProcessorStart {
        if self.from_now { ProcessorStart::Now } else { ProcessorStart::Oldest }
    }

    async fn process(&self, batch: ProcessorBatch<'_>) -> Result<()> {
        assert!(!batch.events.is_empty());
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        let ids = batch.events.iter().map(|tailed| tailed.event.id.to_string());
        self.seen.lock().unwrap().extend(ids);
        *self.last.lock().unwrap() = Some((batch.fencing_token, batch.end));
        Ok(())
    }
}

struct World {
    parts: FeedParts,
    recorder: Arc<Recorder>,
    clock: Arc<ManualClock>,
    tenant: TenantId,
}

impl World {
    fn new(recorder: Recorder) -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
        let key_value = Arc::new(MemoryKeyValue::new());
        let recorder = Arc::new(recorder);
        let parts = FeedParts {
            processor: recorder.clone(),
            name: "usage".into(),
            events: Arc::new(MemoryEventStore::new()),
            checkpoints: Arc::new(KeyValueAlertStore::new(key_value.clone())),
            coordinator: Arc::new(KeyValueCoordinator::new(key_value, env.clone())),
            env,
            holder: "a".into(),
        };
        Self { parts, recorder, clock, tenant: TenantId::from_name("shop") }
    }

    fn feed(&self, holder: &str) -> ProcessorFeed {
        let parts = FeedParts { holder: holder.into(), ..self.parts.clone() };
        let settings = FeedSettings { batch_events: 2, ..FeedSettings::default() };
        ProcessorFeed::new(parts, settings, Partition::of(self.tenant))
    }

    fn append(&self, ids: &[&str]) {
        let at = self.parts.env.now();
        let event = |id: &&str| Event::new(EventId::new(*id).unwrap(), "order", at);
        let events = ids.iter().map(event).collect();
        block_on(self.parts.events.append(self.tenant, events, AppendOptions::default())).unwrap();
    }
}

/// Steps until there is nothing more at once.
fn drain(feed: &mut ProcessorFeed) {
    while block_on(feed.step()).unwrap().has_more {}
}

#[test]
fn events_come_in_order_and_once_over_an_orderly_restart() {
    let world = World::new(Recorder::default());
    let mut feed = world.feed("a");
    world.append(&["1", "2", "3", "4", "5"]);
    drain(&mut feed);
    assert_eq!(world.recorder.take(), ["1", "2", "3", "4", "5"]);
    world.append(&["6"]);
    drain(&mut feed);
    block_on(feed.stop()).unwrap();
    let mut feed = world.feed("b");
    world.append(&["7"]);
    drain(&mut feed);
    assert_eq!(world.recorder.take(), ["6", "7"], "the lease and the place were given back");
}

#[test]
fn after_a_crash_the_unsaved_events_come_again() {
    let world = World::new(Recorder::default());
    let mut feed = world.feed("a");
    world.append(&["1"]);
    drain(&mut feed);
    world.append(&["2", "3"]);
    drain(&mut feed);
    let saved = world.recorder.last.lock().unwrap().unwrap();
    drop(feed);
    let mut feed = world.feed("b");
    assert!(!block_on(feed.step()).unwrap().holds_lease, "the dead one's lease lasts still");
    world.recorder.take();
    world.clock.advance(TTL);
    drain(&mut feed);
    assert_eq!(
        world.recorder.take(),
        ["2", "3"],
        "the first place is saved at once, later ones after a second"
    );
    let again = world.recorder.last.lock().unwrap().unwrap();
    assert!(again.0 > saved.0, "another holder has a higher token");
    assert_eq!(again.1, saved.1, "the places are those of before");
}

#[test]
fn a_failure_brings_the_same_events_again() {
    let error = || Error::new(ErrorKind::Unavailable, "test", "not now");
    let world = World::new(Recorder { failures: Mutex::new(vec![error(), error()]), ..Recorder::default() });
    let mut feed = world.feed("a");
    world.append(&["1", "2", "3"]);
    for _ in 0..2 {
        assert_eq!(block_on(feed.step()).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    drain(&mut feed);
    assert_eq!(world.recorder.take(), ["1", "2", "3"]);
}

#[test]
fn a_processor_that_starts_now_skips_the_past_even_when_it_crashes_before_the_first_event() {
    let world = World::new(Recorder { from_now: true, ..Recorder::default() });
    world.append(&["1", "2", "3"]);
    drain(&mut world.feed("a"));
    world.append(&["4"]);
    world.clock.advance(TTL);
    drain(&mut world.feed("b"));
    assert_eq!(world.recorder.take(), ["4"]);
}

#[test]
fn who_wakes_up_late_saves_nothing() {
    let world = World::new(Recorder::default());
    let mut late = world.feed("a");
    world.append(&["1"]);
    drain(&mut late);
    world.append(&["2"]);
    drain(&mut late);
    world.clock.advance(TTL);
    let mut other = world.feed("b");
    drain(&mut other);
    world.append(&["3"]);
    world.clock.advance(Duration::from_secs(1));
    drain(&mut other);
    let refused = block_on(late.stop()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    world.append(&["4"]);
    world.clock.advance(TTL);
    world.recorder.take();
    drain(&mut late);
    assert_eq!(world.recorder.take(), ["4"], "it goes on where the other was");
}

#[test]
fn names_are_plain_and_not_those_of_the_library() {
    for name in ["usage", "a", "daily-totals_2", &"x".repeat(64)] {
        check_processor_name(name).unwrap();
    }
    for name in ["", "Usage", "a/b", "ä", "alerting", "seat", &"x".repeat(65)] {
        let refused = check_processor_name(name).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{name}");
    }
}
