//! What a genuine token says, checked.

use pulsestream_core::auth::Role;
use pulsestream_core::time::Timestamp;
use serde_json::Value;

use crate::config::JwksConfig;
use crate::header::read_object;

const MAX_SUBJECT_BYTES: usize = 255;
const MAX_TENANT_BYTES: usize = 255;

/// The claims that count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) tenant: String,
    pub(crate) role: Option<Role>,
    pub(crate) expires_at: i64,
}

/// Why claims are not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They are not for us, not now, or not claims.
    Unfit,
    /// All is right, but their time is over.
    Expired,
}

impl Claims {
    /// Reads and checks the claims of a token whose signature is good.
    pub(crate) fn read(bytes: &[u8], config: &JwksConfig, now: Timestamp) -> Result<Self, Refusal> {
        let claims = read_object(bytes).ok_or(Refusal::Unfit)?;
        let times = Times::read(&claims).ok_or(Refusal::Unfit)?;
        let read = Self::of(&claims, config, times.expires_at).ok_or(Refusal::Unfit)?;
        times.check(config, now.as_seconds())?;
        Ok(read)
    }

    fn of(claims: &Value, config: &JwksConfig, expires_at: i64) -> Option<Self> {
        let is_ours = claims.get("iss")?.as_str()? == config.issuer
            && names(claims.get("aud")?)?.contains(&config.audience.as_str());
        is_ours.then_some(())?;
        let subject = text(claims.get("sub")?, MAX_SUBJECT_BYTES)?;
        let tenant = text(find(claims, &config.tenant_claim)?, MAX_TENANT_BYTES)?;
        let granted = find(claims, &config.role_claim).and_then(names).unwrap_or_default();
        let meant = config.roles.iter().filter(|(name, _)| granted.contains(&name.as_str()));
        let role = meant.map(|(_, role)| *role).max().or(config.default_role);
        Some(Self { subject, tenant, role, expires_at })
    }
}

/// The times of a token, in seconds.
struct Times {
    issued_at: i64,
    not_before: i64,
    expires_at: i64,
}

impl Times {
    fn read(claims: &Value) -> Option<Self> {
        let seconds = |name: &str| claims.get(name)?.as_i64().filter(|seconds| *seconds >= 0);
        let issued_at = seconds("iat")?;
        let not_before = if claims.get("nbf").is_some() { seconds("nbf")? } else { issued_at };
        Some(Self { issued_at, not_before, expires_at: seconds("exp")? })
    }

    fn check(&self, config: &JwksConfig, now: i64) -> Result<(), Refusal> {
        let leeway = config.leeway.as_secs();
        let early = now.saturating_add_unsigned(leeway);
        let lifetime = self.expires_at.saturating_sub(self.issued_at);
        let longest = i64::try_from(config.max_token_lifetime.as_secs()).unwrap_or(i64::MAX);
        if self.issued_at > early || self.not_before > early || lifetime <= 0 || lifetime > longest {
            return Err(Refusal::Unfit);
        }
        if self.expires_at.saturating_add_unsigned(leeway) <= now { Err(Refusal::Expired) } else { Ok(()) }
    }
}

/// Finds a claim by its name, or by a JSON pointer.
fn find<'c>(claims: &'c Value, claim: &str) -> Option<&'c Value> {
    if claim.starts_with('/') { claims.pointer(claim) } else { claims.get(claim) }
}

/// Reads one text, or a list of nothing but texts.
fn names(claim: &Value) -> Option<Vec<&str>> {
    match claim {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn text(claim: &Value, most: usize) -> Option<String> {
    claim.as_str().filter(|text| !text.is_empty() && text.len() <= most).map(str::to_owned)
}
