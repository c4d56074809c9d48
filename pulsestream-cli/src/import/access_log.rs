//! Apache and nginx access logs in the combined (or common) format.
//!
//! Format: <https://httpd.apache.org/docs/current/logs.html#combined>, and after it, as nginx is often set up, the request time
//! in seconds.

use pulsestream_core::event::{Event, JsonObject, Severity};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;

/// Reads one line; `None` when it is in another format.
pub(super) fn parse_line(line: &str, id: EventId, service: &str) -> Option<Event> {
    let (address, rest) = line.split_once(' ')?;
    let (_identity, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    let (request, rest) = quoted(rest)?;
    let mut words = rest.trim_start().splitn(3, ' ');
    let status: u16 = words.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let bytes: Option<u64> = match words.next()? {
        "-" => None,
        digits => Some(digits.parse().ok()?),
    };
    let rest = words.next().unwrap_or_default();
    let (referrer, rest) = quoted(rest).unwrap_or_default();
    let (user_agent, rest) = quoted(rest.trim_start()).unwrap_or_default();

    let mut event = Event::new(id, "api_call", parse_time(time)?);
    let mut parts = request.split(' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (endpoint, query) = target.split_once('?').unwrap_or((target, ""));
    event.severity = match status {
        500.. => Severity::Error,
        400.. => Severity::Warning,
        _ => Severity::Info,
    };
    event.title = Some(Text::from(cut(&format!("{method} {endpoint} {status}"), 200)));
    event.source.service = Some(Text::from(service));
    event.source.endpoint = present(cut(endpoint, 500));
    event.source.method = present(cut(method, 10));
    event.context.ip_address = present(cut(address, 64));
    event.context.user_id = present(cut(user, 128));
    event.context.referrer = present(cut(&referrer, 500));
    event.context.user_agent = present(cut(&user_agent, 500));
    event.metrics.status_code = Some(status);
    event.metrics.response_size_bytes = bytes;
    event.metrics.response_time_ms = request_seconds(rest).map(|seconds| seconds * 1_000.0);
    if !query.is_empty() {
        let payload = serde_json::json!({ "query": query }).to_string();
        event.payload = JsonObject::parse(&payload).ok()?;
    }
    Some(event)
}

/// Returns the text between double quotes at the start, its escapes undone, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut content = String::new();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((content, &text[at + 2..])),
            '\\' => match chars.next()?.1 {
                // Apache and nginx write other bytes as \xhh: kept as they stand, so that nothing is lost.
                'x' => content.push_str("\\x"),
                't' => content.push('\t'),
                'n' => content.push('\n'),
                other => content.push(other),
            },
            other => content.push(other),
        }
    }
    None
}

/// Reads `10/Oct/2000:13:55:36 -0700`.
fn parse_time(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, rest) = text.split_once(':')?;
    let (time, offset) = rest.split_once(' ')?;
    let mut parts = date.split('/');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day:0>2}T{time}{offset}").parse().ok()
}

fn request_seconds(text: &str) -> Option<f64> {
    text.split_whitespace()
        .next()
        .map(|word| word.trim_matches('"'))
        .filter(|word| word.contains('.'))
        .and_then(|word| word.parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && (0.0..1e6).contains(seconds))
}

fn present(text: &str) -> Option<Text> {
    (!text.is_empty() && text != "-").then(|| Text::from(text))
}

/// Returns the first `limit` bytes at most, without cutting a character.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Event> {
        parse_line(line, EventId::new("x").unwrap(), "web")
    }

    #[test]
    fn combined_line() {
        let line = r#"203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a/b?q=1 HTTP/1.0" 200 2326 "http://e.example/" "Mozilla/4.08 \"x\"" 0.250"#;
        let event = parse(line).unwrap();
        assert_eq!(event.timestamp.to_string(), "2000-10-10T20:55:36Z");
        assert_eq!(event.source.endpoint.as_deref(), Some("/a/b"));
        assert_eq!(event.context.user_id.as_deref(), Some("frank"));
        assert_eq!(event.context.user_agent.as_deref(), Some("Mozilla/4.08 \"x\""));
        assert_eq!(event.metrics.response_size_bytes, Some(2_326));
        assert_eq!(event.metrics.response_time_ms, Some(250.0));
        assert_eq!(event.payload.as_str(), r#"{"query":"q=1"}"#);
    }

    #[test]
    fn common_line_without_agent_and_with_dashes() {
        let event = parse(r#"::1 - - [01/Jan/2026:00:00:00 +0000] "POST /x HTTP/1.1" 503 -"#).unwrap();
        assert_eq!((event.severity, event.metrics.response_size_bytes), (Severity::Error, None));
        assert_eq!(event.context.user_id, None);
    }

    #[test]
    fn broken_requests_are_kept_and_other_text_is_refused() {
        let event =
            parse(r#"198.51.100.7 - - [01/Jan/2026:00:00:00 +0000] "\x16\x03\x01" 400 226 "-" "-""#).unwrap();
        assert_eq!(event.source.method.as_deref(), Some("\\x16\\x03\\x"));
        for line in [
            "",
            "hello",
            r#"a - - [nope] "GET / HTTP/1.1" 200 1"#,
            r#"a - - [01/Jan/2026:00:00:00 +0000] "GET"#,
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
    }
}
