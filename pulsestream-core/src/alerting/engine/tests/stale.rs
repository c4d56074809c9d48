//! Groups that stop: when their alerts end, and when they are forgotten.

use super::*;

const BY_SERVICE: &str = r#""group_by":["source.service"]"#;
const DAY: f64 = 86_400.0;

/// Two calls of a, which then is silent; b goes on with a call every 10 s.
fn silence_after(last: f64, end: f64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut time = 0.0;
    while time < end {
        if time <= last {
            events.push(event(time + 1.0, "a", 500.0));
        }
        events.extend((0..4).map(|call| event(time + 2.0 + f64::from(call), "b", 1.0)));
        time += 10.0;
    }
    events
}

fn of_a(rule: &Rule, events: &[Event], end: f64) -> String {
    let mut evaluation = StreamingEngine::default().start(TENANT, std::slice::from_ref(rule), None).unwrap();
    let mut transitions = evaluation.advance(at(0.0));
    transitions.extend(evaluation.observe(events));
    transitions.extend(evaluation.advance(at(end)));
    transitions.retain(|transition| transition.group.values().any(|service| service == "a"));
    shown(&transitions)
}

#[test]
fn an_alert_of_a_group_that_stopped_ends_after_two_empty_windows() {
    let few = |more: &str| rule(1, &threshold("count", "1m", "< 10"), &format!("{BY_SERVICE}{more}"));
    // The first whole window of a ends at 70. Its last call at 91 leaves the window at 160, which is empty then, and again at 170.
    let events = silence_after(90.0, 300.0);
    assert_eq!(of_a(&few(""), &events, 300.0), "a@70:firing a@170:resolved(stale)");
    // `keep_firing_for` is for values that recover, `for` for breaches that last.
    assert_eq!(of_a(&few(r#","keep_firing_for":"5m""#), &events, 600.0), "a@70:firing a@170:resolved(stale)");
    assert_eq!(of_a(&few(r#","for":"2m""#), &events, 300.0), "a@70:pending a@170:resolved(stale)");
    // Evaluated every half minute: empty at 180 and at 210.
    let rarely = few(r#","evaluation_interval":"30s""#);
    assert_eq!(of_a(&rarely, &events, 300.0), "a@90:firing a@210:resolved(stale)");
}

#[test]
fn a_call_between_two_empty_windows_keeps_the_alert() {
    let few = rule(1, &threshold("count", "1m", "< 10"), BY_SERVICE);
    let mut events = silence_after(90.0, 400.0);
    // The window is empty at 160; a calls again at 165.
    events.push(event(165.0, "a", 1.0));
    events.sort_by_key(|event| event.timestamp);
    assert_eq!(of_a(&few, &events, 400.0), "a@70:firing a@240:resolved(stale)");
}

#[test]
fn a_group_that_comes_back_begins_another_episode() {
    let few = rule(1, &threshold("count", "1m", "< 10"), BY_SERVICE);
    let mut events = silence_after(90.0, 500.0);
    events.extend((0..12).map(|call| event(300.0 + f64::from(call) * 10.0, "a", 1.0)));
    events.sort_by_key(|event| event.timestamp);
    assert_eq!(
        of_a(&few, &events, 500.0),
        "a@70:firing a@170:resolved(stale) a@360:firing a@490:resolved(stale)"
    );
}

#[test]
fn a_group_is_remembered_through_its_cooldown_whenever_its_events_arrive() {
    let more = format!(r#"{BY_SERVICE},"for":"17s","evaluation_interval":"3s","cooldown":"5s""#);
    let few = rule(1, &threshold("count", "9s", "<= 75"), &more);
    // Fires at 65 and is stale at 66; the call at 68.7 comes within the cooldown. With its arrival time passes to 63.7, and then all of
    // that happens at once, or to 65.4, in between.
    let calls = [36.4, 41.7, 51.7].map(|time| event(time, "a", 1.0));
    for arrival in [68.7, 70.4] {
        let mut events = calls.to_vec();
        events.push(received(event(68.7, "a", 1.0), arrival));
        let shown = of_a(&few, &events, 200.0);
        assert_eq!(
            shown, "a@48:pending a@65:firing a@66:resolved(stale) a@69:pending a@81:resolved(stale)",
            "arrived at {arrival}"
        );
    }
}

#[test]
fn groups_that_compare_with_their_past_end_too() {
    let fall = r#"{"type":"change","quantity":"count","window":"1m","mode":"absolute","condition":{"op":"<=","value":-1}}"#;
    // a has six calls a minute, and fewer from 150 on, when the first call is missing.
    let shown = of_a(&rule(1, fall, BY_SERVICE), &silence_after(140.0, 400.0), 400.0);
    assert!(shown.starts_with("a@") && shown.ends_with("resolved(stale)"), "{shown}");
    let odd = r#"{"type":"anomaly","quantity":"count","window":"10s","periods":4}"#;
    let mut events = silence_after(140.0, 400.0);
    events.extend((0..20).map(|call| event(142.0 + f64::from(call) * 0.1, "a", 1.0)));
    events.sort_by_key(|event| event.timestamp);
    assert_eq!(of_a(&rule(1, odd, BY_SERVICE), &events, 400.0), "a@150:firing a@170:resolved(stale)");
}

#[test]
fn with_a_policy_for_missing_values_a_group_is_forgotten_after_a_day() {
    let slow = |policy: &str| {
        let more = format!(r#"{BY_SERVICE},"no_data":"{policy}""#);
        rule(1, &threshold("max(metrics.response_time_ms)", "1m", "> 100"), &more)
    };
    let events = [event(1.0, "a", 500.0)];
    for (policy, expected) in [
        ("ok", "a@1:firing a@70:resolved"),
        ("no_data", "a@1:firing a@70:no_data a@86470:resolved(stale)"),
        ("firing", "a@1:firing a@86470:resolved(stale)"),
        ("keep_last", "a@1:firing a@86470:resolved(stale)"),
    ] {
        assert_eq!(of_a(&slow(policy), &events, 2.0 * DAY), expected, "{policy}");
    }
    let absence = rule(1, r#"{"type":"absence","window":"30s"}"#, BY_SERVICE);
    assert_eq!(of_a(&absence, &events, 2.0 * DAY), "a@31:firing a@86431:resolved(stale)");
}

#[test]
fn groups_that_stopped_take_no_memory() {
    let rules = [
        rule(1, &threshold("count", "1m", "> 2"), BY_SERVICE),
        rule(2, &threshold("count", "1m", "< 2"), BY_SERVICE),
        rule(3, r#"{"type":"absence","window":"30s"}"#, BY_SERVICE),
    ];
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules, None).unwrap();
    evaluation.advance(at(0.0));
    for service in 0..500 {
        evaluation.observe(&[event(f64::from(service) * 0.01, &format!("s{service}"), 1.0)]);
    }
    assert_eq!(evaluation.counters().instances, 1_500);
    evaluation.advance(at(300.0));
    assert_eq!(evaluation.counters().instances, 500, "those whose silence is an alert");
    evaluation.advance(at(2.0 * DAY));
    assert_eq!(evaluation.counters().instances, 0);
}
