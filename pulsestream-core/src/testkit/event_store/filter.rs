//! Filters: every operator selects what the contract of [`Expr`](crate::filter::Expr) says.

use super::probe::Probe;
use crate::event::{Event, FieldPath, JsonObject, Severity, Value};
use crate::filter::{CompareOp, Expr, Filter};
use crate::query::{FindQuery, Order};
use crate::testkit::events::{event, event_with, payload};

/// Events a, b, c, ... with these titles; an event `none` without a title at the end.
async fn titled(probe: &Probe, titles: &[&str]) {
    let letters = "abcdefghijklmnopqrstuvwxyz".chars();
    let mut events: Vec<Event> = (0_i64..)
        .zip(letters.zip(titles))
        .map(|(number, (letter, title))| {
            event_with(&letter.to_string(), number, |event| event.title = Some((*title).into()))
        })
        .collect();
    events.push(event("none", 1_000));
    probe.append(events).await;
}

/// Events a, b, c, ... whose payload has these JSON values under `v`; an event `none` without a payload at the end.
async fn valued(probe: &Probe, values: &[&str]) {
    let letters = "abcdefghijklmnopqrstuvwxyz".chars();
    let mut events: Vec<Event> = (0_i64..)
        .zip(letters.zip(values))
        .map(|(number, (letter, value))| payload(&letter.to_string(), number, &format!(r#"{{"v":{value}}}"#)))
        .collect();
    events.push(event("none", 1_000));
    probe.append(events).await;
}

/// `=` is byte by byte and case-sensitive.
pub(super) async fn filter_equals_text(probe: Probe) {
    titled(&probe, &["shop", "Shop", "shop ", "", "e\u{301}", "\u{e9}"]).await;
    probe
        .assert_matching(&[
            ("title = 'shop'", "a"),
            ("title = 'SHOP'", ""),
            ("title = 'shop '", "c"),
            ("title = ''", "d"),
            ("title = '\u{e9}'", "f"),
            ("title = 'e\u{301}'", "e"),
        ])
        .await;
}

/// `<`, `<=`, `>`, `>=` order text by its bytes, not by a collation; missing is neither.
pub(super) async fn filter_compares_text_by_bytes(probe: Probe) {
    titled(&probe, &["B", "a", "aa", "b", "\u{e9}", "\u{ffff}", "\u{1f980}", ""]).await;
    probe
        .assert_matching(&[
            ("title < 'a'", "a h"),
            ("title <= 'a'", "a b h"),
            ("title > 'a'", "c d e f g"),
            ("title >= 'b'", "d e f g"),
            ("title > '\u{ffff}'", "g"),
            ("title >= ''", "a b c d e f g h"),
            ("title < ''", ""),
            ("title > 'Z' and title < 'aa'", "b"),
        ])
        .await;
}

/// Numbers compare as doubles, in fields with a fixed name and in the payload alike.
pub(super) async fn filter_numbers(probe: Probe) {
    valued(&probe, &["0", "-0.0", "1", "1.0", "1e0", "-3.5", "0.1", "1e300", "null"]).await;
    probe
        .assert_matching(&[
            ("payload.v = 0", "a b"),
            ("payload.v = -0", "a b"),
            ("payload.v = 1", "c d e"),
            ("payload.v < 0", "f"),
            ("payload.v <= 0", "a b f"),
            ("payload.v > 0.1", "c d e h"),
            ("payload.v >= 0.1", "c d e g h"),
            ("payload.v = 0.1", "g"),
            ("payload.v > 1e299", "h"),
            ("payload.v != 1", "a b f g h i none"),
        ])
        .await;
}

/// Booleans have `=`, `!=` and `in`, and are not numbers.
pub(super) async fn filter_booleans(probe: Probe) {
    valued(&probe, &["true", "false", "1", "0", "\"true\"", "null"]).await;
    probe
        .assert_matching(&[
            ("payload.v = true", "a"),
            ("payload.v = false", "b"),
            ("payload.v != true", "b c d e f none"),
            ("payload.v in [true, false]", "a b"),
            ("payload.v = 1", "c"),
        ])
        .await;
    let hit = |name: &str, hit| event_with(name, 2_000, |event| event.metrics.cache_hit = Some(hit));
    probe.append(vec![hit("hit", true), hit("miss", false)]).await;
    probe
        .assert_matching(&[("metrics.cache_hit = true", "hit"), ("metrics.cache_hit = false", "miss")])
        .await;
}

/// Severities compare by rank, not by name.
pub(super) async fn filter_severity(probe: Probe) {
    let events = Severity::ALL
        .map(|severity| event_with(severity.as_str(), severity as i64, |event| event.severity = severity));
    probe.append(events.to_vec()).await;
    probe
        .assert_matching(&[
            ("severity = 'error'", "error"),
            ("severity >= 'warning'", "warning error critical"),
            ("severity > 'error'", "critical"),
            ("severity < 'error'", "info warning"),
            ("severity <= 'info'", "info"),
            ("severity != 'info'", "warning error critical"),
            ("severity in ['critical', 'info']", "info critical"),
            ("exists(severity)", "info warning error critical"),
        ])
        .await;
}

/// `in` is `=` with any of the values; an empty list selects nothing.
pub(super) async fn filter_in_lists(probe: Probe) {
    valued(&probe, &["\"x\"", "\"y\"", "5", "\"5\"", "true", "[5]", "null"]).await;
    probe
        .assert_matching(&[
            ("payload.v in ['x', 'y']", "a b"),
            ("payload.v in ['x', 5, true]", "a c e"),
            ("payload.v in ['5']", "d"),
            ("payload.v in []", ""),
            ("not payload.v in []", "a b c d e f g none"),
            ("not payload.v in ['x', 'y']", "c d e f g none"),
            ("payload.v in ['x', 'x']", "a"),
        ])
        .await;
}

/// `exists` is true for every value but null, empty text and empty containers included.
pub(super) async fn filter_exists(probe: Probe) {
    valued(&probe, &["null", "\"\"", "0", "false", "[]", "{}", "[null]"]).await;
    probe
        .assert_matching(&[
            ("exists(payload.v)", "b c d e f g"),
            ("not exists(payload.v)", "a none"),
            ("exists(payload.w)", ""),
            ("exists(title)", ""),
            ("exists(id)", "a b c d e f g none"),
        ])
        .await;
}

/// `a != x` is exactly `not (a = x)`: true for missing values and for other types.
pub(super) async fn filter_not_equal_is_negation(probe: Probe) {
    valued(&probe, &["\"x\"", "\"y\"", "5", "null", "{}", "[\"x\"]", "true"]).await;
    probe
        .assert_matching(&[
            ("payload.v != 'x'", "b c d e f g none"),
            ("not payload.v = 'x'", "b c d e f g none"),
            ("not payload.v != 'x'", "a"),
            ("payload.v != 5", "a b d e f g none"),
            ("title != 'x'", "a b c d e f g none"),
            ("metrics.status_code != 200", "a b c d e f g none"),
        ])
        .await;
}

/// A comparison with another type is false in both directions; nothing is converted.
pub(super) async fn filter_never_converts_types(probe: Probe) {
    valued(&probe, &["5", "\"5\"", "true", "\"true\"", "[5]", "{\"x\":5}", "\"\"", "null"]).await;
    probe
        .assert_matching(&[
            ("payload.v = 5", "a"),
            ("payload.v = '5'", "b"),
            ("payload.v < 6", "a"),
            ("payload.v >= 5", "a"),
            ("payload.v < '6'", "b g"),
            ("payload.v > ''", "b d"),
            ("payload.v contains '5'", "b"),
            ("payload.v starts_with ''", "b d g"),
            ("payload.v ends_with 'e'", "d"),
            ("payload.v matches '.*'", "b d g"),
            ("not payload.v < 6", "b c d e f g h none"),
            ("not payload.v contains '5'", "a c d e f g h none"),
        ])
        .await;
}

/// `contains` looks for the bytes as they are: no wildcard of any database means anything.
pub(super) async fn filter_contains_is_literal(probe: Probe) {
    titled(
        &probe,
        &[
            "100%",
            "100 percent",
            "a_b",
            "axb",
            r"c:\dir",
            "c:/dir",
            "it's",
            "a.b",
            "[x]",
            "*",
            "",
            "\"q\"",
            "%_\\",
        ],
    )
    .await;
    let contains = async |text: &str| {
        let expr = Expr::compare(FieldPath::Title, CompareOp::Contains, text);
        let query = FindQuery {
            filter: Some(Filter::new(expr).expect("a valid filter")),
            order: Order::OldestFirst,
            ..FindQuery::default()
        };
        probe.ids(query).await.join("")
    };
    for (text, expected) in [
        ("%", "am"),
        ("0%", "a"),
        ("a_b", "c"),
        ("_", "cm"),
        ("\\", "em"),
        (":\\d", "e"),
        ("'", "g"),
        (".", "h"),
        ("[x]", "i"),
        ("*", "j"),
        ("\"", "l"),
        ("%_\\", "m"),
        ("", "abcdefghijklm"),
        ("A", ""),
        ("percent of", ""),
    ] {
        assert_eq!(contains(text).await, expected, "titles that contain {text:?}");
    }
}

/// Texts that mean something to a database: quotes, comments and placeholders, with what an attacker puts after them.
fn hostile_texts() -> Vec<String> {
    const OPENING: [&str; 20] = [
        "'", "\"", "')", "';", "`", "\\", "\\'", "%", "$1", "?", ":id", "/*", "--", "}'", "[0]", "$$", "%27",
        "\u{2019}", "'||'", "E'\\x27",
    ];
    const FOLLOWING: [&str; 15] = [
        "",
        " or 1=1 --",
        " or 'a'='a",
        ") or (true",
        "; drop table events; --",
        " union select null, null --",
        "||pg_sleep(9)||",
        " and (select 1 from pg_sleep(9)) --",
        "*/ or true /*",
        "::regclass",
        " limit 0; commit; --",
        "$$; rollback; $$",
        "\n--\n or true",
        "}' @> '{}",
        " like '%' escape '",
    ];
    OPENING.iter().flat_map(|open| FOLLOWING.iter().map(move |rest| format!("{open}{rest}"))).collect()
}

/// No value and no name of a payload path is ever read as a part of a statement.
pub(super) async fn filter_hostile_texts_are_only_texts(probe: Probe) {
    let texts = hostile_texts();
    let events = (0_i64..).zip(&texts).map(|(number, text)| {
        let value = serde_json::json!({ text.as_str(): text });
        event_with(&number.to_string(), number, |event| {
            event.title = Some(text.as_str().into());
            event.payload = JsonObject::from_value(&value).expect("an object");
        })
    });
    probe.append(events.collect()).await;
    let matching = async |field: FieldPath, op: CompareOp, text: &str| {
        let filter = Filter::new(Expr::compare(field, op, text)).expect("a valid filter");
        let query = FindQuery {
            filter: Some(filter),
            limit: 1_000,
            order: Order::OldestFirst,
            ..FindQuery::default()
        };
        probe.ids(query).await
    };
    for (number, text) in texts.iter().enumerate() {
        let only = [number.to_string()];
        assert_eq!(matching(FieldPath::Title, CompareOp::Eq, text).await, only, "titles equal to {text:?}");
        let path = FieldPath::Payload(vec![text.as_str().into()]);
        assert_eq!(matching(path, CompareOp::Eq, text).await, only, "payloads with {text:?}");
        if number % 10 == 0 {
            let holding = texts.iter().enumerate().filter(|(_, other)| other.contains(text.as_str()));
            let holding: Vec<_> = holding.map(|(number, _)| number.to_string()).collect();
            let found = matching(FieldPath::Title, CompareOp::Contains, text).await;
            assert_eq!(found, holding, "titles that contain {text:?}");
        }
    }
}

/// `starts_with` and `ends_with` are literal and case-sensitive too.
pub(super) async fn filter_starts_and_ends_literally(probe: Probe) {
    titled(&probe, &["%abc", "_abc", "abc", "ABC", "abc%", "abc\\", "ab", "\u{1f980}abc\u{1f980}", ""]).await;
    probe
        .assert_matching(&[
            ("title starts_with '%'", "a"),
            ("title starts_with '_'", "b"),
            ("title starts_with 'abc'", "c e f"),
            ("title starts_with 'AB'", "d"),
            ("title ends_with '%'", "e"),
            (r"title ends_with '\\'", "f"),
            ("title ends_with 'abc'", "a b c"),
            ("title starts_with '\u{1f980}' and title ends_with '\u{1f980}'", "h"),
            ("title starts_with ''", "a b c d e f g h i"),
            ("title starts_with 'abcd'", ""),
        ])
        .await;
}

/// `matches` searches anywhere, with the dialect of the `regex` crate, Unicode on.
pub(super) async fn filter_matches_is_a_regex(probe: Probe) {
    titled(
        &probe,
        &["order 17 failed", "ORDER 18", "order x", "a\nb", "gr\u{fc}n", "\u{1f980}", "", "a.b", "aXb"],
    )
    .await;
    let matches = async |pattern: &str| {
        let expr = Expr::compare(FieldPath::Title, CompareOp::Matches, pattern);
        let query = FindQuery {
            filter: Some(Filter::new(expr).expect("a valid filter")),
            order: Order::OldestFirst,
            ..FindQuery::default()
        };
        probe.ids(query).await.join("")
    };
    for (pattern, expected) in [
        (r"order \d+", "a"),
        (r"(?i)order \d+", "ab"),
        (r"^order", "ac"),
        (r"\d$", "b"),
        (r"a.b", "hi"),
        (r"(?s)a.b", "dhi"),
        (r"a\.b", "h"),
        (r"^gr\w+n$", "e"),
        (r"^.$", "f"),
        (r"\x{1f980}", "f"),
        (r"^$", "g"),
        (r"\p{Lu}", "bi"),
        (r"(?m)^b$", "d"),
        (r"failed|x$", "ac"),
        (r"\bx\b", "c"),
        (r"[[:digit:]]{2}", "ab"),
        ("", "abcdefghi"),
    ] {
        assert_eq!(matches(pattern).await, expected, "titles that match {pattern:?}");
    }
}

/// A quoted text alone searches title and message, ignoring the case of ASCII letters only, literally.
pub(super) async fn filter_free_text(probe: Probe) {
    let both = |name: &str, seconds, title: Option<&str>, message: Option<&str>| {
        event_with(name, seconds, |event| {
            event.title = title.map(Into::into);
            event.message = message.map(Into::into);
            event.source.service = Some("timeout".into());
        })
    };
    probe
        .append(vec![
            both("a", 0, Some("Upstream TIMEOUT"), None),
            both("b", 1, None, Some("a timeout happened")),
            both("c", 2, Some("time"), Some("out")),
            both("d", 3, Some("GR\u{dc}N"), Some("100% of_it")),
            both("e", 4, Some("gr\u{fc}n"), None),
            both("f", 5, None, None),
        ])
        .await;
    probe
        .assert_matching(&[
            ("'timeout'", "a b"),
            ("'TimeOut'", "a b"),
            ("'timeout' and 'upstream'", "a"),
            ("'gr\u{fc}n'", "e"),
            ("'GR\u{fc}N'", "e"),
            ("'0% OF_'", "d"),
            ("'_'", "d"),
            ("'%'", "d"),
            ("not 'timeout'", "c d e f"),
            ("''", "a b c d e"),
        ])
        .await;
}

/// `and`, `or`, `not` nest and bind as written, with missing values on any side.
pub(super) async fn filter_connectives(probe: Probe) {
    let pair = |name: &str, seconds, service: Option<&str>, status: Option<u16>| {
        event_with(name, seconds, |event| {
            event.source.service = service.map(Into::into);
            event.metrics.status_code = status;
        })
    };
    probe
        .append(vec![
            pair("a", 0, Some("shop"), Some(500)),
            pair("b", 1, Some("shop"), Some(200)),
            pair("c", 2, Some("blog"), Some(500)),
            pair("d", 3, None, Some(500)),
            pair("e", 4, Some("shop"), None),
            pair("f", 5, None, None),
        ])
        .await;
    let shop = "source.service = 'shop'";
    let failed = "metrics.status_code >= 500";
    probe
        .assert_matching(&[
            (&format!("{shop} and {failed}"), "a"),
            (&format!("{shop} or {failed}"), "a b c d e"),
            (&format!("not {shop} and {failed}"), "c d"),
            (&format!("not ({shop} and {failed})"), "b c d e f"),
            (&format!("not ({shop} or {failed})"), "f"),
            (&format!("not not {shop}"), "a b e"),
            (&format!("{shop} and ({failed} or not exists(metrics.status_code))"), "a e"),
            (&format!("{shop} and {failed} or source.service = 'blog'"), "a c"),
            ("true", "a b c d e f"),
            ("not true", ""),
        ])
        .await;
}

/// Text beyond ASCII and beyond the basic plane is text like other.
pub(super) async fn filter_unicode(probe: Probe) {
    titled(
        &probe,
        &["\u{1f980}", "\u{1f981}", "a\u{1f980}b", "\u{e9}t\u{e9}", "\u{4e2d}\u{6587}", "\u{202e}x"],
    )
    .await;
    probe
        .assert_matching(&[
            ("title = '\u{1f980}'", "a"),
            ("title contains '\u{1f980}'", "a c"),
            ("title starts_with '\u{e9}'", "d"),
            ("title ends_with '\u{6587}'", "e"),
            ("title in ['\u{1f981}', '\u{4e2d}\u{6587}']", "b e"),
            ("'\u{1f980}'", "a c"),
            ("title contains '\u{202e}'", "f"),
        ])
        .await;
}

/// A list of a thousand values is one predicate.
pub(super) async fn filter_big_in_list(probe: Probe) {
    probe.append((0..50).map(|number| event(&format!("e{number:04}"), number)).collect()).await;
    let values: Vec<Value> =
        (0..1_000).map(|number| Value::from(format!("e{:04}", number * 7).as_str())).collect();
    let expr = Expr::In { field: FieldPath::Id, values };
    let query = FindQuery {
        filter: Some(Filter::new(expr).expect("a thousand values are allowed")),
        order: Order::OldestFirst,
        ..FindQuery::default()
    };
    let expected = ["e0000", "e0007", "e0014", "e0021", "e0028", "e0035", "e0042", "e0049"];
    assert_eq!(probe.ids(query).await, expected);
}

/// Integers up to 2^53 are told apart; beyond it the nearest double counts.
pub(super) async fn filter_integers_up_to_2_53(probe: Probe) {
    valued(&probe, &["9007199254740991", "9007199254740992", "9007199254740990", "-9007199254740991"]).await;
    probe
        .assert_matching(&[
            ("payload.v = 9007199254740991", "a"),
            ("payload.v = 9007199254740992", "b"),
            ("payload.v > 9007199254740990", "a b"),
            ("payload.v = -9007199254740991", "d"),
        ])
        .await;
}
