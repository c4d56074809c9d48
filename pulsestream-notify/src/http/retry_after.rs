//! `Retry-After` (RFC 9110, section 10.2.3): a number of seconds or a date.

use std::time::{Duration, UNIX_EPOCH};

use pulsestream_core::time::Timestamp;

/// The longest wait that a receiver can ask for: the longest step of the schedule.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Returns how long to wait from `now`, at most [`MAX_RETRY_AFTER`]; `None` when the text says nothing.
pub(crate) fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time too.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Timestamp::from_micros(pulsestream_core::time::micros(at)).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now: Timestamp = "2026-01-31T09:30:00.5Z".parse().unwrap();
        let seconds = |text| parse(text, now).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds(" 120 "), Some(120.0));
        assert_eq!(seconds("Sat, 31 Jan 2026 09:31:00 GMT"), Some(59.5));
        assert_eq!(seconds("Saturday, 31-Jan-26 09:31:00 GMT"), Some(59.5));
        assert_eq!(seconds("Sat Jan 31 09:31:00 2026"), Some(59.5));
        assert_eq!(seconds("Sat, 31 Jan 2026 09:00:00 GMT"), Some(0.0));
        for text in ["86401", "99999999999999999999999999", "Fri, 31 Dec 2286 09:31:00 GMT"] {
            assert_eq!(parse(text, now), Some(MAX_RETRY_AFTER), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "soon", "Sat, 31 Jan 2026 09:31:00 CET"] {
            assert_eq!(parse(text, now), None, "{text}");
        }
    }
}
