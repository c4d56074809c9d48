//! Redis and Valkey backend of PulseStream: rate limits, cache, ingest queue, live bus and leases that hold over all nodes.
//!
//! ```no_run
//! # async fn example() -> pulsestream_core::Result<()> {
//! use std::sync::Arc;
//!
//! use pulsestream_core::env::Env;
//! use pulsestream_core::ports::coordinator::Coordinator;
//! use pulsestream_redis::{RedisConfig, open};
//!
//! let backend = open(RedisConfig::new("redis://127.0.0.1/"), Env::system()).await?;
//! let coordinator: Arc<dyn Coordinator> = backend.coordinator();
//! # let _ = coordinator; Ok(())
//! # }
//! ```
//!
//! # What the server has to be
//! Redis 7.0 or later, or Valkey. For the ingest queue `appendonly yes`, `appendfsync always` and no eviction of keys without
//! an expiry, unless a weaker class is asked for: the class is read at each new connection, and a queue that promises less
//! than is required accepts nothing. A replica that takes over may lack the last writes, so the class is never `Replicated`.
//!
//! # What happens when it fails
//! A command that was not sent, or that the server refused, is `Unavailable`: nothing happened. A write whose reply was lost
//! is `OutcomeUnknown`, after it was repeated on a new connection where repeating is safe. A connection that breaks, goes
//! silent or leads to a replica is replaced with the next command.
#![forbid(unsafe_code)]

mod backend;
mod cache;
mod config;
mod connect;
mod coordinator;
mod durability;
mod error;
mod ingest_queue;
mod keys;
mod live_bus;
mod rate_limiter;
mod script;

pub use backend::{RedisBackend, open};
pub use cache::RedisCache;
pub use config::{CacheConfig, LimiterOutage, LiveConfig, QueueConfig, RedisConfig};
pub use coordinator::RedisCoordinator;
pub use ingest_queue::RedisIngestQueue;
pub use live_bus::RedisLiveBus;
pub use rate_limiter::RedisRateLimiter;
