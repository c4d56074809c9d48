//! An identity provider with keys that the tests hold: it publishes them over TLS, and its tokens are as good or as bad as a test wants.

mod provider;
mod signer;

pub use provider::{Answer, Provider};
pub use signer::{Signer, base64url, token};
