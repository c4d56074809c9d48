//! Late data in any order: once everything has arrived, live evaluation and a replay of history agree.

use proptest::prelude::*;

use super::*;
use crate::alerting::{AlertState, Labels};
use crate::ports::rule_engine::RuleEvaluation;

/// Events of 200 s that arrive up to 200 s later, in the order of their arrival.
fn stragglers() -> impl Strategy<Value = Vec<Event>> {
    let one = (0_u32..200_000, 0_usize..3, 0_u32..100, 0_u32..200_000);
    proptest::collection::vec(one, 1..150).prop_map(|calls| {
        let late = calls.into_iter().map(|(time, service, value, delay)| {
            let time = f64::from(time) / 1e3;
            let event = event(time, ["a", "b", "c"][service], f64::from(value));
            received(event, time + f64::from(delay) / 1e3)
        });
        let mut events: Vec<Event> = late.collect();
        events.sort_by_key(|event| event.received_at);
        events
    })
}

fn rules() -> Vec<Rule> {
    let (group, slow) = (r#""group_by":["source.service"]"#, "metrics.response_time_ms");
    [
        ("count".to_owned(), "> 12", group),
        ("count".to_owned(), "> 30", ""),
        (format!("sum({slow})"), "> 600", group),
        (format!("avg({slow})"), "> 50", ""),
        (format!("max({slow})"), "> 97", group),
        (format!("count_distinct({slow})"), "> 25", ""),
        (format!("p90({slow})"), "> 90", group),
    ]
    .into_iter()
    .zip(1..)
    .map(|((quantity, condition, more), id)| rule(id, &threshold(&quantity, "4m", condition), more))
    .collect()
}

type Verdict = (RuleId, Labels, Option<f64>, bool, Option<AlertState>);

fn verdicts(evaluation: &dyn RuleEvaluation, rules: &[Rule]) -> Vec<Verdict> {
    let explained = rules.iter().flat_map(|rule| evaluation.explain(rule.id, None, 100));
    // The value of an open episode is the one that was judged last; groups without events are forgotten sooner or later.
    let told = explained.map(|it| {
        let value = it.value.filter(|value| it.state.is_none() && *value != 0.0);
        (it.rule, it.group, value, it.breached, it.state)
    });
    told.filter(|(_, _, value, breached, _)| value.is_some() || *breached).collect()
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn what_arrives_late_and_in_any_order_is_judged_as_in_a_replay(events in stragglers()) {
        let (engine, rules) = (StreamingEngine::default(), rules());
        let mut live = engine.start(TENANT, &rules, None).unwrap();
        live.advance(at(0.0));
        for event in &events {
            live.observe(std::slice::from_ref(event));
            live.advance(event.received_at);
        }
        let mut history: Vec<Event> = events
            .into_iter()
            .map(|mut event| {
                event.received_at = event.timestamp;
                event
            })
            .collect();
        history.sort_by_key(|event| event.timestamp);
        let mut replay = engine.start(TENANT, &rules, None).unwrap();
        replay.advance(at(0.0));
        replay.observe(&history);
        for end in [410.0, 430.0, 1_000.0] {
            live.advance(at(end));
            replay.advance(at(end));
            prop_assert_eq!(verdicts(&*live, &rules), verdicts(&*replay, &rules), "at {}", end);
        }
    }
}
