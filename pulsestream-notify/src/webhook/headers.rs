//! Headers that a channel adds to its requests.

use pulsestream_core::FieldError;
use pulsestream_core::alerting::SecretText;
use pulsestream_core::text::Text;
use reqwest::header::{HeaderName, HeaderValue};

/// How many bytes names and values of a channel's headers have together, at most.
pub(super) const MAX_HEADER_BYTES: usize = 8_192;

// Headers that frame the message or belong to the connection (RFC 9110), that we set, and that claim who is asking.
const FORBIDDEN: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "metadata",
    "metadata-flavor",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-real-ip",
];
const FORBIDDEN_PREFIXES: [&str; 5] = ["webhook-", "x-forwarded-", "x-aws-ec2-", "x-google-metadata", "sec-"];

/// Reads the headers of a channel.
///
/// # Errors
/// A field error for each header that is not allowed; it names the header, never its value.
pub(super) fn read(
    headers: &[(Text, SecretText)],
) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<FieldError>> {
    let mut read: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(headers.len());
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (index, (name, value)) in headers.iter().enumerate() {
        bytes += name.len() + value.expose().len();
        let pointer = || format!("/config/headers/{index}");
        let mut refuse =
            |code: &'static str, message: String| errors.push(FieldError::new(pointer(), code, message));
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            refuse("invalid_header", "the name is no header name".into());
            continue;
        };
        let is_ascii = value.expose().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let Some(mut value) = HeaderValue::from_str(value.expose()).ok().filter(|_| is_ascii) else {
            refuse("invalid_header", format!("the value of {parsed} must be printable ASCII"));
            continue;
        };
        if is_forbidden(parsed.as_str()) {
            refuse("forbidden_header", format!("{parsed} cannot be set"));
        } else if read.iter().any(|(other, _)| *other == parsed) {
            refuse("duplicate_header", format!("{parsed} is set twice"));
        } else {
            value.set_sensitive(true);
            read.push((parsed, value));
        }
    }
    if bytes > MAX_HEADER_BYTES {
        errors.push(FieldError::new(
            "/config/headers",
            "too_large",
            format!("must have at most {MAX_HEADER_BYTES} bytes together"),
        ));
    }
    if errors.is_empty() { Ok(read) } else { Err(errors) }
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.contains(&name) || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, value: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<FieldError>> {
        read(&[(name.into(), SecretText::new(value))])
    }

    #[test]
    fn ordinary_headers_are_taken_and_their_values_hidden() {
        let headers = read_one("Authorization", "Bearer canary").unwrap();
        assert_eq!(headers[0].0, "authorization");
        assert!(!format!("{headers:?}").contains("canary"));
        read_one("X-Team", "ops").unwrap();
        read_one("Cookie", "a=b").unwrap();
    }

    #[test]
    fn headers_that_are_ours_or_unsafe_are_refused() {
        for name in FORBIDDEN {
            assert!(read_one(&name.to_uppercase(), "x").is_err(), "{name}");
        }
        for name in [
            "Webhook-Id",
            "webhook-signature",
            "X-Forwarded-For",
            "X-aws-ec2-metadata-token",
            "Sec-Fetch-Mode",
        ] {
            assert!(read_one(name, "x").is_err(), "{name}");
        }
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:b", "x"),
            ("a\r\nb", "x"),
            ("h\u{e4}", "x"),
            ("a", "x\r\nhost: y"),
            ("a", "x\0"),
            ("a", "x\u{2028}canary"),
        ] {
            let errors = read_one(name, value).unwrap_err();
            assert!(!format!("{errors:?}").contains("canary"));
        }
    }

    #[test]
    fn headers_are_set_once_and_are_limited() {
        let pair = |name: &str, bytes| (Text::from(name), SecretText::new("x".repeat(bytes)));
        assert!(read(&[pair("a", 1), pair("A", 1)]).is_err());
        assert!(read(&[pair("a", MAX_HEADER_BYTES - 1)]).is_ok());
        assert!(read(&[pair("a", MAX_HEADER_BYTES)]).is_err());
    }
}
