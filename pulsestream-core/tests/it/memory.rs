//! Every suite over the memory backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::time::Timestamp;

/// An environment whose clock the test moves.
#[derive(Debug)]
struct Manual {
    env: Env,
    clock: Arc<ManualClock>,
}

impl Manual {
    fn new() -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_767_225_600), 1);
        Self { env, clock }
    }
}

mod event_store {
    use pulsestream_core::memory::MemoryEventStore;
    use pulsestream_core::ports::event_store::EventStore;
    use pulsestream_core::testkit::EventStoreHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl EventStoreHarness for Memory {
        async fn open(&self) -> Arc<dyn EventStore> {
            Arc::new(MemoryEventStore::new())
        }
    }

    pulsestream_core::event_store_conformance!(Memory);
}

mod key_value {
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::key_value::KeyValue;
    use pulsestream_core::testkit::KeyValueHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl KeyValueHarness for Memory {
        async fn open(&self) -> Arc<dyn KeyValue> {
            Arc::new(MemoryKeyValue::new())
        }
    }

    pulsestream_core::key_value_conformance!(Memory);
}

mod coordinator {
    use pulsestream_core::at_rest::KeyValueCoordinator;
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::coordinator::Coordinator;
    use pulsestream_core::testkit::CoordinatorHarness;

    use super::*;

    #[async_trait]
    impl CoordinatorHarness for Manual {
        async fn open(&self) -> Arc<dyn Coordinator> {
            Arc::new(KeyValueCoordinator::new(Arc::new(MemoryKeyValue::new()), self.env.clone()))
        }

        async fn elapse(&self, span: Duration) {
            self.clock.advance(span);
        }
    }

    pulsestream_core::coordinator_conformance!(Manual::new());
}

mod document_store {
    use pulsestream_core::at_rest::KeyValueDocumentStore;
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::document_store::DocumentStore;
    use pulsestream_core::testkit::DocumentStoreHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl DocumentStoreHarness for Memory {
        async fn open(&self) -> Arc<dyn DocumentStore> {
            Arc::new(KeyValueDocumentStore::new(Arc::new(MemoryKeyValue::new())))
        }
    }

    pulsestream_core::document_store_conformance!(Memory);
}

mod cache {
    use pulsestream_core::memory::MemoryCache;
    use pulsestream_core::ports::cache::Cache;
    use pulsestream_core::testkit::CacheHarness;

    use super::*;

    #[async_trait]
    impl CacheHarness for Manual {
        async fn open(&self) -> Arc<dyn Cache> {
            Arc::new(MemoryCache::new(self.env.clone(), 4 << 20))
        }

        async fn elapse(&self, span: Duration) {
            self.clock.advance(span);
        }
    }

    pulsestream_core::cache_conformance!(Manual::new());
}

mod ingest_queue {
    use pulsestream_core::memory::{MemoryIngestQueue, MemoryIngestQueueSettings};
    use pulsestream_core::ports::ingest_queue::IngestQueue;
    use pulsestream_core::testkit::IngestQueueHarness;

    use super::*;

    #[async_trait]
    impl IngestQueueHarness for Manual {
        async fn open(&self) -> Arc<dyn IngestQueue> {
            let settings = MemoryIngestQueueSettings {
                max_events: 100,
                visibility_timeout: self.unit(),
                max_deliveries: 3,
                ..MemoryIngestQueueSettings::default()
            };
            Arc::new(MemoryIngestQueue::new(self.env.clone(), settings))
        }

        async fn elapse(&self, span: Duration) {
            self.clock.advance(span);
        }
    }

    pulsestream_core::ingest_queue_conformance!(Manual::new());
}

mod live_bus {
    use pulsestream_core::memory::MemoryLiveBus;
    use pulsestream_core::ports::live_bus::LiveBus;
    use pulsestream_core::testkit::LiveBusHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl LiveBusHarness for Memory {
        async fn open(&self) -> Arc<dyn LiveBus> {
            Arc::new(MemoryLiveBus::new(self.capacity()))
        }
    }

    pulsestream_core::live_bus_conformance!(Memory);
}

mod rate_limiter {
    use pulsestream_core::memory::MemoryRateLimiter;
    use pulsestream_core::ports::rate_limiter::RateLimiter;
    use pulsestream_core::testkit::RateLimiterHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl RateLimiterHarness for Memory {
        async fn open(&self) -> Arc<dyn RateLimiter> {
            Arc::new(MemoryRateLimiter::new(Env::system()))
        }
    }

    pulsestream_core::rate_limiter_conformance!(Memory);
}

mod identity_store {
    use std::sync::Arc;

    use pulsestream_core::at_rest::KeyValueIdentityStore;
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::identity::IdentityStore;
    use pulsestream_core::testkit::IdentityStoreHarness;

    #[derive(Debug)]
    struct Memory;

    #[async_trait::async_trait]
    impl IdentityStoreHarness for Memory {
        async fn open(&self) -> Arc<dyn IdentityStore> {
            Arc::new(KeyValueIdentityStore::new(Arc::new(MemoryKeyValue::new()), false))
        }
    }

    pulsestream_core::identity_store_conformance!(Memory);
}

mod alert_store {
    use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueOutbox};
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::alert_store::AlertStore;
    use pulsestream_core::ports::outbox::Outbox;
    use pulsestream_core::testkit::AlertStoreHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl AlertStoreHarness for Memory {
        async fn open(&self) -> (Arc<dyn AlertStore>, Arc<dyn Outbox>) {
            let store = Arc::new(MemoryKeyValue::new());
            (Arc::new(KeyValueAlertStore::new(store.clone())), Arc::new(KeyValueOutbox::new(store)))
        }
    }

    pulsestream_core::alert_store_conformance!(Memory);
}

mod outbox {
    use pulsestream_core::at_rest::KeyValueOutbox;
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::ports::outbox::Outbox;
    use pulsestream_core::testkit::OutboxHarness;

    use super::*;

    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl OutboxHarness for Memory {
        async fn open(&self) -> Arc<dyn Outbox> {
            Arc::new(KeyValueOutbox::new(Arc::new(MemoryKeyValue::new())))
        }
    }

    pulsestream_core::outbox_conformance!(Memory);
}
