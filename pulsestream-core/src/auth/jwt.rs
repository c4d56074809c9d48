//! JSON Web Tokens, HS256 only (RFC 7515, RFC 7519, with the advice of RFC 8725).
//!
//! The algorithm is fixed: a token says which of our keys signed it and nothing else about how to verify it. A header with any
//! member beyond `alg`, `typ` and `kid` is refused, and so is a token whose claims are not exactly ours: unknown or repeated
//! members, numbers that are no integers, an audience list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::jws::CompactJws;
use super::keyring::{KeyState, Keyring};
use super::permission::Role;
use super::secret::Secret;
use super::settings::AuthSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, SessionId, TenantId, UserId};
use crate::time::Timestamp;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 2_048;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// What a token is for, in its `typ` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenUse {
    /// Opens the API for a user.
    Access,
    /// Opens one WebSocket within seconds.
    Ticket,
}

/// The claims every token of ours has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessClaims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) exp: i64,
    pub(crate) nbf: i64,
    pub(crate) iat: i64,
    pub(crate) jti: SessionId,
    pub(crate) sub: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    pub(crate) typ: TokenUse,
    /// The session, whose end ends the token.
    pub(crate) sid: SessionId,
}

/// The claims of a ticket: who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketClaims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) exp: i64,
    pub(crate) nbf: i64,
    pub(crate) iat: i64,
    pub(crate) jti: SessionId,
    pub(crate) tenant: TenantId,
    pub(crate) typ: TokenUse,
    pub(crate) holder: TicketHolder,
}

/// Whose ticket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TicketHolder {
    /// A signed-in user.
    User { user: UserId, session: SessionId },
    /// An API key.
    ApiKey { key: ApiKeyId },
}

/// The claims that are checked alike for every use.
pub(crate) trait CommonClaims: DeserializeOwned + Serialize {
    /// What such a token is for.
    const USE: TokenUse;

    /// Returns `(iss, aud, typ, iat, nbf, exp)`.
    fn common(&self) -> (&str, &str, TokenUse, i64, i64, i64);
}

impl CommonClaims for AccessClaims {
    const USE: TokenUse = TokenUse::Access;

    fn common(&self) -> (&str, &str, TokenUse, i64, i64, i64) {
        (&self.iss, &self.aud, self.typ, self.iat, self.nbf, self.exp)
    }
}

impl CommonClaims for TicketClaims {
    const USE: TokenUse = TokenUse::Ticket;

    fn common(&self) -> (&str, &str, TokenUse, i64, i64, i64) {
        (&self.iss, &self.aud, self.typ, self.iat, self.nbf, self.exp)
    }
}

/// Signs and verifies with the keys of one keyring.
#[derive(Debug)]
pub(crate) struct TokenCodec {
    keys: Vec<(String, Option<Timestamp>, KeyState)>,
    issuer: String,
    audience: String,
    leeway_seconds: i64,
    longest_seconds: i64,
}

impl TokenCodec {
    pub(crate) fn new(ring: &Keyring, settings: &AuthSettings) -> Self {
        let seconds = |span: std::time::Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self {
            keys: ring.keys.iter().map(|key| (key.kid.clone(), key.verify_until, key.state())).collect(),
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway_seconds: seconds(settings.leeway),
            longest_seconds: seconds(settings.access_ttl.max(settings.ticket_ttl)),
        }
    }

    /// Returns whether the token names a key that this codec does not know, so that the keyring may be out of date.
    pub(crate) fn names_unknown_key(&self, token: &str) -> bool {
        let Some(token) = CompactJws::split(token, MAX_TOKEN_BYTES) else { return false };
        read_header(&token.header, |kid| !self.keys.iter().any(|(known, ..)| known == kid)).unwrap_or(false)
    }

    /// Writes and signs a token.
    pub(crate) fn sign<C: CommonClaims>(&self, claims: &C) -> Result<Secret> {
        let defect = |why: &'static str| Error::new(ErrorKind::Internal, "auth.sign", why);
        let (kid, _, state) = self.keys.first().ok_or_else(|| defect("there is no signing key"))?;
        let header = serde_json::to_vec(&Header { alg: "HS256", typ: "JWT", kid })
            .map_err(|error| defect("the header has no JSON form").with_source(error))?;
        let claims = serde_json::to_vec(claims)
            .map_err(|error| defect("the claims have no JSON form").with_source(error))?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = signature(state, &token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// Verifies a token and returns its claims; every reason to refuse has the same answer, but for a genuine expired token.
    pub(crate) fn verify<C: CommonClaims>(&self, token: &str, now: Timestamp) -> Result<C> {
        let claims: C = self.genuine_claims(token, now).ok_or_else(refused)?;
        let (issuer, audience, usage, issued_at, not_before, expires_at) = claims.common();
        let now = now.as_seconds();
        let early = now.saturating_add(self.leeway_seconds);
        let lifetime = expires_at.saturating_sub(issued_at);
        if issuer != self.issuer || audience != self.audience || usage != C::USE {
            return Err(refused());
        }
        if issued_at < 0 || not_before < 0 || issued_at > early || not_before > early {
            return Err(refused());
        }
        if lifetime <= 0 || lifetime > self.longest_seconds {
            return Err(refused());
        }
        if expires_at.saturating_add(self.leeway_seconds) <= now {
            return Err(Error::new(ErrorKind::Unauthenticated, "auth.authenticate", "the token has expired"));
        }
        Ok(claims)
    }

    fn genuine_claims<C: CommonClaims>(&self, token: &str, now: Timestamp) -> Option<C> {
        let token = CompactJws::split(token, MAX_TOKEN_BYTES)?;
        let state = read_header(&token.header, |kid| {
            let (_, verify_until, state) = self.keys.iter().find(|(known, ..)| known == kid)?;
            verify_until.is_none_or(|until| now < until).then_some(state)
        })??;
        let mut mac = state.0.clone();
        mac.update(token.signed.as_bytes());
        // Compares in constant time, and refuses a length other than 32 bytes.
        mac.verify_slice(&token.signature).ok()?;
        serde_json::from_slice(&token.claims).ok()
    }
}

/// Reads a header and hands its `kid` to `look_up`; `None` when it is not exactly one of ours.
fn read_header<T>(header: &[u8], look_up: impl FnOnce(&str) -> T) -> Option<T> {
    let header: Header<'_> = serde_json::from_slice(header).ok()?;
    (header.alg == "HS256" && header.typ == "JWT").then(|| look_up(header.kid))
}

fn signature(state: &KeyState, signed: &str) -> [u8; 32] {
    let mut mac = state.0.clone();
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().into()
}

fn refused() -> Error {
    Error::new(ErrorKind::Unauthenticated, "auth.authenticate", "the credentials are not valid")
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
