//! What must hold at the end: the alerts are those of an undisturbed replay, and the sink was told of each, under one id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pulsestream::PulseStream;
use pulsestream_core::alerting::{
    Alert, AlertState, Delivery, DeliveryStatus, TimelineKind, TransitionReason,
};
use pulsestream_core::env::ManualClock;
use pulsestream_core::id::{AlertId, RuleId};
use pulsestream_core::ports::alert_store::AlertQuery;
use pulsestream_core::ports::outbox::DeliveryQuery;
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, ErrorKind, Result};

use super::sink::Received;
use super::{child, script};

/// What the last round of the child may have left undecided.
const UNDECIDED: Duration = Duration::from_secs(70);

/// A change of an alert, as a store and a replay tell it alike.
type Change = (RuleId, AlertId, Timestamp, Option<AlertState>, AlertState, Option<u64>, TransitionReason);

/// How much was checked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checked {
    /// Events that were acknowledged.
    pub(super) events: usize,
    /// Alerts, those that never fired too.
    pub(super) alerts: usize,
    /// Their changes.
    pub(super) changes: usize,
    /// Notifications.
    pub(super) deliveries: usize,
    /// Notifications that came more than once, under one id.
    pub(super) again: usize,
}

impl std::ops::AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.alerts += other.alerts;
        self.changes += other.changes;
        self.deliveries += other.deliveries;
        self.again += other.again;
    }
}

fn broken(what: &'static str, which: impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Internal, "torture.alerting", what).with_context("which", format!("{which:?}"))
}

/// Checks a store that a child brought to its end at `end`, after the events of the ticks `said` were acknowledged.
pub(super) async fn check(
    store: &str,
    end: Timestamp,
    said: &BTreeSet<u64>,
    received: &BTreeMap<String, Received>,
) -> Result<Checked> {
    let ps = child::open(store, Arc::new(ManualClock::new(end)), false).await?;
    let events = each_event_is_there_once(&ps, said).await?;
    let alerts = all_alerts(&ps).await?;
    let changes = compare_with_replay(&ps, &alerts, end.minus(UNDECIDED)).await?;
    let deliveries = all_deliveries(&ps).await?;
    ps.close().await?;
    compare_with_sink(&deliveries, received)?;
    each_is_told_once(&alerts, &deliveries)?;
    let again = received.values().filter(|received| received.times > 1).count();
    Ok(Checked { events, alerts: alerts.len(), changes, deliveries: deliveries.len(), again })
}

