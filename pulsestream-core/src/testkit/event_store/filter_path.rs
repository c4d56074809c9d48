//! Filters on every path: fields with a fixed name, tags, keys and elements of the application's own data.

use super::get::full_event;
use super::probe::Probe;
use crate::event::{FieldPath, FieldType, Value};
use crate::filter::{CompareOp, Expr, Filter};
use crate::query::FindQuery;
use crate::testkit::events::{event, event_with, json, payload};

/// Tags are text under any key.
pub(super) async fn filter_tags(probe: Probe) {
    let tagged = |name: &str, seconds, tags: &[(&str, &str)]| {
        event_with(name, seconds, |event| event.context.tags = tags.iter().copied().collect())
    };
    probe
        .append(vec![
            tagged("a", 0, &[("region", "eu"), ("tier", "1")]),
            tagged("b", 1, &[("region", "us")]),
            tagged("c", 2, &[("a.b", "x"), ("", "y"), ("q\"uote", "z")]),
            tagged("d", 3, &[("region", "")]),
            event("e", 4),
        ])
        .await;
    probe
        .assert_matching(&[
            ("context.tags.region = 'eu'", "a"),
            ("context.tags.region != 'eu'", "b c d e"),
            ("context.tags.region in ['eu', 'us']", "a b"),
            ("exists(context.tags.region)", "a b d"),
            ("context.tags.tier = '1'", "a"),
            ("context.tags.\"a.b\" = 'x'", "c"),
            (r#"context.tags."q\"uote" starts_with 'z'"#, "c"),
        ])
        .await;
}

/// A path into the payload follows keys; what is not there is missing, whatever stands in the way.
pub(super) async fn filter_payload_paths(probe: Probe) {
    probe
        .append(vec![
            payload("a", 0, r#"{"cart":{"total":10,"coupon":null},"plan":"free"}"#),
            payload("b", 1, r#"{"cart":{"total":20},"plan":"pro"}"#),
            payload("c", 2, r#"{"cart":"none","plan":{"name":"free"}}"#),
            payload("d", 3, r#"{"cart.total":10}"#),
            payload("e", 4, r#"{"Plan":"free"}"#),
        ])
        .await;
    probe
        .assert_matching(&[
            ("payload.cart.total = 10", "a"),
            ("payload.cart.total > 5", "a b"),
            ("payload.plan = 'free'", "a"),
            ("payload.plan.name = 'free'", "c"),
            ("exists(payload.cart)", "a b c"),
            ("exists(payload.cart.total)", "a b"),
            ("exists(payload.cart.coupon)", ""),
            ("payload.cart = 'none'", "c"),
            ("payload.cart.total.deeper = 1", ""),
            ("payload.\"cart.total\" = 10", "d"),
        ])
        .await;
}

/// Keys may be any text: empty, dotted, quoted, spaced, of any script.
pub(super) async fn filter_quoted_keys(probe: Probe) {
    probe
        .append(vec![
            payload("a", 0, r#"{"unit price":1,"a.b":{"c.d":2}}"#),
            payload("b", 1, r#"{"":5,"q\"uote":6,"back\\slash":7}"#),
            payload("c", 2, "{\"\u{1f980}\":8,\"it's\":9,\"100%\":10}"),
            payload("d", 3, r#"{"a":{"":{"":11}},"$ref":12,"{x}":13}"#),
        ])
        .await;
    probe
        .assert_matching(&[
            (r#"payload."unit price" = 1"#, "a"),
            (r#"payload."a.b"."c.d" = 2"#, "a"),
            (r#"payload.a.b = 2"#, ""),
            (r#"payload."" = 5"#, "b"),
            (r#"payload."q\"uote" = 6"#, "b"),
            (r#"payload."back\\slash" = 7"#, "b"),
            ("payload.\"\u{1f980}\" = 8", "c"),
            (r#"payload."it's" = 9"#, "c"),
            (r#"payload."100%" = 10"#, "c"),
            (r#"payload.a."".""  = 11"#, "d"),
            (r#"payload."$ref" = 12"#, "d"),
            (r#"payload."{x}" = 13"#, "d"),
        ])
        .await;
}

/// A whole number in a path selects an array element, counted from 0, or the key of that name.
pub(super) async fn filter_array_elements(probe: Probe) {
    probe
        .append(vec![
            payload("a", 0, r#"{"items":["x",{"sku":"s1"},[7]]}"#),
            payload("b", 1, r#"{"items":{"0":"x","1":{"sku":"s2"}}}"#),
            payload("c", 2, r#"{"items":[]}"#),
            payload("d", 3, r#"{"items":"x"}"#),
        ])
        .await;
    probe
        .assert_matching(&[
            ("payload.items.0 = 'x'", "a b"),
            ("payload.items.1.sku in ['s1', 's2']", "a b"),
            ("payload.items.2.0 = 7", "a"),
            ("exists(payload.items.3)", ""),
            ("exists(payload.items)", "a b c d"),
            ("payload.items = 'x'", "d"),
            ("payload.items contains 'x'", "d"),
        ])
        .await;
}

/// Metadata is data like the payload, and apart from it.
pub(super) async fn filter_metadata(probe: Probe) {
    let meta = event_with("a", 0, |event| event.metadata = json(r#"{"schema":{"version":3},"v":1}"#));
    probe.append(vec![meta, payload("b", 1, r#"{"schema":{"version":3},"v":2}"#)]).await;
    probe
        .assert_matching(&[
            ("metadata.schema.version = 3", "a"),
            ("payload.schema.version = 3", "b"),
            ("metadata.v = 1 and not exists(payload.v)", "a"),
        ])
        .await;
}

/// Every field with a fixed name can be compared: the stored value selects the event, another value does not.
pub(super) async fn filter_every_fixed_field(probe: Probe) {
    let full = full_event("full", 0);
    probe.append(vec![full.clone(), event_with("bare", 1, |event| event.event_type = "other".into())]).await;
    for field in FieldPath::FIXED {
        let value = field.value(&full).to_value();
        let matching = async |expr: Expr| {
            let filter = Filter::new(expr).expect("a filter on a fixed field");
            let expected: Vec<_> = filter.matches(&full).then(|| "full".to_owned()).into_iter().collect();
            let mut found = probe.ids(FindQuery { filter: Some(filter), ..FindQuery::default() }).await;
            found.retain(|name| name == "full");
            assert_eq!(found, expected, "{field} compared");
        };
        assert_ne!(value, Value::Missing, "{field} has a value in the full event");
        matching(Expr::Compare { field: field.clone(), op: CompareOp::Eq, value: value.clone() }).await;
        matching(Expr::Compare { field: field.clone(), op: CompareOp::Ne, value: value.clone() }).await;
        matching(Expr::In { field: field.clone(), values: vec![value.clone()] }).await;
        matching(Expr::Exists(field.clone())).await;
        if field.field_type() != FieldType::Bool {
            matching(Expr::Compare { field: field.clone(), op: CompareOp::Ge, value: value.clone() }).await;
            matching(Expr::Compare { field: field.clone(), op: CompareOp::Lt, value }).await;
        }
    }
}
