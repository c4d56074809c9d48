//! Whose tokens are believed, and what is read from them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pulsestream_core::auth::Role;
use pulsestream_core::{Error, FieldError, Result};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3_600);

/// How a token may be signed. Algorithms with a shared secret are not among them: a public key is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256, keys of 2,048 to 8,192 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Returns the name in the header of a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
            let message = "must be one of RS256, ES256, EdDSA";
            Error::invalid("jwks.algorithm", "/algorithms", "unknown_algorithm", message)
        })
    }
}

/// One identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksConfig {
    /// Where its keys are, an `https://` URL.
    pub url: String,
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// What its tokens for us have as `aud`, or among it.
    pub audience: String,
    /// How its tokens may be signed; all by default.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the tenant: a name, or a JSON pointer such as `/org/id`. Default `tenant`.
    pub tenant_claim: String,
    /// The claim that names the role, text or a list of texts: a name, or a JSON pointer such as `/realm_access/roles`. Default `role`.
    pub role_claim: String,
    /// What the values of that claim mean; of several that match, the strongest role counts. By default the names of the roles.
    pub roles: Vec<(String, Role)>,
    /// The role of a token that names none. `None`: it may do nothing.
    pub default_role: Option<Role>,
    /// How far the clocks may be apart, at most 5 minutes; default 5 s.
    pub leeway: Duration,
    /// The longest life of a token, from `iat` to `exp`; default 24 h.
    pub max_token_lifetime: Duration,
    /// The longest token in bytes, at most 64 KiB; default 8 KiB.
    pub max_token_bytes: usize,
    /// When keys are fetched again: a key that the provider withdrew ends after this time. Default 10 min.
    pub max_age: Duration,
    /// For how long keys are used although they cannot be fetched again; default 1 h, at most 7 days, not below `max_age`.
    pub max_stale: Duration,
    /// How long after a fetch, good or not, the next one is made at the earliest, whatever unknown keys tokens name; default 30 s.
    pub min_refresh_interval: Duration,
    /// How long one fetch takes at most; default 5 s, at most 50 s.
    pub fetch_deadline: Duration,
    /// Certificates of authorities that the provider is trusted by besides those of the system, each PEM or DER of one certificate.
    pub extra_root_certificates: Vec<Vec<u8>>,
}

impl JwksConfig {
    /// Creates the configuration of a provider, with the defaults.
    pub fn new(url: impl Into<String>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: Algorithm::ALL.to_vec(),
            tenant_claim: "tenant".to_owned(),
            role_claim: "role".to_owned(),
            roles: Role::ALL.map(|role| (role.as_str().to_owned(), role)).to_vec(),
            default_role: None,
            leeway: Duration::from_secs(5),
            max_token_lifetime: 24 * HOUR,
            max_token_bytes: 8_192,
            max_age: Duration::from_secs(600),
            max_stale: HOUR,
            min_refresh_interval: Duration::from_secs(30),
            fetch_deadline: Duration::from_secs(5),
            extra_root_certificates: Vec::new(),
        }
    }

    /// Checks every value against its limits; the URL is checked where it is opened.
    ///
    /// # Errors
    /// `Invalid` with a field error for each refused value.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut require = |holds: bool, pointer: &str, message: &str| {
            if !holds {
                fields.push(FieldError::new(pointer, "out_of_range", message));
            }
        };
        let is_name = |text: &str| (1..=1_024).contains(&text.len());
        let within = |span: Duration, least: Duration, most: Duration| (least..=most).contains(&span);
        let second = Duration::from_secs(1);
        require(is_name(&self.issuer), "/issuer", "must have 1 to 1,024 bytes");
        require(is_name(&self.audience), "/audience", "must have 1 to 1,024 bytes");
        require(!self.algorithms.is_empty(), "/algorithms", "must name at least one of RS256, ES256, EdDSA");
        require(is_name(&self.tenant_claim), "/tenant_claim", "must have 1 to 1,024 bytes");
        require(is_name(&self.role_claim), "/role_claim", "must have 1 to 1,024 bytes");
        require(self.roles.len() <= 1_000, "/roles", "must be at most 1,000");
        require(self.leeway <= 300 * second, "/leeway", "must be at most 5 minutes");
        require(
            within(self.max_token_lifetime, second, 744 * HOUR),
            "/max_token_lifetime",
            "must be 1 s to 31 days",
        );
        require((256..=65_536).contains(&self.max_token_bytes), "/max_token_bytes", "must be 256 to 65,536");
        require(within(self.max_age, second, 24 * HOUR), "/max_age", "must be 1 s to 24 h");
        require(
            within(self.max_stale, self.max_age, 168 * HOUR),
            "/max_stale",
            "must be at least max_age and at most 7 days",
        );
        require(
            within(self.min_refresh_interval, second, self.max_age),
            "/min_refresh_interval",
            "must be at least 1 s and at most max_age",
        );
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("jwks.config", fields)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut JwksConfig);

    #[test]
    fn limits_hold_at_the_limit_and_not_beyond() {
        let good = JwksConfig::new("https://id.example/keys", "https://id.example", "pulsestream");
        good.validate().unwrap();
        let mut edge = good.clone();
        (edge.leeway, edge.max_token_bytes, edge.max_stale) =
            (Duration::from_secs(300), 65_536, Duration::from_secs(604_800));
        edge.validate().unwrap();
        let changes: [(&str, Change); 9] = [
            ("/issuer", |it| it.issuer.clear()),
            ("/audience", |it| it.audience.clear()),
            ("/algorithms", |it| it.algorithms.clear()),
            ("/tenant_claim", |it| it.tenant_claim.clear()),
            ("/leeway", |it| it.leeway = Duration::from_secs(301)),
            ("/max_token_bytes", |it| it.max_token_bytes = 65_537),
            ("/max_stale", |it| it.max_stale = it.max_age - Duration::from_secs(1)),
            ("/max_stale", |it| it.max_stale = Duration::from_secs(604_801)),
            ("/min_refresh_interval", |it| it.min_refresh_interval = Duration::ZERO),
        ];
        for (pointer, change) in changes {
            let mut config = good.clone();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.fields()[0].pointer, pointer);
        }
    }

    #[test]
    fn no_algorithm_has_a_shared_secret() {
        for name in ["HS256", "none", "None", "rs256", "RS384", ""] {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse::<Algorithm>().unwrap(), algorithm);
        }
    }
}
