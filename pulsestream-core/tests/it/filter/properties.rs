//! Random expressions: their forms round-trip, and the compiled filter agrees with a naive reading of the contract.

use proptest::prelude::*;
use proptest::sample::select;
use pulsestream_core::Filter;
use pulsestream_core::event::{ErrorDetails, Event, FieldPath, JsonObject, Severity, Value};
use pulsestream_core::filter::{CompareOp, Expr};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use serde_json::Value as Json;

/// Few words, so that comparisons hit, with the characters that need escapes.
const WORDS: [&str; 12] =
    ["", "a", "A", "ab", "b", "abba", "it's", "\"q\"", "back\\slash", "line\nbreak", "\u{fc}", "5"];
const NUMBERS: [f64; 8] = [0.0, -0.0, 1.0, -1.5, 5.0, 499.0, 500.0, 1e300];
const PATTERNS: [&str; 6] = ["a", "^a", "b$", "(?i)A.*a", "[^a-z]", "\\d\\\\?"];
const NAMES: [&str; 5] = ["info", "warning", "error", "critical", "error"];
const KEYS: [&str; 5] = ["a", "b", "a b", "0", "q\"\\"];

fn word() -> impl Strategy<Value = Text> {
    prop_oneof![9 => select(&WORDS[..]).prop_map(Text::from), 1 => any::<String>().prop_map(Text::from)]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![9 => select(&NUMBERS[..]), 1 => any::<f64>().prop_filter("finite", |number| number.is_finite())]
}

fn scalar() -> BoxedStrategy<Value> {
    prop_oneof![
        word().prop_map(Value::Text),
        number().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Bool)
    ]
    .boxed()
}

fn text_field() -> impl Strategy<Value = FieldPath> {
    let tag = select(&KEYS[..]).prop_map(|key| FieldPath::Tag(Text::from(key)));
    let fixed = select(vec![
        FieldPath::EventType,
        FieldPath::Title,
        FieldPath::Message,
        FieldPath::SourceService,
        FieldPath::UserId,
        FieldPath::ErrorCode,
    ]);
    prop_oneof![5 => fixed, 1 => tag]
}

fn any_field() -> impl Strategy<Value = FieldPath> {
    let path = || prop::collection::vec(select(&KEYS[..]).prop_map(Text::from), 1..3);
    prop_oneof![3 => path().prop_map(FieldPath::Payload), 1 => path().prop_map(FieldPath::Metadata)]
}

/// A field of any type with literals that it takes, orderings included when `ordered`.
fn typed() -> impl Strategy<Value = (FieldPath, BoxedStrategy<Value>, bool)> {
    prop_oneof![
        4 => text_field().prop_map(|field| (field, word().prop_map(Value::Text).boxed(), true)),
        2 => select(vec![FieldPath::StatusCode, FieldPath::ResponseTimeMs])
            .prop_map(|field| (field, number().prop_map(Value::Number).boxed(), true)),
        1 => Just((FieldPath::CacheHit, any::<bool>().prop_map(Value::Bool).boxed(), false)),
        2 => Just((FieldPath::Severity, select(&NAMES[..]).prop_map(Value::from).boxed(), true)),
        4 => any_field().prop_map(|field| (field, scalar(), false)),
        2 => any_field().prop_map(|field| (field, number().prop_map(Value::Number).boxed(), true)),
        2 => any_field().prop_map(|field| (field, word().prop_map(Value::Text).boxed(), true)),
    ]
}

fn leaf() -> impl Strategy<Value = Expr> {
    let compare = typed().prop_flat_map(|(field, value, ordered)| {
        let ops = &CompareOp::ALL[..if ordered { 6 } else { 2 }];
        (select(ops), value).prop_map(move |(op, value)| Expr::Compare { field: field.clone(), op, value })
    });
    let text_ops = vec![CompareOp::Contains, CompareOp::StartsWith, CompareOp::EndsWith];
    let text = (prop_oneof![text_field(), any_field()], select(text_ops), word())
        .prop_map(|(field, op, text)| Expr::Compare { field, op, value: Value::Text(text) });
    let regex = (prop_oneof![text_field(), any_field()], select(&PATTERNS[..]))
        .prop_map(|(field, pattern)| Expr::compare(field, CompareOp::Matches, pattern));
    let list = typed().prop_flat_map(|(field, value, _)| {
        prop::collection::vec(value, 0..14).prop_map(move |values| Expr::In { field: field.clone(), values })
    });
    let exists = typed().prop_map(|(field, _, _)| Expr::Exists(field));
    prop_oneof![
        8 => compare, 3 => text, 2 => regex, 4 => list, 2 => exists,
        2 => word().prop_map(Expr::Text), 1 => Just(Expr::True)
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    leaf().prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expr::Or),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number().prop_map(Json::from),
        select(&WORDS[..]).prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from), object(inner)]
    })
}

fn object(value: impl Strategy<Value = Json> + 'static) -> impl Strategy<Value = Json> {
    let entry = (select(&KEYS[..]).prop_map(String::from), value);
    prop::collection::vec(entry, 0..4).prop_map(|entries| Json::Object(entries.into_iter().collect()))
}

