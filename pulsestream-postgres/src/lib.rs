//! PostgreSQL backend of PulseStream: many stateless nodes share one server (15 or newer), and any node may die at any moment.
//!
//! [`Postgres::connect`] takes a URL, [`Postgres::with_pool`] a pool of the host's own. The schema is made and kept up to date
//! by `connect`; its tables are meant to be read by people too.
//!
//! Row-level security is the second wall between tenants: every transaction names its tenant, and a statement that forgot its
//! tenant predicate finds nothing foreign. It holds for roles that neither own the tables nor are superusers, so production
//! migrates once as the owner, with `app_role` set, and connects as that role with `require_rls`.
//!
//! A role that may run SQL of its own can name any tenant: row-level security guards against a forgotten predicate, not
//! against injection. Against that stands that every value of a tenant is a bind parameter.
#![forbid(unsafe_code)]

mod alert_store;
mod config;
mod connect;
mod connection;
mod coordinator;
mod database;
mod document_store;
mod error;
mod event_row;
mod event_store;
mod identity_store;
mod listen;
mod live_bus;
mod migrate;
mod outbox;
mod record;
mod sql;
mod together;
mod wire;

pub use alert_store::PostgresAlertStore;
pub use config::{Identifier, PostgresConfig, ServerUrl};
pub use connect::Postgres;
pub use coordinator::PostgresCoordinator;
pub use document_store::PostgresDocumentStore;
pub use event_store::PostgresEventStore;
pub use identity_store::PostgresIdentityStore;
pub use live_bus::PostgresLiveBus;
pub use outbox::PostgresOutbox;
