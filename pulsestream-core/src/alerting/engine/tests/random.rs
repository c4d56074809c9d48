//! Rules nobody thought of: of every kind, with any clauses, over any stream.

use proptest::prelude::*;

use super::*;
use crate::alerting::replay::{lookback, with_named_rules};
use crate::alerting::{RuleExpression, RuleKind, backtest};
use crate::memory::MemoryEventStore;
use crate::ports::event_store::{AppendOptions, EventStore};
use crate::testkit::block_on;
use crate::time::TimeRange;

const SLOW: &str = "metrics.response_time_ms";

/// A quantity in JSON.
fn quantity() -> impl Strategy<Value = String> {
    let measure = prop_oneof![
        Just("count".to_owned()),
        prop::sample::select(vec!["sum", "avg", "min", "max", "p50", "p99", "count_distinct"])
            .prop_map(|measure| format!("{measure}({SLOW})")),
    ];
    prop_oneof![
        4 => measure.prop_map(|measure| format!("\"{measure}\"")),
        1 => (0_u32..100).prop_map(|above| format!(
            r#"{{"numerator":{{"measure":"count","filter":"{SLOW} > {above}"}},"denominator":{{"measure":"count"}}}}"#
        )),
    ]
}

/// A condition whose recovery, if there is one, is on the other side of the threshold.
fn condition() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec![(">", -1), (">=", -1), ("<", 1), ("<=", 1)]),
        0_i32..100,
        prop::option::of(0_i32..30),
    )
        .prop_map(|((op, side), value, apart)| {
            let recovery = apart.map(|apart| format!(r#","recovery":{}"#, value + side * apart));
            format!(r#"{{"op":"{op}","value":{value}{}}}"#, recovery.unwrap_or_default())
        })
}

fn kind() -> impl Strategy<Value = String> {
    let window = 2_u32..40;
    prop_oneof![
        4 => (quantity(), window.clone(), condition()).prop_map(|(quantity, window, condition)| format!(
            r#"{{"type":"threshold","quantity":{quantity},"window":"{window}s","condition":{condition}}}"#
        )),
        1 => window.clone().prop_map(|window| format!(r#"{{"type":"absence","window":"{window}s"}}"#)),
        2 => (quantity(), 2_u32..15, 1_u32..4, any::<bool>(), condition()).prop_map(
            |(quantity, window, windows, is_percent, condition)| format!(
                r#"{{"type":"change","quantity":{quantity},"window":"{window}s","offset":"{}s","mode":"{}","condition":{condition}}}"#,
                window * windows,
                if is_percent { "percent" } else { "absolute" }
            )
        ),
        1 => (quantity(), 2_u32..10, 3_u32..6, prop::sample::select(vec!["above", "below", "both"])).prop_map(
            |(quantity, window, periods, direction)| format!(
                r#"{{"type":"anomaly","quantity":{quantity},"window":"{window}s","periods":{periods},"direction":"{direction}"}}"#
            )
        ),
        1 => (0_u32..60, 40_u32..100, 2_u32..30).prop_map(|(first, then, within)| format!(
            r#"{{"type":"sequence","first":"{SLOW} < {first}","then":"{SLOW} > {then}","within":"{within}s","by":"source.service"}}"#
        )),
    ]
}

/// Fields beside the kind.
fn clauses(kind: &str) -> impl Strategy<Value = String> + use<> {
    // A sequence has its own key, and a composite is one instance.
    let may_group = !kind.contains("\"sequence\"") && !kind.contains("\"composite\"");
    let policies = vec![None, Some("no_data"), Some("ok"), Some("firing"), Some("keep_last")];
    (
        any::<bool>(),
        prop::option::of(1_u32..20),
        prop::option::of(1_u32..20),
        prop::option::of(1_u32..60),
        prop::option::of(1_u32..10),
        prop::sample::select(policies),
    )
        .prop_map(move |(is_grouped, hold, keep, cooldown, interval, no_data)| {
            let seconds =
                |name: &str, value: Option<u32>| value.map(|value| format!(r#""{name}":"{value}s""#));
            let group = (is_grouped && may_group).then(|| r#""group_by":["source.service"]"#.to_owned());
            [
                group,
                seconds("for", hold),
                seconds("keep_firing_for", keep),
                seconds("cooldown", cooldown),
                seconds("evaluation_interval", interval),
                no_data.map(|policy| format!(r#""no_data":"{policy}""#)),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(",")
        })
}

/// An expression over the rules 1 to 4, of which some may not be there.
fn expression() -> impl Strategy<Value = String> {
    let named = (1_u128..5).prop_map(|id| format!(r#"{{"rule":"{}"}}"#, RuleId::from_u128(id)));
    named.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!(r#"{{"all":[{}]}}"#, parts.join(","))),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!(r#"{{"any":[{}]}}"#, parts.join(","))),
            inner.prop_map(|part| format!(r#"{{"not":{part}}}"#)),
        ]
    })
}

/// Rules of every kind; composites come after those that they name.
fn random_rules() -> impl Strategy<Value = Vec<Rule>> {
    let with_clauses = |kind: String| (Just(kind.clone()), clauses(&kind));
    let plain = prop::collection::vec(kind().prop_flat_map(with_clauses), 1..5);
    let composite =
        expression().prop_map(|expression| format!(r#"{{"type":"composite","expression":{expression}}}"#));
    let composites = prop::collection::vec(composite.prop_flat_map(with_clauses), 0..3);
    (plain, composites).prop_map(|(plain, composites)| {
        let drawn = (1_u128..).zip(plain).chain((11..).zip(composites));
        drawn.filter_map(|(id, (kind, more))| try_rule(id, &kind, &more)).collect()
    })
}

/// Returns the rule unless it is refused, which combinations that make no sense are.
fn try_rule(id: u128, kind: &str, more: &str) -> Option<Rule> {
    let id = RuleId::from_u128(id);
    let comma = if more.is_empty() { "" } else { "," };
    let text = format!(r#"{{"id":"{id}","version":1,"name":"r{id}","kind":{kind}{comma}{more}}}"#);
    let rule: Rule = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    rule.validate().is_ok().then_some(rule)
}

/// Gives each event an id that sorts as the stream does.
fn with_ids(events: Vec<Event>) -> Vec<Event> {
    let named = (1_u128..).zip(events).map(|(number, mut event)| {
        event.id = EventId::from_u128(number);
        event
    });
    named.collect()
}

#[test]
fn most_drawn_rules_are_rules() {
    use proptest::strategy::ValueTree;

    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    let mut total = 0;
    for _ in 0..500 {
        for rule in random_rules().new_tree(&mut runner).unwrap().current() {
            *kinds.entry(rule.kind.name()).or_default() += 1;
            total += 1;
        }
    }
    assert!(total > 600 && kinds.len() == 6 && kinds.values().all(|count| *count > 50), "{kinds:?}");
}

/// A number that has many digits, or few.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -1e6_f64..1e6,
        Just(0.1),
        Just(-0.0),
        Just(1e-7),
        Just(123_456_789.125),
        any::<i32>().prop_map(f64::from)
    ]
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(96))]

    /// A rule comes back from its text and from its JSON as it was, whatever it says.
    #[test]
    fn random_rules_have_two_forms_that_say_the_same(
        rules in random_rules(),
        value in number(),
        apart in prop::option::of(0.0_f64..1e4),
        upto in prop::option::of(0.0_f64..1e4),
    ) {
        for mut rule in rules {
            if let RuleKind::Threshold { condition, .. } | RuleKind::Change { condition, .. } = &mut rule.kind {
                condition.value = value;
                condition.upto = upto.filter(|_| condition.op.is_upper()).map(|upto| value + upto);
                let side = if condition.op.is_upper() { -1.0 } else { 1.0 };
                condition.recovery = apart.map(|apart| value + side * apart);
            }
            rule.validate().unwrap();
            let json = serde_json::to_string(&rule).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Rule>(&json).unwrap(), &rule, "{}", json);
            let text = rule.expression();
            let mut again = Rule { kind: RuleKind::Absence { window: Duration::from_secs(1) }, ..rule.clone() };
            (again.filter, again.group_by) = Default::default();
            (again.hold_for, again.keep_firing_for) = Default::default();
            text.parse::<RuleExpression>().unwrap_or_else(|error| panic!("{text}: {error}")).apply_to(&mut again);
            prop_assert_eq!(&again, &rule, "{}", text);
            prop_assert_eq!(again.expression(), text);
        }
    }

    /// A backtest over the stored events says what live evaluation said.
    #[test]
    fn a_backtest_of_random_rules_says_what_live_said(rules in random_rules(), events in stream()) {
        let (engine, events) = (StreamingEngine::default(), with_ids(events));
        let (start, end) = (at(0.0), at(1_000.0));
        let store = MemoryEventStore::new();
        block_on(store.append(TENANT, events.clone(), AppendOptions::default())).unwrap();
        for rule in &rules {
            let tested = with_named_rules(rule, &rules);
            let mut live = engine.start(TENANT, &tested, None).unwrap();
            // The rules were made as far back as a backtest looks.
            let mut expected = live.advance(start.minus(lookback(&tested)));
            expected.extend(live.observe(&events));
            expected.extend(live.advance(end.plus(engine.settle())));
            let range = TimeRange::new(start, end);
            expected.retain(|transition| range.contains(transition.at));
            let replayed = block_on(backtest(&store, &engine, TENANT, &tested, range, 10_000));
            let found = by_episode(replayed.unwrap().transitions);
            prop_assert_eq!(shown(&found), shown(&by_episode(expected)), "{}", serde_json::to_string(&tested).unwrap());
        }
    }

    /// Cut into batches anywhere, and stopped and continued from a snapshot anywhere.
    #[test]
    fn random_rules_show_neither_batches_nor_restarts(
        rules in random_rules(),
        events in stream(),
        cuts in prop::collection::vec((1_usize..9, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let engine = StreamingEngine::default();
        let mut whole = engine.start(TENANT, &rules, None).unwrap();
        let mut expected = whole.advance(at(0.0));
        expected.extend(whole.observe(&events));
        expected.extend(whole.advance(at(1_000.0)));
        let mut parts = engine.start(TENANT, &rules, None).unwrap();
        let mut found = parts.advance(at(0.0));
        let mut rest = events.as_slice();
        for (size, restarts, passes) in cuts.into_iter().cycle().take(events.len()) {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            found.extend(parts.observe(batch));
            if restarts {
                parts = engine.start(TENANT, &rules, Some(&parts.snapshot())).unwrap();
            }
            if passes && let Some(last) = batch.last() {
                found.extend(parts.advance(last.received_at));
            }
        }
        found.extend(parts.observe(rest));
        found.extend(parts.advance(at(1_000.0)));
        prop_assert_eq!(found, expected);
    }
}
