//! Composite rules: what they say follows from the order of time, not from the order in which their rules are judged.

use super::*;

/// Fires while a call of the service was within the last 10 s; a call at 1 is over at 20.
fn calls_of(id: u128, service: &str) -> Rule {
    let filter = format!(r#""filter":"source.service = '{service}'""#);
    rule(id, &threshold("count", "10s", "> 0"), &filter)
}

fn composite(id: u128, expression: &str, more: &str) -> Rule {
    let mut expression = expression.to_owned();
    for named in 1..4_u128 {
        let reference = format!(r#"{{"rule":"{}"}}"#, RuleId::from_u128(named));
        expression = expression.replace(&format!("#{named}"), &reference);
    }
    rule(id, &format!(r#"{{"type":"composite","expression":{expression}}}"#), more)
}

/// Returns what the rule with this id does.
fn of(id: u128, transitions: Vec<Transition>) -> String {
    let mut transitions = transitions;
    transitions.retain(|transition| transition.rule == RuleId::from_u128(id));
    shown(&transitions)
}

fn run_all(rules: &[Rule], events: &[Event], end: f64) -> Vec<Transition> {
    let mut evaluation = StreamingEngine::default().start(TENANT, rules, None).unwrap();
    let mut transitions = evaluation.advance(at(0.0));
    for event in events {
        transitions.extend(evaluation.observe(std::slice::from_ref(event)));
    }
    transitions.extend(evaluation.advance(at(end)));
    transitions
}

#[test]
fn rules_that_never_fire_together_make_no_alert() {
    let rules = [calls_of(1, "a"), calls_of(2, "b"), composite(3, r#"{"all":[#1,#2]}"#, "")];
    // When b's call comes at 21, a is over since 20, and nobody has looked at a since.
    let events = [event(1.0, "a", 1.0), event(21.0, "b", 1.0)];
    let transitions = run_all(&rules, &events, 100.0);
    assert_eq!(of(1, transitions.clone()), "1:firing 20:resolved");
    assert_eq!(of(3, transitions), "");
    let together = [event(1.0, "a", 1.0), event(12.0, "b", 1.0)];
    assert_eq!(of(3, run_all(&rules, &together, 100.0)), "12:firing 20:resolved");
}

#[test]
fn one_rule_that_takes_over_from_another_leaves_no_gap() {
    let rules = [calls_of(1, "a"), calls_of(2, "b"), composite(3, r#"{"any":[#1,#2]}"#, r#""for":"25s""#)];
    let events = [event(1.0, "a", 1.0), event(20.0, "b", 1.0), event(24.0, "b", 1.0)];
    assert_eq!(of(3, run_all(&rules, &events, 100.0)), "1:pending 26:firing 40:resolved");
    // Over exactly when it would fire: it does not.
    let rules = [calls_of(1, "a"), composite(3, "#1", r#""for":"15s""#)];
    assert_eq!(of(3, run_all(&rules, &[event(5.0, "a", 1.0)], 100.0)), "5:pending 20:resolved");
}

#[test]
fn what_does_not_fire_counts_from_the_start() {
    let rules = [calls_of(1, "a"), composite(3, r#"{"not":#1}"#, "")];
    let events = [event(1.0, "a", 1.0)];
    assert_eq!(of(3, run_all(&rules, &events, 100.0)), "-5:firing 1:resolved 20:firing");
    // The same when the composite is made later.
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules[..1], None).unwrap();
    evaluation.advance(at(0.0));
    evaluation.observe(&events);
    assert_eq!(shown(&evaluation.set_rules(&rules, at(2.0))), "");
    assert_eq!(of(3, evaluation.advance(at(100.0))), "20:firing");
}

#[test]
fn a_rule_that_is_switched_off_or_changed_does_not_fire() {
    for change in [0, 1] {
        let rules = || vec![calls_of(1, "a"), composite(3, "#1", "")];
        let mut changed = rules();
        match change {
            0 => changed[0].is_active = false,
            _ => changed[0] = calls_of(1, "b"),
        }
        let mut evaluation = StreamingEngine::default().start(TENANT, &rules(), None).unwrap();
        evaluation.advance(at(0.0));
        evaluation.observe(&calls_at_a(&[1.0]));
        evaluation.advance(at(8.0));
        let snapshot = evaluation.snapshot();
        assert_eq!(of(3, evaluation.set_rules(&changed, at(9.0))), "9:resolved", "{change}");
        let mut again = StreamingEngine::default().start(TENANT, &changed, Some(&snapshot)).unwrap();
        assert_eq!(of(3, again.advance(at(9.0))), "8:resolved", "{change}, while nobody worked");
    }
}

#[test]
fn a_person_who_resolves_the_rule_ends_the_composite_too() {
    let rules = [calls_of(1, "a"), composite(3, "#1", "")];
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules, None).unwrap();
    evaluation.advance(at(0.0));
    let fired = evaluation.observe(&calls_at_a(&[1.0]));
    assert_eq!(shown(&evaluation.advance(at(7.0))), "1:firing");
    evaluation.resolve(fired[0].alert, at(8.0));
    assert_eq!(evaluation.next_due(), Some(at(13.0)), "when everything up to 8 is known");
    assert_eq!(of(3, evaluation.advance(at(13.0))), "8:resolved");
}

#[test]
fn events_are_nothing_to_a_composite() {
    let rules = [calls_of(1, "a"), composite(3, "#1", "")];
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules, None).unwrap();
    evaluation.observe(&[event(1.0, "a", 1.0), event(2.0, "b", 1.0)]);
    assert_eq!(evaluation.counters().matches, 1);
}

#[test]
fn a_snapshot_of_the_first_format_goes_on() {
    let rules = [calls_of(1, "a"), composite(3, "#1", "")];
    let mut evaluation = StreamingEngine::default().start(TENANT, &rules, None).unwrap();
    evaluation.advance(at(0.0));
    evaluation.observe(&calls_at_a(&[1.0]));
    evaluation.advance(at(7.0));
    let mut first = evaluation.snapshot();
    // One named rule with one firing instance, and no change that waits.
    first.truncate(first.len() - 19);
    first[0] = 1;
    let mut again = StreamingEngine::default().start(TENANT, &rules, Some(&first)).unwrap();
    assert_eq!(again.snapshot(), evaluation.snapshot());
    assert_eq!(of(3, again.advance(at(100.0))), "20:resolved");
}

fn calls_at_a(times: &[f64]) -> Vec<Event> {
    times.iter().map(|time| event(*time, "a", 1.0)).collect()
}
