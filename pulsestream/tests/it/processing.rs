//! Processors of the application, through the facade.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream::core::ports::processor::{Processor, ProcessorBatch, ProcessorStart};
use pulsestream::prelude::*;
use pulsestream::{ErrorKind, Result};
use tokio::sync::watch;

/// Counts the ids that it gets.
#[derive(Debug)]
struct Seen {
    ids: Mutex<BTreeSet<String>>,
    count: watch::Sender<usize>,
}

impl Seen {
    fn new() -> Arc<Self> {
        Arc::new(Self { ids: Mutex::default(), count: watch::Sender::new(0) })
    }

    async fn wait_for(&self, count: usize) -> BTreeSet<String> {
        self.count.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
        self.ids.lock().unwrap().clone()
    }
}

#[async_trait]
impl Processor for Seen {
    fn start(&self) -> ProcessorStart {
        ProcessorStart::Oldest
    }

    async fn process(&self, batch: ProcessorBatch<'_>) -> Result<()> {
        let mut ids = self.ids.lock().unwrap();
        ids.extend(batch.events.iter().map(|tailed| format!("{}/{}", tailed.tenant, tailed.event.id)));
        self.count.send_replace(ids.len());
        Ok(())
    }
}

async fn ingest(ps: &PulseStream, from: usize, to: usize) {
    for number in from..to {
        let tenant = TenantId::from_name(&format!("shop-{}", number % 5));
        let event = Event::new(EventId::new(format!("e{number}")).unwrap(), "order", ps.env().now());
        ps.tenant(tenant).ingest(event).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_sees_the_events_of_all_tenants_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("events").display().to_string();
    let seen = Seen::new();
    let ps = PulseStream::builder().with_processor("usage", seen.clone()).open(&url).await.unwrap();
    ingest(&ps, 0, 20).await;
    assert_eq!(seen.wait_for(20).await.len(), 20);
    ps.close().await.unwrap();

    // Without the processor, events go on to be stored.
    let ps = PulseStream::open(&url).await.unwrap();
    ingest(&ps, 20, 30).await;
    ps.close().await.unwrap();

    let (again, new) = (Seen::new(), Seen::new());
    let builder = PulseStream::builder().with_processor("usage", again.clone());
    let ps = builder.with_processor("audit", new.clone()).open(&url).await.unwrap();
    let expected: BTreeSet<String> = (20..30)
        .map(|number| format!("{}/e{number}", TenantId::from_name(&format!("shop-{}", number % 5))))
        .collect();
    assert_eq!(again.wait_for(10).await, expected, "closing saved the place");
    assert_eq!(new.wait_for(30).await.len(), 30, "another name begins with the oldest event");
    ps.close().await.unwrap();
}

#[tokio::test]
async fn a_processor_has_a_name_of_its_own() {
    for names in [&["alerting"][..], &["usage", "usage"], &["Usage"]] {
        let builder = names
            .iter()
            .fold(PulseStream::builder(), |builder, name| builder.with_processor(*name, Seen::new()));
        let refused = builder.open("memory:").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{names:?}");
    }
}
