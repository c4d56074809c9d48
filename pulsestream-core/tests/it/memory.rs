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
