//! Tests of the HTTP interface over the memory backend.

mod server;
mod service;
