//! The conformance suite that every backend passes, yours included.
//!
//! Each port has a module with one async function per promise, a harness that the author of a backend implements, `cases()` to
//! run them at run time, and a macro that lists them all as tests:
//!
//! ```
//! use std::sync::Arc;
//!
//! use pulsestream_core::memory::MemoryEventStore;
//! use pulsestream_core::ports::event_store::EventStore;
//! use pulsestream_core::testkit::EventStoreHarness;
//!
//! #[derive(Debug)]
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl EventStoreHarness for Memory {
//!     async fn open(&self) -> Arc<dyn EventStore> {
//!         Arc::new(MemoryEventStore::new())
//!     }
//! }
//!
//! pulsestream_core::event_store_conformance!(Memory);
//! ```
//!
//! A case fails by a panic that says what was promised. Nothing is skipped: what a backend cannot do it says in `capabilities()`,
//! and then the suite checks that it refuses. The suite brings no runtime; a backend that needs one overrides
//! `block_on` of its harness.

mod compare;
mod events;
mod generate;
mod intercept;
mod layers;
mod run;

pub mod alert_store;
pub mod cache;
pub mod coordinator;
pub mod document_store;
pub mod event_store;
pub mod identity_store;
pub mod ingest_queue;
pub mod key_value;
pub mod live_bus;
pub mod model;
pub mod outbox;
pub mod rate_limiter;

pub use alert_store::AlertStoreHarness;
pub use cache::CacheHarness;
pub use compare::{RELATIVE_TOLERANCE, compare_tables, numbers_agree};
pub use coordinator::CoordinatorHarness;
pub use document_store::DocumentStoreHarness;
pub use event_store::EventStoreHarness;
pub use generate::{EventGenerator, Random};
pub use identity_store::IdentityStoreHarness;
pub use ingest_queue::IngestQueueHarness;
pub use intercept::{EventStoreCall, Intercept, InterceptedEventStore, Interception};
pub use key_value::KeyValueHarness;
pub use layers::{FailUntilLast, FlakyEventStore, TestTimer};
pub use live_bus::LiveBusHarness;
pub use model::check_model;
pub use outbox::OutboxHarness;
pub use rate_limiter::RateLimiterHarness;
pub use run::{BoxFuture, Case, block_on, concurrently, fresh_tenant};

/// Declares the list of a port's cases, and exports the macro that turns it into tests.
macro_rules! suite {
    (
        $d:tt $(#[$doc:meta])* $macro_name:ident, $port:ident, $harness:ident, $probe:path,
        [$($theme:ident: $($case:ident),+ $(,)?;)+]
    ) => {
        /// Runs the case with this name.
        ///
        /// # Panics
        /// When the backend breaks the promise, or there is no such case.
        pub fn run(name: &str, harness: ::std::sync::Arc<dyn $harness>) {
            let case = cases().iter().find(|case| case.name == name);
            let case = case.expect("the name comes from the list of cases");
            harness.block_on((case.run)(harness.clone()));
        }

        /// Returns every case of the suite, in the order of the list.
        pub fn cases() -> &'static [$crate::testkit::Case<dyn $harness>] {
            &[$($($crate::testkit::Case {
                name: stringify!($case),
                run: |harness| Box::pin(async move { $theme::$case(<$probe>::open(harness).await).await }),
            },)+)+]
        }

        $(#[$doc])*
        #[macro_export]
        macro_rules! $macro_name {
            ($d harness:expr) => {
                $($(
                    #[test]
                    fn $case() {
                        $crate::testkit::$port::run(stringify!($case), ::std::sync::Arc::new($d harness));
                    }
                )+)+
            };
        }
    };
}
pub(crate) use suite;
