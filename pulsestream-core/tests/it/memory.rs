//! Every suite over the memory backend.

mod event_store {
    use std::sync::Arc;

    use pulsestream_core::memory::MemoryEventStore;
    use pulsestream_core::ports::event_store::EventStore;
    use pulsestream_core::testkit::EventStoreHarness;

    #[derive(Debug)]
    struct Memory;

    #[async_trait::async_trait]
    impl EventStoreHarness for Memory {
        async fn open(&self) -> Arc<dyn EventStore> {
            Arc::new(MemoryEventStore::new())
        }
    }

    pulsestream_core::event_store_conformance!(Memory);
}

mod rate_limiter {
    use std::sync::Arc;

    use pulsestream_core::env::Env;
    use pulsestream_core::memory::MemoryRateLimiter;
    use pulsestream_core::ports::rate_limiter::RateLimiter;
    use pulsestream_core::testkit::RateLimiterHarness;

    #[derive(Debug)]
    struct Memory;

    #[async_trait::async_trait]
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
