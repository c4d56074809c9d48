//! What keeps alerts quiet: silences and inhibition.

use std::collections::BTreeMap;

use super::Tracked;
use crate::alerting::{AlertChange, Inhibition, Labels, Silence, Suppression, TimelineEntry, TimelineKind};
use crate::id::{AlertId, derive_uuid};
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;
use crate::time::Timestamp;

/// An alert that inhibits others.
#[derive(Debug)]
struct Source {
    alert: AlertId,
    /// Two alerts that are both source and target of one inhibition do not silence each other.
    is_target: bool,
}

/// The sources of an inhibition by the values of its equal labels.
type Sources = BTreeMap<Vec<Text>, Vec<Source>>;

/// Silences in force and alerts that inhibit, at one moment.
#[derive(Debug)]
pub(super) struct Quiet<'a> {
    silences: Vec<&'a Silence>,
    inhibitions: Vec<(&'a Inhibition, Sources)>,
    now: Timestamp,
}

impl<'a> Quiet<'a> {
    pub(super) fn new(
        config: &'a AlertingConfig,
        alerts: &BTreeMap<AlertId, Tracked>,
        now: Timestamp,
    ) -> Self {
        let silences =
            config.silences.iter().filter(|silence| silence.starts_at <= now && now < silence.ends_at);
        let with_sources = |inhibition: &'a Inhibition| {
            let mut sources = Sources::new();
            for (id, tracked) in alerts {
                if inhibition.source.iter().all(|matcher| matcher.matches(&tracked.labels)) {
                    let is_target = inhibition.target.iter().all(|matcher| matcher.matches(&tracked.labels));
                    let values = equal_values(inhibition, &tracked.labels);
                    sources.entry(values).or_default().push(Source { alert: *id, is_target });
                }
            }
            (inhibition, sources)
        };
        Self {
            silences: silences.collect(),
            inhibitions: config.routing.inhibitions.iter().map(with_sources).collect(),
            now,
        }
    }

    /// Returns what keeps an alert with these labels quiet.
    pub(super) fn of(&self, id: AlertId, labels: &Labels) -> Option<Suppression> {
        if let Some(silence) = self.silences.iter().find(|silence| silence.mutes(labels, self.now)) {
            return Some(Suppression::Silence(silence.id));
        }
        self.inhibitions.iter().find_map(|(inhibition, sources)| {
            let candidates = sources.get(&equal_values(inhibition, labels))?;
            if !inhibition.target.iter().all(|matcher| matcher.matches(labels)) {
                return None;
            }
            let is_source = inhibition.source.iter().all(|matcher| matcher.matches(labels));
            candidates
                .iter()
                .find(|source| source.alert != id && !(is_source && source.is_target))
                .map(|source| Suppression::Inhibition(source.alert))
        })
    }
}

fn equal_values(inhibition: &Inhibition, labels: &Labels) -> Vec<Text> {
    inhibition.equal.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
}

/// Returns the entry for the timeline of an alert that is kept back.
pub(super) fn suppression_entry(change: &AlertChange, by: &Suppression, at: Timestamp) -> TimelineEntry {
    let alert = change.transition.alert;
    let name = format!("{}/{by:?}/{}", change.transition.sequence, at.as_micros());
    TimelineEntry {
        id: derive_uuid(b"pulsestream.timeline.suppressed", name.as_bytes()),
        alert,
        at,
        actor: None,
        note: None,
        kind: TimelineKind::Suppressed { by: by.clone() },
    }
}
