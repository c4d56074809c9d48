//! What people read when a filter is wrong.

use std::fmt::Write;

use pulsestream_core::event::FieldPath;
use pulsestream_core::filter::{CompareOp, Expr, MAX_IN_VALUES, MAX_PREDICATES, MAX_REGEX_BYTES};
use pulsestream_core::{ErrorKind, Filter};

const WRONG: &[&str] = &[
    "",
    "   \t",
    "severty = 'error'",
    "service = 'shop'",
    "source.servise = 'shop'",
    "source = 'shop'",
    "context = 'x'",
    "payload = 1",
    "context.tags = 'eu'",
    "timestamp > 5",
    "severity == 'error'",
    "severity = error",
    "severity = 'eror'",
    "severity contains 'err'",
    "metrics.status_code >= 'x'",
    "metrics.status_code starts_with '5'",
    "metrics.cache_hit > true",
    "metrics.cache_hit and severity = 'error'",
    "title = 5",
    "payload.plan contains 5",
    "payload.flag < true",
    "payload.plan = null",
    "payload.a = payload.b",
    "payload.plan in 'free'",
    "payload.plan in ('free', 'pro')",
    "payload.plan in ['free' 'pro']",
    "payload.plan in ['free', ",
    "payload.plan in ['free'",
    "payload.plan = ['free']",
    "title containz 'x'",
    "title like 'x'",
    "payload.n between 1 and 2",
    "title not = 'x'",
    "title = 'a' && title = 'b'",
    "title = 'a' adn title = 'b'",
    "title = 'a' or or title = 'b'",
    "title = 'a' title = 'b'",
    "!(title = 'a')",
    "'timeout' = 'x'",
    "500 = metrics.status_code",
    "(title = 'a' or (title = 'b'",
    "title = 'a')",
    "()",
    "title = 'unfinished",
    "payload.\"unfinished = 1",
    "title = 'a\\d'",
    "title = '\\u{110000}'",
    "title = \u{201c}a\u{201d}",
    "metrics.response_time_ms > 500ms",
    "metrics.response_time_ms > 1e999",
    "title matches '(a'",
    "title matches '\\\\w{900}{900}'",
    "exists error.code",
    "exists(5)",
    "exists(error.code",
    "title exist",
    "title",
    "false",
    "title = 'caf\u{e9}' and caf\u{e9} = 1",
    "title = 'a'\n  and metrics.status_code = '500'\n  and severity = 'error'",
    "title = 'a'; drop table events",
];

#[test]
fn messages_point_at_the_place() {
    let mut page = String::new();
    for text in WRONG {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let [field] = error.fields() else { panic!("{text}: one field error") };
        let context: Vec<_> = error.context().iter().map(|(key, value)| format!("{key}={value}")).collect();
        writeln!(page, "{}\n  [{}] {}\n", error.message(), field.code, context.join(" ")).unwrap();
    }
    insta::assert_snapshot!(page);
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let many: Vec<_> = (0..40).map(|index| format!("payload.field_{index} = {index}")).collect();
    let text = format!("{} and oops = 1 and {}", many.join(" and "), many[..5].join(" and "));
    let error = Filter::parse(&text).unwrap_err();
    let lines: Vec<_> = error.message().lines().collect();
    assert!(lines[1].chars().count() < 140, "{error}");
    let caret = lines[2].find('^').unwrap();
    assert!(lines[1][caret..].starts_with("oops"), "{error}");
}

