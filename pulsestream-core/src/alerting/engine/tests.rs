//! Golden tests of the engine, as tables in virtual time, and the property that neither batches nor restarts show.

use super::*;
use crate::alerting::{Transition, TransitionReason};
use crate::event::Event;
use crate::id::{EventId, RuleId};
use crate::time::Timestamp;

mod composites;
mod late;
mod random;
mod stale;

const TENANT: TenantId = TenantId::from_u128(7);

/// Makes a rule of the JSON of its kind and of further fields.
fn rule(id: u128, kind: &str, more: &str) -> Rule {
    let id = RuleId::from_u128(id);
    let comma = if more.is_empty() { "" } else { "," };
    let text = format!(r#"{{"id":"{id}","version":1,"name":"r{id}","kind":{kind}{comma}{more}}}"#);
    let rule: Rule = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    rule.validate().unwrap();
    rule
}

fn threshold(quantity: &str, window: &str, condition: &str) -> String {
    let (op, value) = condition.split_once(' ').unwrap();
    format!(
        r#"{{"type":"threshold","quantity":"{quantity}","window":"{window}","condition":{{"op":"{op}","value":{value}}}}}"#
    )
}

fn at(seconds: f64) -> Timestamp {
    #[allow(clippy::cast_possible_truncation)]
    Timestamp::from_millis(1_700_000_000_000_i64 / 3_600_000 * 3_600_000 + (seconds * 1e3) as i64)
}

fn seconds(time: Timestamp) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let micros = (time.as_micros() - at(0.0).as_micros()) as f64;
    micros / 1e6
}

/// An event of service `service` at `time`, received at once, with `value` as its response time.
fn event(time: f64, service: &str, value: f64) -> Event {
    let mut event = Event::new(EventId::from_u128(1), "call", at(time));
    event.source.service = Some(service.into());
    event.metrics.response_time_ms = Some(value);
    event
}

fn received(mut event: Event, time: f64) -> Event {
    event.received_at = at(time);
    event
}

