//! What a caller shows in its headers.

use axum::http::{HeaderMap, HeaderName, header};
use pulsestream_core::auth::Secret;
use pulsestream_core::ports::auth::Credential;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Which header counts when a request has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The call is about a person.
    Bearer,
    /// The call is about a tenant.
    ApiKey,
}

/// Returns the credential of a request. A header that is there twice, or is no text, is no credential: which one was
/// meant is not for us to guess.
pub(crate) fn of(headers: &HeaderMap, preference: Preference) -> Credential {
    let key = || single(headers, &API_KEY).map(|key| Credential::ApiKey(Secret::new(key.trim())));
    let bearer = || single(headers, &header::AUTHORIZATION).and_then(bearer_token).map(Credential::Bearer);
    let found = match preference {
        Preference::Bearer => bearer().or_else(key),
        Preference::ApiKey => key().or_else(bearer),
    };
    found.unwrap_or(Credential::Missing)
}

/// Returns the ticket in the query of a request.
pub(crate) fn ticket(query: Option<&str>) -> Option<Credential> {
    let mut tokens = query?.split('&').filter_map(|pair| pair.strip_prefix("token="));
    match (tokens.next(), tokens.next()) {
        (Some(token), None) if !token.is_empty() => Some(Credential::Ticket(Secret::new(token))),
        _ => None,
    }
}

/// Reads `Bearer token`; the scheme has no case (RFC 9110, 11.1).
pub(crate) fn bearer_token(value: &str) -> Option<Secret> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::new(token))
}

/// Returns the value of a header that is there once.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().filter(|value| !value.trim().is_empty()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)], preference: Preference) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        match of(&headers, preference) {
            Credential::Missing => "missing".to_owned(),
            Credential::Bearer(secret) => format!("bearer {}", secret.expose()),
            Credential::ApiKey(secret) => format!("key {}", secret.expose()),
            Credential::Ticket(secret) => format!("ticket {}", secret.expose()),
        }
    }

    #[test]
    fn headers() {
        use Preference::{ApiKey, Bearer};
        assert_eq!(read(&[], ApiKey), "missing");
        assert_eq!(read(&[("x-api-key", "k")], Bearer), "key k");
        assert_eq!(read(&[("authorization", "bearer t")], ApiKey), "bearer t");
        assert_eq!(read(&[("authorization", "Basic dTpw")], ApiKey), "missing");
        assert_eq!(read(&[("authorization", "Bearer ")], ApiKey), "missing");
        let both = [("authorization", "Bearer t"), ("x-api-key", "k")];
        assert_eq!(read(&both, ApiKey), "key k");
        assert_eq!(read(&both, Bearer), "bearer t");
        assert_eq!(read(&[("x-api-key", "a"), ("x-api-key", "b")], ApiKey), "missing");
    }

    #[test]
    fn a_ticket_is_there_once() {
        assert!(ticket(Some("a=1&token=abc")).is_some());
        assert!(ticket(Some("token=a&token=b")).is_none());
        assert!(ticket(Some("token=")).is_none());
        assert!(ticket(None).is_none());
    }
}
