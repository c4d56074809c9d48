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

/// What one header shows.
enum Shown {
    /// Nothing that is meant for us.
    Nothing,
    /// Something that is no credential: the header is there twice, is empty, or is no text.
    Unfit,
    Credential(Credential),
}

/// Returns the credential of a request. A header that is meant as one and cannot be read is not passed over for the other
/// header: which one was meant is not for us to guess.
pub(crate) fn of(headers: &HeaderMap, preference: Preference) -> Credential {
    let shown = match preference {
        Preference::Bearer => [bearer, api_key],
        Preference::ApiKey => [api_key, bearer],
    };
    for shown in shown {
        match shown(headers) {
            Shown::Nothing => {}
            Shown::Unfit => return Credential::Missing,
            Shown::Credential(credential) => return credential,
        }
    }
    Credential::Missing
}

fn api_key(headers: &HeaderMap) -> Shown {
    match single(headers, &API_KEY) {
        Some(key) => Shown::Credential(Credential::ApiKey(Secret::new(key.trim()))),
        None if headers.contains_key(&API_KEY) => Shown::Unfit,
        None => Shown::Nothing,
    }
}

fn bearer(headers: &HeaderMap) -> Shown {
    let Some(value) = single(headers, &header::AUTHORIZATION) else {
        return if headers.contains_key(header::AUTHORIZATION) { Shown::Unfit } else { Shown::Nothing };
    };
    // Another scheme is for a proxy before us.
    let scheme = value.trim().split(' ').next().unwrap_or_default();
    match bearer_token(value) {
        Some(token) => Shown::Credential(Credential::Bearer(token)),
        None if scheme.eq_ignore_ascii_case("bearer") => Shown::Unfit,
        None => Shown::Nothing,
    }
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
        let twice = [("x-api-key", "a"), ("x-api-key", "b")];
        assert_eq!(read(&twice, ApiKey), "missing");
        // What is meant as a credential and is none is not passed over.
        for preference in [ApiKey, Bearer] {
            assert_eq!(read(&[("x-api-key", ""), ("authorization", "Basic dTpw")], preference), "missing");
            assert_eq!(read(&[("authorization", "Basic dTpw"), ("x-api-key", "k")], preference), "key k");
        }
        assert_eq!(read(&[("x-api-key", ""), ("authorization", "Bearer t")], ApiKey), "missing");
        assert_eq!(read(&[twice[0], twice[1], ("authorization", "Bearer t")], ApiKey), "missing");
        assert_eq!(read(&[("authorization", "Bearer "), ("x-api-key", "k")], Bearer), "missing");
    }

    #[test]
    fn a_ticket_is_there_once() {
        assert!(ticket(Some("a=1&token=abc")).is_some());
        assert!(ticket(Some("token=a&token=b")).is_none());
        assert!(ticket(Some("token=")).is_none());
        assert!(ticket(None).is_none());
    }
}