fn event() -> impl Strategy<Value = Event> {
    let text = || prop::option::of(select(&WORDS[..]).prop_map(Text::from));
    let tags = prop::collection::vec((select(&KEYS[..]), select(&WORDS[..])), 0..3);
    let metrics = (
        prop::option::of(prop_oneof![Just(499_u16), Just(500)]),
        prop::option::of(number()),
        prop::option::of(any::<bool>()),
    );
    let texts = (text(), text(), text(), text(), text());
    (texts, select(&Severity::ALL[..]), tags, metrics, object(json()), object(json())).prop_map(
        |((title, message, service, user, code), severity, tags, metrics, payload, metadata)| {
            let mut event = Event::new(EventId::new("e").unwrap(), "a", Timestamp::from_seconds(0));
            (event.title, event.message, event.source.service, event.context.user_id) =
                (title, message, service, user);
            event.error = code.map(|code| Box::new(ErrorDetails { code: Some(code), ..Default::default() }));
            event.severity = severity;
            event.context.tags = tags.into_iter().collect();
            (event.metrics.status_code, event.metrics.response_time_ms, event.metrics.cache_hit) = metrics;
            event.payload = JsonObject::parse(&payload.to_string()).unwrap();
            event.metadata = JsonObject::parse(&metadata.to_string()).unwrap();
            event
        },
    )
}

/// The value at a path, found in the event's JSON form.
fn look_up<'a>(event: &'a Json, field: &FieldPath) -> &'a Json {
    let base = field.base_name().split('.');
    base.chain(field.segments().iter().map(Text::as_str)).fold(event, |found, key| match found {
        Json::Array(items) => {
            key.parse::<usize>().ok().and_then(|index| items.get(index)).unwrap_or(&Json::Null)
        }
        other => other.get(key).unwrap_or(&Json::Null),
    })
}

fn rank(name: &str) -> Option<usize> {
    Severity::ALL.iter().position(|severity| severity.as_str() == name)
}

/// `Expr` read sentence by sentence.
fn naive(expr: &Expr, event: &Json) -> bool {
    match expr {
        Expr::True => true,
        Expr::And(parts) => parts.iter().all(|part| naive(part, event)),
        Expr::Or(parts) => parts.iter().any(|part| naive(part, event)),
        Expr::Not(inner) => !naive(inner, event),
        Expr::Exists(field) => !look_up(event, field).is_null(),
        Expr::In { field, values } => values
            .iter()
            .any(|value| naive(&Expr::compare(field.clone(), CompareOp::Eq, value.clone()), event)),
        Expr::Text(text) => ["title", "message"].iter().any(|key| {
            let found = event.get(key).and_then(Json::as_str);
            found.is_some_and(|found| found.to_ascii_lowercase().contains(&text.to_ascii_lowercase()))
        }),
        Expr::Compare { field, op: CompareOp::Ne, value } => {
            !naive(&Expr::compare(field.clone(), CompareOp::Eq, value.clone()), event)
        }
        Expr::Compare { field, op, value } => {
            let ordering = match (look_up(event, field), value) {
                (Json::String(found), Value::Text(text)) if *field == FieldPath::Severity => {
                    rank(found).partial_cmp(&rank(text))
                }
                (Json::String(found), Value::Text(text)) => match op {
                    CompareOp::Contains => return found.contains(text.as_str()),
                    CompareOp::StartsWith => return found.starts_with(text.as_str()),
                    CompareOp::EndsWith => return found.ends_with(text.as_str()),
                    CompareOp::Matches => return regex::Regex::new(text).unwrap().is_match(found),
                    _ => found.as_bytes().partial_cmp(text.as_bytes()),
                },
                (Json::Number(found), Value::Number(number)) => found.as_f64().unwrap().partial_cmp(number),
                (Json::Bool(found), Value::Bool(value)) => found.partial_cmp(value),
                _ => None,
            };
            ordering.is_some_and(|ordering| match op {
                CompareOp::Eq => ordering.is_eq(),
                CompareOp::Lt => ordering.is_lt(),
                CompareOp::Le => ordering.is_le(),
                CompareOp::Gt => ordering.is_gt(),
                CompareOp::Ge => ordering.is_ge(),
                _ => false,
            })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_and_json_read_back(expr in expr()) {
        let filter = Filter::new(expr).unwrap();
        prop_assert_eq!(&Filter::parse(&filter.to_string()).unwrap(), &filter);
        prop_assert_eq!(&Filter::new(filter.expr().clone()).unwrap(), &filter);
        let json = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Filter>(&json).unwrap(), &filter);
    }

    #[test]
    fn evaluation_agrees_with_the_contract(expr in expr(), events in prop::collection::vec(event(), 1..8)) {
        let filter = Filter::new(expr.clone()).unwrap();
        for event in events {
            let json = serde_json::to_value(&event).unwrap();
            let expected = naive(&expr, &json);
            prop_assert_eq!(filter.matches(&event), expected, "{} on {}", filter, json);
            prop_assert_eq!(naive(filter.expr(), &json), expected, "canonical form of {}", expr);
            if expected {
                for (field, values) in filter.equality_constraints() {
                    prop_assert!(naive(&Expr::In { field, values }, &json), "constraints of {}", filter);
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in any::<String>(), cut in 0_usize..200) {
        let _ = Filter::parse(&text);
        let valid = "not (payload.\"a b\".0 in ['x\\'', -1.5e3] or \u{fc} exists) and 'q''' matches";
        let half: String = valid.chars().take(cut).chain(text.chars()).collect();
        if let Err(error) = Filter::parse(&half) {
            prop_assert_eq!(error.fields().len(), 1);
        }
    }
}
