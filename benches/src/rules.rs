//! The scenario of the comparison of rule engines: events of 1,000 services, and rules over them.

use std::time::Duration;

use pulsestream_core::alerting::{Rule, RuleExpression, RuleKind};
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, RuleId};
use pulsestream_core::time::Timestamp;

/// How many services send events; the first rule has an instance for each.
pub const SERVICES: u64 = 1_000;
/// Events per second of their own time.
pub const EVENTS_PER_SECOND: u64 = 5_000;
/// When the first event happens.
pub const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// Returns when an event happens.
pub fn time(number: u64) -> Timestamp {
    START.plus(Duration::from_micros(number * 1_000_000 / EVENTS_PER_SECOND))
}

/// Returns the number of the service of an event.
pub fn service(number: u64) -> u64 {
    number * 7_919 % SERVICES
}

/// Returns the status code of an event: one in a hundred fails.
pub fn status(number: u64) -> u16 {
    if number.is_multiple_of(100) { 503 } else { 200 }
}

/// Returns how long the call of an event took.
pub fn response_time_ms(number: u64) -> u16 {
    u16::try_from(number % 900).unwrap_or(0)
}

/// Returns an event: a call of a service.
///
/// # Panics
/// Never: a number is an id.
pub fn event(number: u64) -> Event {
    let id = EventId::new(number.to_string()).expect("a number is an id");
    let mut event = Event::new(id, "api_call", time(number));
    event.source.service = Some(format!("service-{}", service(number)).into());
    event.source.endpoint = Some(format!("/api/{}", number % 50).into());
    event.metrics.status_code = Some(status(number));
    event.metrics.response_time_ms = Some(f64::from(response_time_ms(number)));
    event
}

/// Returns so many rules. The first counts every event by service, so every event changes one of 1,000 windows; the others watch one
/// service or one type of event each, and never fire.
///
/// # Panics
/// When a rule is wrong.
pub fn rules(count: usize) -> Vec<Rule> {
    let expression = |index: usize| {
        let service = format!("source.service = 'service-{}'", index % 1_000);
        let slow = "metrics.response_time_ms";
        match index {
            0 => "count > 1000000 over 5m by source.service".to_owned(),
            _ if index % 5 == 1 => {
                format!("count > 1000000 over 5m where event_type = 'api_call' and {service}")
            }
            _ if index % 5 == 2 => {
                format!("p95({slow}) > 100000 over 5m where {service} and metrics.status_code >= 500")
            }
            _ if index % 5 == 3 => {
                format!("error_rate > 0.99 over 1h where event_type = 'checkout' and {service}")
            }
            _ if index % 5 == 4 => {
                format!("avg({slow}) > 1e5 over 15m where event_type in ['job', 'task'] and {service}")
            }
            _ => format!("count >= 100000 over 1m where event_type = 'type-{index}'"),
        }
    };
    (0..count)
        .map(|index| {
            let kind = RuleKind::Absence { window: Duration::from_secs(60) };
            let mut rule = Rule::new(RuleId::from_u128(index as u128 + 1), format!("rule {index}"), kind);
            expression(index).parse::<RuleExpression>().expect("a rule").apply_to(&mut rule);
            rule
        })
        .collect()
}
