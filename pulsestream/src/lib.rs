//! Event ingestion, alerting and analytics inside your application.
//!
//! [`PulseStream::open`] opens a store by its URL and starts what works in the background; [`PulseStream::tenant`] gives the
//! scope of one tenant, with which an application ingests, searches, aggregates and alerts.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pulsestream::Result<()> {
//! use pulsestream::prelude::*;
//!
//! let ps = PulseStream::open("memory:").await?;
//! let shop = ps.tenant(TenantId::from_name("shop"));
//! let event = Event::new(EventId::new("order-1")?, "order_placed", ps.env().now());
//! shop.ingest(event).await?;
//! let found = shop.find(FindQuery { filter: Some("event_type = 'order_placed'".parse()?), ..FindQuery::default() }).await?;
//! assert_eq!(found.events.len(), 1);
//! ps.close().await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod alerting;
mod alerts;
mod background;
#[cfg(feature = "embedded")]
mod backup;
mod builder;
mod deadline;
mod delivery;
mod erase;
#[cfg(feature = "jwks")]
mod foreign;
mod handle;
mod housekeeping;
mod live;
#[cfg(feature = "notify")]
mod mail;
#[cfg(feature = "notify")]
mod outbound;
mod partition;
pub mod prelude;
mod processing;
mod queue;
mod rules;
mod share;
mod status;
mod stores;
mod tenant;
mod threads;
mod timer;
mod unlimited;
mod url;

pub use alerts::Alerts;
pub use builder::Builder;
pub use handle::PulseStream;
pub use pulsestream_core as core;
pub use pulsestream_core::{Error, ErrorKind, FieldError, Result, Retry};
#[cfg(feature = "embedded")]
pub use pulsestream_embedded::{Backup, BackupProgress, EmbeddedConfig};
#[cfg(feature = "jwks")]
pub use pulsestream_jwks as jwks;
#[cfg(feature = "notify")]
pub use pulsestream_notify as notify;
#[cfg(feature = "postgres")]
pub use pulsestream_postgres as postgres;
#[cfg(feature = "redis")]
pub use pulsestream_redis as redis;
pub use rules::Rules;
pub use status::{ComponentStatus, Status};
pub use tenant::Tenant;
pub use unlimited::Unlimited;
pub use url::{PrimaryStore, StoreUrl};
