//! Tokens of another identity provider, verified with the keys that it publishes (JWKS, RFC 7517).
//!
//! [`JwksAuth`] is a [`TenantAuth`](pulsestream_core::ports::auth::TenantAuth): a bearer token in, a principal out. Who issues, for
//! whom, and with which algorithms is configured and never read from the token; which tenant and which role a token stands for is
//! read from claims that the configuration names.
//!
//! The rules are those of RFC 8725 (JSON Web Token best practices) and RFC 9068 (JWT access tokens).
#![forbid(unsafe_code)]

mod auth;
mod claims;
mod config;
mod header;
mod key_cache;
mod key_set;
mod tenants;

pub use auth::JwksAuth;
pub use config::{Algorithm, JwksConfig};
pub use tenants::{ResolveTenant, TenantsById, TenantsByName};
