//! What happens in the world of the child: every event is told by its tick, and the clock too.

use std::time::Duration;

use pulsestream_core::Result;
use pulsestream_core::alerting::{Channel, ChannelConfig, ChannelRef, Rule, RuleExpression, RuleKind};
use pulsestream_core::event::Event;
use pulsestream_core::id::{ChannelId, EventId, RuleId, TenantId};
use pulsestream_core::time::Timestamp;

/// When everything starts.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// How far a tick moves the clock.
const TICK: Duration = Duration::from_secs(2);
/// Ticks for which a service keeps its mood.
const MOOD_TICKS: u64 = 14;
const SERVICES: u64 = 6;
/// Name of the channel to the sink.
const CHANNEL: &str = "sink";

/// The rules; the last one waits for its group, the others are told at once.
const RULES: [&str; 6] = [
    "count >= 3 over 20s by source.service",
    "count >= 3 over 20s by source.service for 10s keep 6s",
    "absent over 40s by source.service",
    "avg(metrics.response_time_ms) > 400 over 30s",
    "rules(00000000-0000-0000-0000-000000000001 and not 00000000-0000-0000-0000-000000000003) for 4s",
    "count[metrics.status_code >= 500] / count > 0.4 over 30s by source.service",
];

/// Returns what the clock shows at a tick.
pub(super) fn time(tick: u64) -> Timestamp {
    START.plus(TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX)))
}

/// Returns the tenant.
pub(super) fn tenant() -> TenantId {
    TenantId::from_name("torture")
}

/// Mixes numbers into one that looks random (the finalizer of SplitMix64).
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, part| {
        let mut bits = (hash ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}

/// Returns the events of a tick: services have quiet and bad times, and each event happened a little before.
pub(super) fn events(tick: u64) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for service in 0..SERVICES {
        let mood = mix(&[service, (tick + service * 3) / MOOD_TICKS]) % 4;
        let count = match mood {
            0 => 2,
            1 => 0,
            _ => u64::from(mix(&[service, tick, 1]).is_multiple_of(5)),
        };
        for number in 0..count {
            let chance = mix(&[service, tick, number, 2]);
            let back = Duration::from_micros(chance % 1_900_000);
            let id = EventId::new(format!("{tick}-{service}-{number}"))?;
            let mut event = Event::new(id, "call", time(tick).minus(back));
            event.source.service = Some(format!("service-{service}").into());
            event.metrics.response_time_ms = Some(if mood == 0 { 900.0 } else { 50.0 });
            event.metrics.status_code = Some(if chance.is_multiple_of(2) { 503 } else { 200 });
            events.push(event);
        }
    }
    // In the order of their time, so that live evaluation and replay see the same order.
    events.sort_by_key(|event| event.timestamp);
    Ok(events)
}

/// Returns the channel to the sink.
pub(super) fn channel(url: &str) -> Channel {
    let config = ChannelConfig::Webhook { url: url.into(), secrets: Vec::new(), headers: Vec::new() };
    Channel::new(ChannelId::from_u128(1), CHANNEL, config)
}

/// Returns the rules.
pub(super) fn rules() -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (index, text) in (1_u128..).zip(RULES) {
        let expression: RuleExpression = text.parse()?;
        let kind = RuleKind::Absence { window: TICK };
        let mut rule = Rule::new(RuleId::from_u128(index), format!("rule {index}"), kind);
        expression.apply_to(&mut rule);
        rule.channels = vec![ChannelRef::new(CHANNEL)];
        rule.notify_at_once = !is_grouped(rule.id);
        (rule.created_at, rule.updated_at) = (START, START);
        rules.push(rule);
    }
    Ok(rules)
}

/// Returns whether the alerts of a rule wait for each other before they are told.
pub(super) fn is_grouped(rule: RuleId) -> bool {
    rule.as_u128() == RULES.len() as u128
}
