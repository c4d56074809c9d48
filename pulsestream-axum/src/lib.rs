//! The HTTP API of PulseStream, as one router for a host application to nest under a path of its own.
//!
//! [`router`] serves `/api/v1`, `/api/v2`, `/health`, `/health/ready` and `/metrics`. Every operation is a row of one table
//! ([`operations`]) that says who may call it; the router, the OpenAPI documents and the tests of isolation read that table,
//! so an operation cannot exist without an answer to the question who may call it.
//!
//! Every refusal has a body of the API, also those for unknown paths, wrong methods and bodies that cannot be read. The
//! tenant of a request comes from its verified credential and from nowhere else.
#![forbid(unsafe_code)]

mod access;
mod aged;
mod app;
mod body;
mod client;
mod complaints;
mod config;
mod counts;
mod credentials;
mod dashboard;
mod failure;
mod host;
mod idempotency;
mod input;
mod limits;
mod listen;
mod live;
mod number;
mod openapi;
mod operation;
mod places;
mod record;
mod router;
mod schema;
mod service;
mod setup;
mod status;
mod surface;
mod telemetry;
mod trace;
mod unread;
mod v1;
mod v2;

pub use access::Access;
pub use client::Network;
pub use config::{ApiConfig, MetricsAccess};
pub use listen::{Served, serve};
pub use openapi::document as openapi_document;
pub use operation::{Operation, operations};
pub use record::{
    RecordRequests, RecordService, RecordedBody, RecordedCounts, RecorderConfig, RequestRecorder,
};
pub use router::router;
