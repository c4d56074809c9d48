//! What the tests of network backends need: a TCP proxy that misbehaves on command, and servers of their own that they may kill.
//!
//! - [`FaultProxy`] stands between a client and a real server and adds latency, cuts, resets, silence or a narrow line.
//! - [`RedisServer`] and [`PostgresServer`] start a real server on a free port with a folder of its own, and can be killed,
//!   stopped and started again on the same port with the same data.
//! - [`PgbouncerServer`] stands between a client and PostgreSQL and lends sessions for one transaction.
//! - [`server_url`] and [`find_program`] say loudly what is missing, and fail in CI instead of skipping.
//! - [`HungReceiver`] takes connections and never speaks the protocol to its end.
//! - [`identity`] is an identity provider that publishes keys over TLS.
//! - [`smtp::SmtpServer`] takes mail, with STARTTLS, TLS and both ways to log in.
//! - `cargo xtask` starts its servers with the same code, without the feature `network`.
//! - [`eventually`] waits for a condition instead of for time.
//!
//! A cut between a commit and its reply, which leaves the client not knowing:
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use pulsestream_testtools::{FaultProxy, RedisServer, find_program, REDIS};
//!
//! let Some(program) = find_program(&REDIS) else { return Ok(()) };
//! let server = RedisServer::start(&program, &[])?;
//! let proxy = FaultProxy::start(server.address())?;
//! let url = format!("redis://{}/", proxy.address());
//! // ... connect to `url`, then:
//! proxy.cut_after_server_bytes(0);
//! // ... the next command is executed by the server and its reply never arrives.
//! # let _ = url; Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod available;
#[cfg(feature = "network")]
mod hung;
#[cfg(feature = "network")]
pub mod identity;
#[cfg(feature = "network")]
mod proxy;
mod servers;
mod wait;

pub use available::{PGBOUNCER, POSTGRES, Program, REDIS, find_program, server_url};
#[cfg(feature = "network")]
pub use hung::HungReceiver;
#[cfg(feature = "network")]
pub use proxy::{Direction, FaultProxy};
pub use servers::pgbouncer::PgbouncerServer;
pub use servers::postgres::{PostgresServer, StopMode};
pub use servers::redis::RedisServer;
#[cfg(feature = "network")]
pub use servers::smtp;
pub use wait::eventually;
#[cfg(feature = "network")]
pub use wait::eventually_async;