#[test]
fn nesting_has_a_limit_and_no_stack_overflow() {
    let code = |text: &str| Filter::parse(text).unwrap_err().fields()[0].code.to_string();
    for levels in [33, 10_000, 1_000_000] {
        assert_eq!(code(&format!("{}title exists{}", "(".repeat(levels), ")".repeat(levels))), "too_deep");
        assert_eq!(code(&"(".repeat(levels)), "too_deep");
        assert_eq!(code(&format!("{}title exists", "not ".repeat(levels))), "too_deep");
    }
    Filter::parse(&format!("{}title exists{}", "(".repeat(32), ")".repeat(32))).unwrap();
    Filter::parse(&format!("{}title exists", "not ".repeat(32))).unwrap();

    let mut deep = Expr::Exists(FieldPath::Title);
    for _ in 0..33 {
        deep = Expr::Not(Box::new(deep));
    }
    assert_eq!(Filter::new(deep).unwrap_err().fields()[0].code, "too_deep");
    let json = format!("{}true{}", r#"{"not":"#.repeat(33), "}".repeat(33));
    assert!(serde_json::from_str::<Filter>(&json).unwrap_err().to_string().contains("nested too deep"));
}

#[test]
fn counts_have_limits() {
    let repeated = |count: usize| vec!["title exists"; count].join(" and ");
    Filter::parse(&repeated(MAX_PREDICATES)).unwrap();
    let error = Filter::parse(&repeated(MAX_PREDICATES + 1)).unwrap_err();
    assert!(error.message().starts_with("too many predicates: at most 64"), "{error}");
    let exprs = vec![Expr::Text("x".into()); MAX_PREDICATES + 1];
    assert_eq!(Filter::new(Expr::Or(exprs)).unwrap_err().fields()[0].code, "too_many");

    let list = |count: usize| format!("payload.n in [{}]", vec!["1"; count].join(","));
    Filter::parse(&list(MAX_IN_VALUES)).unwrap();
    let error = Filter::parse(&list(MAX_IN_VALUES + 1)).unwrap_err();
    assert!(error.message().starts_with("too many values: `in` takes at most 1000"), "{error}");

    let pattern = |length: usize| format!("title matches '{}'", "a".repeat(length));
    Filter::parse(&pattern(MAX_REGEX_BYTES)).unwrap();
    assert_eq!(Filter::parse(&pattern(MAX_REGEX_BYTES + 1)).unwrap_err().fields()[0].code, "regex");
}

#[test]
fn expressions_built_by_hand_are_checked_alike() {
    let code = |expr: Expr| Filter::new(expr).unwrap_err().fields()[0].code.to_string();
    let number = |field, number: f64| Expr::compare(field, CompareOp::Eq, number);
    assert_eq!(code(number(FieldPath::Title, 5.0)), "wrong_type");
    assert_eq!(code(number(FieldPath::StatusCode, f64::NAN)), "wrong_type");
    assert_eq!(code(number(FieldPath::Payload(vec![]), 1.0)), "unknown_field");
    assert_eq!(code(number(FieldPath::Payload(vec!["a".into(); 40]), 1.0)), "unknown_field");
    assert_eq!(code(Expr::compare(FieldPath::Severity, CompareOp::Ge, "fatal")), "unknown_value");
    assert_eq!(code(Expr::compare(FieldPath::Title, CompareOp::Matches, "(")), "regex");
    let missing = Expr::Compare {
        field: FieldPath::Payload(vec!["a".into()]),
        op: CompareOp::Eq,
        value: pulsestream_core::event::Value::Missing,
    };
    assert_eq!(code(missing), "wrong_type");
}

#[test]
fn json_errors_name_the_pointer() {
    let mut page = String::new();
    for json in [
        "false",
        "[]",
        "{}",
        r#"{"and": 5}"#,
        r#"{"and": [true, {"or": [{"field": "severty", "op": "=", "value": 1}]}]}"#,
        r#"{"nto": true}"#,
        r#"{"and": [], "or": []}"#,
        r#"{"field": "title", "op": "==", "value": "x"}"#,
        r#"{"field": "title", "op": "="}"#,
        r#"{"field": "title", "operator": "=", "value": "x"}"#,
        r#"{"not": {"field": "metrics.status_code", "op": ">=", "value": "500"}}"#,
        r#"{"field": "metrics.status_code", "op": "matches", "value": "500"}"#,
        r#"{"field": "payload.plan", "op": "in", "value": ["free", null]}"#,
        r#"{"field": "payload.plan", "op": "in", "value": "free"}"#,
        r#"{"field": "payload.plan", "op": "=", "value": {}}"#,
        r#"{"field": "payload.plan", "op": "exists", "value": true}"#,
        r#"{"text": 5}"#,
        r#""severity = error""#,
    ] {
        let error = Filter::from_json(&serde_json::from_str(json).unwrap()).expect_err(json);
        let [field] = error.fields() else { panic!("{json}: one field error") };
        writeln!(page, "{json}\n  [{}] {:?}: {}\n", field.code, field.pointer, error.message()).unwrap();
    }
    insta::assert_snapshot!(page);
}