/// Writes transitions as `SECOND:state` with a mark for what is unusual.
fn shown(transitions: &[Transition]) -> String {
    let one = |transition: &Transition| {
        let reason = match transition.reason {
            TransitionReason::Condition | TransitionReason::NoData => String::new(),
            other => format!("({})", other.as_str()),
        };
        let muted = transition.muted.map_or("", |_| "!");
        let group: Vec<&str> = transition.group.values().map(|value| value.as_str()).collect();
        let group = if group.is_empty() { String::new() } else { format!("{}@", group.join("/")) };
        format!("{group}{}:{}{muted}{reason}", seconds(transition.at), transition.to)
    };
    transitions.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Feeds events one by one, then lets time pass to `end`.
fn run(rules: &[Rule], events: &[Event], end: f64) -> String {
    let mut evaluation = StreamingEngine::default().start(TENANT, rules, None).unwrap();
    let mut transitions = evaluation.advance(at(0.0));
    transitions.extend(evaluation.observe(events));
    transitions.extend(evaluation.advance(at(end)));
    shown(&transitions)
}

fn calls(times: &[f64]) -> Vec<Event> {
    times.iter().map(|time| event(*time, "shop", *time)).collect()
}

#[test]
fn a_count_fires_with_the_deciding_event_and_resolves_when_the_window_has_passed() {
    let count = rule(1, &threshold("count", "1m", "> 2"), "");
    // At 61.5 the window begins at 2. With three events inside the third decides; at 70 they have left.
    assert_eq!(run(&[count], &calls(&[1.0, 1.5, 61.5]), 200.0), "");
    let count = rule(1, &threshold("count", "1m", "> 2"), "");
    assert_eq!(run(&[count], &calls(&[5.0, 6.0, 8.5]), 200.0), "8.5:firing 70:resolved");
}

#[test]
fn a_breach_must_last() {
    let held = |more| rule(1, &threshold("count", "1m", "> 1"), more);
    let events = calls(&[5.0, 6.0, 30.0, 50.0, 90.0]);
    for (more, expected) in [
        (r#""for":"30s""#, "6:pending 36:firing 120:resolved"),
        (r#""for":"10m""#, "6:pending 120:resolved"),
        (r#""keep_firing_for":"1m""#, "6:firing 120:recovering 180:resolved"),
    ] {
        assert_eq!(run(&[held(more)], &events, 400.0), expected, "{more}");
    }
}

#[test]
fn recovery_needs_the_other_threshold() {
    let kind = r#"{"type":"threshold","quantity":"count","window":"1m","condition":{"op":">=","value":3,"recovery":1}}"#;
    let mut events = calls(&[1.0, 2.0, 3.0]);
    events.extend(calls(&[50.0]));
    // At 70 one event is left: `>= 1` holds still. At 120 none is.
    assert_eq!(run(&[rule(1, kind, "")], &events, 300.0), "3:firing 120:resolved");
}

#[test]
fn groups_are_instances_and_stale_ones_resolve() {
    let by_service = r#""group_by":["source.service"]"#;
    let average = rule(1, &threshold("avg(metrics.response_time_ms)", "1m", "> 100"), by_service);
    let events =
        [event(1.0, "a", 50.0), event(2.0, "b", 200.0), event(3.0, "c", 300.0), event(55.0, "c", 1.0)];
    // b stays silent, its window is empty at 70; at 62 c's slow call has left.
    assert_eq!(run(&[average], &events, 300.0), "b@2:firing c@3:firing b@70:resolved c@70:resolved");
    let more = format!(r#"{by_service},"no_data":"keep_last""#);
    let kept = rule(1, &threshold("avg(metrics.response_time_ms)", "1m", "> 100"), &more);
    let day = 86_400.0;
    let expected = "b@2:firing c@3:firing c@70:resolved b@86470:resolved(stale)";
    assert_eq!(run(&[kept], &events, 2.0 * day), expected);
}

#[test]
fn too_few_is_judged_over_whole_windows_only() {
    let few = rule(1, &threshold("count", "1m", "< 2"), "");
    let events = calls(&[1.0, 10.0, 30.0, 50.0, 70.0, 100.0]);
    // The first whole window ends at 60; [60,120) holds two events, [80,140) one.
    assert_eq!(run(&[few], &events, 150.0), "140:firing");
}

#[test]
fn no_data_follows_the_policy() {
    for (policy, expected) in [
        ("ok", "1:firing 70:resolved"),
        ("no_data", "1:firing 70:no_data 200:firing 270:no_data"),
        ("firing", "1:firing"),
        ("keep_last", "1:firing"),
    ] {
        let more = format!(r#""no_data":"{policy}""#);
        let slow = rule(1, &threshold("max(metrics.response_time_ms)", "1m", "> 100"), &more);
        let mut events = vec![event(1.0, "a", 500.0)];
        if policy == "no_data" {
            events.push(event(200.0, "a", 500.0));
        }
        assert_eq!(run(&[slow], &events, 300.0), expected, "{policy}");
    }
}

#[test]
fn absence_fires_after_silence() {
    let absence = |more| rule(1, r#"{"type":"absence","window":"30s"}"#, more);
    // Nothing since the start at -5 s (time 0 less the settling time), and after the call at 40.
    assert_eq!(run(&[absence("")], &calls(&[40.0]), 100.0), "25:firing 40:resolved 70:firing");
    let events = [event(1.0, "a", 1.0), event(20.0, "b", 1.0), event(29.0, "a", 1.0)];
    assert_eq!(
        run(&[absence(r#""group_by":["source.service"]"#)], &events, 100.0),
        "b@50:firing a@59:firing"
    );
}

#[test]
fn change_compares_with_the_window_before() {
    let kind = r#"{"type":"change","quantity":"count","window":"1m","mode":"percent","condition":{"op":">=","value":100}}"#;
    let mut times: Vec<f64> = (0..60).step_by(10).map(f64::from).collect();
    times.extend((60..120).step_by(4).map(f64::from));
    let shown = run(&[rule(1, kind, "")], &calls(&times), 125.0);
    // Both windows are whole for the first time at 115, with 6 and 14 calls.
    assert_eq!(shown, "115:firing");
}

#[test]
fn anomalies_leave_the_baseline() {
    let kind = r#"{"type":"anomaly","quantity":"count","window":"10s","periods":6,"direction":"above"}"#;
    let mut times = Vec::new();
    for window in 0..12 {
        let calls = if window == 9 { 30 } else { 4 + window % 3 };
        times.extend((0..calls).map(|call| f64::from(window * 10) + f64::from(call) * 0.2));
    }
    assert_eq!(run(&[rule(1, kind, "")], &calls(&times), 125.0), "100:firing 110:resolved");
}

#[test]
fn sequences_miss_their_end() {
    let kind = r#"{"type":"sequence","first":"event_type = 'order'","then":"event_type = 'payment'","within":"1m","by":"payload.order"}"#;
    let step = |time: f64, event_type: &str, order: &str| {
        let mut event = Event::new(EventId::from_u128(1), event_type, at(time));
        event.payload = crate::event::JsonObject::parse(&format!(r#"{{"order":"{order}"}}"#)).unwrap();
        event
    };
    let events = [
        step(1.0, "order", "A"),
        step(5.0, "order", "B"),
        step(30.0, "payment", "A"),
        step(80.0, "payment", "B"),
        step(100.0, "order", "C"),
    ];
    // B missed at 65 and was late at 80; C missed at 160 and is forgotten a minute later.
    assert_eq!(run(&[rule(1, kind, "")], &events, 300.0), "65:firing 80:resolved 160:firing 220:resolved");
}

#[test]
fn composites_follow_their_rules() {
    let slow = rule(1, &threshold("max(metrics.response_time_ms)", "1m", "> 100"), "");
    let many = rule(2, &threshold("count", "1m", "> 2"), "");
    let kind = format!(
        r#"{{"type":"composite","expression":{{"all":[{{"rule":"{}"}},{{"rule":"{}"}}]}}}}"#,
        slow.id, many.id
    );
    let both = rule(3, &kind, r#""for":"10s""#);
    let events = [event(1.0, "a", 500.0), event(2.0, "a", 1.0), event(3.0, "a", 1.0)];
    assert_eq!(
        run(&[slow, many, both], &events, 300.0),
        "1:firing 3:firing 3:pending 13:firing 70:resolved 70:resolved 70:resolved"
    );
}

#[test]
fn notifications_are_capped_and_cool_down_and_states_are_not() {
    let group = r#""group_by":["source.service"]"#;
    let capped = rule(1, &threshold("count", "1m", "> 0"), &format!(r#"{group},"max_alerts_per_hour":2"#));
    let events = [event(1.0, "a", 1.0), event(2.0, "b", 1.0), event(3.0, "c", 1.0), event(3_602.0, "d", 1.0)];
    let shown = run(&[capped], &events[..3], 10.0);
    assert_eq!(shown, "a@1:firing b@2:firing c@3:firing!");
    let cooling = rule(1, &threshold("count", "10s", "> 0"), r#""cooldown":"5m""#);
    let events = calls(&[1.0, 100.0, 302.0]);
    assert_eq!(
        run(&[cooling], &events, 330.0),
        "1:firing 20:resolved 100:firing! 120:resolved! 302:firing 320:resolved"
    );
}

#[test]
fn too_many_groups_share_one() {
    let more = r#""group_by":["source.service"],"max_groups":2"#;
    let count = rule(1, &threshold("count", "1m", "> 1"), more);
    let events: Vec<Event> =
        ["a", "b", "c", "d"].iter().zip(1..).map(|(name, time)| event(f64::from(time), name, 1.0)).collect();
    assert_eq!(run(&[count], &events, 10.0), "__other__@4:firing");
}

#[test]
fn the_server_caps_instances_and_says_which_rules_overflow() {
    let more = r#""group_by":["source.service"],"max_groups":100"#;
    let rules =
        [rule(1, &threshold("count", "1m", "> 1"), more), rule(2, &threshold("count", "1m", "> 9"), "")];
    let settings = EngineSettings { max_instances: 2, ..EngineSettings::default() };
    let mut evaluation = StreamingEngine::new(settings).start(TENANT, &rules, None).unwrap();
    evaluation.observe(&[event(1.0, "a", 1.0), event(2.0, "b", 1.0)]);
    assert_eq!((evaluation.overflowing(), evaluation.counters().overflowed), (vec![], 0), "at the limit");
    evaluation.observe(&[event(3.0, "c", 1.0)]);
    assert_eq!((evaluation.overflowing(), evaluation.counters().overflowed), (vec![rules[0].id], 1));
    let again = StreamingEngine::new(settings).start(TENANT, &rules, Some(&evaluation.snapshot())).unwrap();
    assert_eq!(
        again.counters().instances,
        evaluation.counters().instances,
        "the state fits the same settings"
    );
}

#[test]
fn late_events_correct_and_old_ones_alert_nobody() {
    let few = rule(1, &threshold("count", "1m", "< 2"), "");
    let mut events = calls(&[1.0, 10.0, 30.0, 50.0, 70.0, 100.0]);
    events.push(received(event(130.0, "shop", 1.0), 146.0));
    assert_eq!(run(&[few], &events, 150.0), "140:firing 140:resolved(correction)");
    let count = rule(1, &threshold("count", "1h", "> 1"), "");
    let mut events = calls(&[1.0]);
    events.extend((0..9).map(|_| received(event(2.0, "shop", 1.0), 400.0)));
    assert_eq!(run(&[count], &events, 500.0), "");
}

#[test]
fn a_person_ends_an_episode_until_the_breach_was_over() {
    let count = rule(1, &threshold("count", "10s", "> 0"), "");
    let mut evaluation = StreamingEngine::default().start(TENANT, &[count], None).unwrap();
    evaluation.advance(at(0.0));
    let fired = evaluation.observe(&calls(&[1.0]));
    assert_eq!(shown(&evaluation.resolve(fired[0].alert, at(2.0))), "2:resolved(resolved_by_hand)");
    assert!(evaluation.open_episodes().is_empty());
    assert_eq!(shown(&evaluation.observe(&calls(&[3.0, 4.0]))), "");
    assert_eq!(shown(&evaluation.advance(at(40.0))), "");
    assert_eq!(shown(&evaluation.observe(&calls(&[41.0]))), "41:firing");
}

#[test]
fn changed_and_removed_rules_end_their_episodes() {
    let rules = || {
        vec![
            rule(1, &threshold("count", "1m", "> 0"), ""),
            rule(2, &threshold("count", "1m", "> 0"), ""),
            rule(3, &threshold("count", "1m", "> 0"), ""),
        ]
    };
    let changed = || {
        let mut changed = rules();
        changed[0].severity = crate::alerting::AlertSeverity::Critical;
        changed[1] = rule(2, &threshold("count", "1m", "> 5"), "");
        changed[2].is_active = false;
        changed
    };
    let expected = "9:resolved(rule_changed) 9:resolved(rule_removed)";
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules(), None).unwrap();
    evaluation.advance(at(0.0));
    evaluation.observe(&calls(&[1.0]));
    let snapshot = evaluation.snapshot();
    assert_eq!(shown(&evaluation.set_rules(&changed(), at(9.0))), expected);
    assert_eq!(evaluation.open_episodes().len(), 1);
    let mut again = StreamingEngine::default().start(TENANT, &changed(), Some(&snapshot)).unwrap();
    assert_eq!(shown(&again.advance(at(9.0))), expected.replace("9:", "1:"));
    assert_eq!(again.open_episodes().len(), 1);
}

#[test]
fn damaged_snapshots_are_errors() {
    let rules = [rule(1, &threshold("p95(metrics.response_time_ms)", "1m", "> 0"), "")];
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules, None).unwrap();
    evaluation.observe(&calls(&[1.0, 2.0]));
    let snapshot = evaluation.snapshot();
    for length in 0..snapshot.len() {
        assert!(
            StreamingEngine::default().start(TENANT, &rules, Some(&snapshot[..length])).is_err(),
            "{length}"
        );
    }
    let mut newer = snapshot;
    newer[0] = 9;
    let error = StreamingEngine::default().start(TENANT, &rules, Some(&newer)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
}

#[test]
fn explains_in_words() {
    let count = rule(1, &threshold("count", "5m", "> 2"), r#""for":"2m""#);
    let mut evaluation =
        StreamingEngine::default().start(TENANT, std::slice::from_ref(&count), None).unwrap();
    evaluation.advance(at(0.0));
    evaluation.observe(&calls(&[5.0, 6.0, 7.0, 37.0]));
    let explanation = evaluation.explain(count.id, None, 10).remove(0);
    assert_eq!(
        explanation.text,
        "count > 2 over 5m for 2m: the value is 3, which is a breach; pending, it fires in 1m30s if the breach lasts"
    );
    assert_eq!(explanation.changes_at, Some(at(127.0)));
    // What is far from a breach has a value too, as of now.
    let many = rule(1, &threshold("count", "1m", "> 9"), "");
    let mut evaluation = StreamingEngine::default().start(TENANT, std::slice::from_ref(&many), None).unwrap();
    evaluation.advance(at(0.0));
    evaluation.observe(&calls(&[5.0, 6.0]));
    let value = |evaluation: &dyn crate::ports::rule_engine::RuleEvaluation| {
        evaluation.explain(many.id, None, 1).remove(0).value
    };
    assert_eq!(value(&*evaluation), Some(2.0));
    evaluation.advance(at(100.0));
    assert_eq!(value(&*evaluation), Some(0.0));
}

/// Rules of every kind, for the properties.
fn every_kind() -> Vec<Rule> {
    let group = r#""group_by":["source.service"]"#;
    let slow = "metrics.response_time_ms";
    let ratio = format!(
        r#"{{"type":"threshold","quantity":{{"numerator":{{"measure":"count","filter":"{slow} > 50"}},"denominator":{{"measure":"count"}}}},"window":"20s","condition":{{"op":">","value":0.6,"recovery":0.3}}}}"#
    );
    vec![
        rule(1, &threshold("count", "20s", "> 3"), &format!(r#"{group},"for":"3s""#)),
        rule(
            2,
            &threshold(&format!("p90({slow})"), "30s", "> 80"),
            r#""keep_firing_for":"5s","cooldown":"1m""#,
        ),
        rule(
            3,
            &threshold(&format!("avg({slow})"), "10s", "< 40"),
            &format!(r#"{group},"no_data":"no_data""#),
        ),
        rule(
            4,
            &threshold(&format!("count_distinct({slow})"), "20s", ">= 5"),
            r#""evaluation_interval":"3s""#,
        ),
        rule(5, r#"{"type":"absence","window":"8s"}"#, group),
        rule(
            6,
            r#"{"type":"change","quantity":"count","window":"10s","mode":"absolute","condition":{"op":">=","value":3}}"#,
            group,
        ),
        rule(7, r#"{"type":"anomaly","quantity":"count","window":"5s","periods":4}"#, ""),
        rule(
            8,
            &format!(
                r#"{{"type":"sequence","first":"{slow} < 30","then":"{slow} > 70","within":"9s","by":"source.service"}}"#
            ),
            "",
        ),
        rule(9, &ratio, group),
        rule(10, &threshold("count", "10s", "< 2"), r#""for":"2s","max_alerts_per_hour":3"#),
        rule(11, &threshold(&format!("sum({slow})"), "20s", "> 300"), &format!(r#"{group},"max_groups":2"#)),
        rule(
            12,
            &format!(
                r#"{{"type":"composite","expression":{{"any":[{{"rule":"{}"}},{{"not":{{"rule":"{}"}}}}]}}}}"#,
                RuleId::from_u128(1),
                RuleId::from_u128(2)
            ),
            "",
        ),
    ]
}

/// A stream in the order of the events' time, received with a delay shorter than the settling time.
fn stream() -> impl proptest::strategy::Strategy<Value = Vec<Event>> {
    use proptest::prelude::*;
    let one = (0_u32..4_000, 0_usize..4, 0_u32..100, 0_u32..4_000);
    proptest::collection::vec(one, 1..120).prop_map(|steps| {
        let mut time = 0.0;
        let events = steps.into_iter().map(|(gap, service, value, delay)| {
            time += f64::from(gap) / 1e3;
            let event = event(time, ["a", "b", "c", "d"][service], f64::from(value));
            (time + f64::from(delay) / 1e3, event)
        });
        let mut latest = 0.0_f64;
        events
            .map(|(arrival, event)| {
                latest = latest.max(arrival);
                received(event, latest)
            })
            .collect()
    })
}

/// The transitions of each episode, whatever else happened in between.
fn by_episode(mut transitions: Vec<Transition>) -> Vec<Transition> {
    transitions.sort_by_key(|transition| (transition.rule, transition.alert, transition.sequence));
    transitions
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    /// Cut into batches anywhere, with time passing in between, and stopped and continued from a snapshot anywhere.
    #[test]
    fn neither_batches_nor_restarts_show(
        events in stream(),
        cuts in proptest::collection::vec((1_usize..9, proptest::bool::ANY, proptest::bool::ANY), 1..60),
    ) {
        let rules = every_kind();
        let engine = StreamingEngine::default();
        let end = at(1_000.0);
        let mut whole = engine.start(TENANT, &rules, None).unwrap();
        let mut expected = whole.advance(at(0.0));
        expected.extend(whole.observe(&events));
        expected.extend(whole.advance(end));
        let mut found = Vec::new();
        let mut parts = engine.start(TENANT, &rules, None).unwrap();
        found.extend(parts.advance(at(0.0)));
        let mut rest = events.as_slice();
        for (size, restart, pass) in cuts.into_iter().cycle().take(events.len()) {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            found.extend(parts.observe(batch));
            if restart {
                let snapshot = parts.snapshot();
                parts = engine.start(TENANT, &rules, Some(&snapshot)).unwrap();
                proptest::prop_assert_eq!(parts.snapshot(), snapshot);
            }
            if pass && let Some(last) = batch.last() {
                found.extend(parts.advance(last.received_at));
            }
        }
        found.extend(parts.observe(rest));
        found.extend(parts.advance(end));
        proptest::prop_assert_eq!(&found, &expected);
        proptest::prop_assert_eq!(parts.snapshot(), whole.snapshot());
    }

    /// A replay of history, where events are received when they happen, says what live evaluation said.
    #[test]
    fn a_replay_says_what_live_said(events in stream()) {
        let mut rules = every_kind();
        // These two depend on the order of instances of one rule among each other.
        rules.retain(|rule| rule.max_alerts_per_hour.is_none() && rule.max_groups > 2);
        let engine = StreamingEngine::default();
        let mut live = engine.start(TENANT, &rules, None).unwrap();
        let mut expected = live.advance(at(0.0));
        expected.extend(live.observe(&events));
        expected.extend(live.advance(at(1_000.0)));
        let history: Vec<Event> = events
            .into_iter()
            .map(|mut event| {
                event.received_at = event.timestamp;
                event
            })
            .collect();
        let mut replay = engine.start(TENANT, &rules, None).unwrap();
        let mut found = replay.advance(at(0.0));
        found.extend(replay.observe(&history));
        found.extend(replay.advance(at(1_000.0)));
        let (found, expected) = (by_episode(found), by_episode(expected));
        proptest::prop_assert_eq!(found, expected);
    }
}