/// What was acknowledged is there, and nothing is there twice.
async fn each_event_is_there_once(ps: &PulseStream, said: &BTreeSet<u64>) -> Result<usize> {
    let tenant = ps.tenant(script::tenant());
    let mut query = FindQuery { order: Order::OldestFirst, limit: 1_000, ..FindQuery::default() };
    let mut present = BTreeSet::new();
    loop {
        let page = tenant.find(query.clone()).await?;
        for event in page.events {
            let id = event.id.as_str().to_owned();
            if !present.insert(id.clone()) {
                return Err(broken("an event is there twice", id));
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let mut acknowledged = BTreeSet::new();
    for tick in said {
        acknowledged.extend(script::events(*tick)?.iter().map(|event| event.id.as_str().to_owned()));
    }
    if let Some(missing) = acknowledged.difference(&present).next() {
        return Err(broken("an acknowledged event is missing", missing));
    }
    // What was sent and not acknowledged any more was sent again, or belongs to the tick in which a child was killed.
    Ok(acknowledged.len())
}

async fn all_alerts(ps: &PulseStream) -> Result<Vec<Alert>> {
    let mut query = AlertQuery { include_unfired: true, limit: 1_000, ..AlertQuery::default() };
    let mut alerts = Vec::new();
    loop {
        let page = ps.alert_store().alerts(script::tenant(), &query).await?;
        alerts.extend(page.alerts);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(alerts);
        }
    }
}

/// Replays all events through the engine: it must say what the timelines say.
async fn compare_with_replay(ps: &PulseStream, alerts: &[Alert], end: Timestamp) -> Result<usize> {
    let tenant = ps.tenant(script::tenant());
    let mut stored: BTreeSet<String> = BTreeSet::new();
    for alert in alerts {
        for entry in tenant.alerts().timeline(alert.id).await? {
            if let TimelineKind::Transition { from, to, value, reason } = entry.kind
                && entry.at < end
            {
                let bits = value.map(f64::to_bits);
                if !stored.insert(shown((alert.rule, alert.id, entry.at, from, to, bits, reason))) {
                    return Err(broken("a change is there twice", (alert.id, entry.at)));
                }
            }
        }
    }
    let mut expected = BTreeSet::new();
    for rule in script::rules()? {
        let replayed = tenant.rules().backtest(&rule, TimeRange::new(script::START, end)).await?;
        expected.extend(replayed.transitions.into_iter().map(|it| {
            shown((it.rule, it.alert, it.at, it.from, it.to, it.value.map(f64::to_bits), it.reason))
        }));
    }
    if let Some(missing) = expected.difference(&stored).next() {
        return Err(broken("a change of an alert is missing", missing));
    }
    if let Some(extra) = stored.difference(&expected).next() {
        return Err(broken("a change of an alert should not be there", extra));
    }
    Ok(stored.len())
}

fn shown(change: Change) -> String {
    format!("{change:?}")
}

async fn all_deliveries(ps: &PulseStream) -> Result<Vec<Delivery>> {
    let mut query = DeliveryQuery { limit: 1_000, ..DeliveryQuery::default() };
    let mut deliveries = Vec::new();
    loop {
        let page = ps.outbox().deliveries(script::tenant(), &query).await?;
        deliveries.extend(page.deliveries);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(deliveries);
        }
    }
}

/// Everything planned was accepted by the sink, which got nothing else, and one body for each id.
fn compare_with_sink(deliveries: &[Delivery], received: &BTreeMap<String, Received>) -> Result<()> {
    for delivery in deliveries {
        let seen = received.get(&delivery.id.to_string());
        if delivery.status != DeliveryStatus::Delivered || seen.is_none_or(|seen| seen.accepted == 0) {
            return Err(broken("a notification was not delivered", delivery));
        }
    }
    let planned: BTreeSet<String> = deliveries.iter().map(|delivery| delivery.id.to_string()).collect();
    for (id, seen) in received {
        if !planned.contains(id) {
            return Err(broken("the sink was told what nobody planned", id));
        }
        if seen.bodies.len() != 1 {
            return Err(broken("one id came with different bodies", id));
        }
    }
    Ok(())
}

/// Each alert that fired is told: once, when it is told at once, and once more when it is over. One that fires and ends before it
/// is planned is told once, as over. A message about a large group only counts those beyond its first.
fn each_is_told_once(alerts: &[Alert], deliveries: &[Delivery]) -> Result<()> {
    let mut told: BTreeMap<(AlertId, &str), usize> = BTreeMap::new();
    for delivery in deliveries {
        for alert in &delivery.content.alerts {
            *told.entry((alert.id, alert.state.as_str())).or_default() += 1;
        }
    }
    let mut omitted: u64 = deliveries.iter().map(|delivery| u64::from(delivery.content.omitted)).sum();
    for alert in alerts.iter().filter(|alert| alert.fired_at.is_some()) {
        let times = |state: AlertState| told.get(&(alert.id, state.as_str())).copied().unwrap_or_default();
        let (firing, resolved) = (times(AlertState::Firing), times(AlertState::Resolved));
        let is_over = alert.state == AlertState::Resolved;
        let is_right = if script::is_grouped(alert.rule) {
            firing + resolved > 0 && (resolved > 0) == is_over
        } else {
            firing <= 1 && resolved == usize::from(is_over) && firing + resolved > 0
        };
        if !is_right && script::is_grouped(alert.rule) && omitted > 0 {
            omitted -= 1;
        } else if !is_right {
            return Err(broken(
                "an alert was not told as it should",
                (alert.id, alert.state, firing, resolved),
            ));
        }
    }
    Ok(())
}
