//! From an alert to the groups that tell about it.

use std::time::Duration;

use crate::alerting::{AlertChange, ChannelRef, GroupTiming, Labels, Route, Rule};
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;

/// A group that an alert belongs to, and what its route says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// Identity of the group: route, labels, and what else sets it apart.
    pub(super) key: Text,
    /// The labels by which it is grouped.
    pub(super) labels: Labels,
    pub(super) channels: Vec<ChannelRef>,
    pub(super) timing: GroupTiming,
    pub(super) mute_during: Vec<Text>,
}

/// What a route says together with its parents.
#[derive(Debug, Clone)]
struct Resolved<'a> {
    path: String,
    channels: &'a [ChannelRef],
    group_by: Option<&'a [Text]>,
    timing: GroupTiming,
    mute_during: Vec<Text>,
}

impl<'a> Resolved<'a> {
    fn child(&self, index: usize, route: &'a Route) -> Self {
        let mut mute_during = self.mute_during.clone();
        mute_during.extend(route.mute_during.iter().cloned());
        Self {
            path: format!("{}/{index}", self.path),
            channels: route.channels.as_deref().unwrap_or(self.channels),
            group_by: route.group_by.as_deref().or(self.group_by),
            timing: route.timing.unwrap_or(self.timing),
            mute_during,
        }
    }
}

/// Returns where an alert goes: one target for each route that takes it, and one only for a rule with channels of its own.
pub(super) fn targets(change: &AlertChange, labels: &Labels, config: &AlertingConfig) -> Vec<Target> {
    let top = Resolved {
        path: String::new(),
        channels: &[],
        group_by: None,
        timing: GroupTiming::default(),
        mute_during: Vec::new(),
    };
    let mut found = Vec::new();
    take(&config.routing.root, top.child(0, &config.routing.root), labels, &mut found);
    let rule = config.rules.iter().find(|rule| rule.id == change.transition.rule);
    let own = rule.map(|rule| rule.channels.as_slice()).filter(|channels| !channels.is_empty());
    if own.is_some() {
        found.truncate(1);
    }
    found.into_iter().map(|route| target(change, labels, rule, own, route)).collect()
}

/// Adds the routes at or below `route` that take an alert with these labels, which matches `route`.
fn take<'a>(route: &'a Route, resolved: Resolved<'a>, labels: &Labels, found: &mut Vec<Resolved<'a>>) {
    let before = found.len();
    for (index, child) in route.routes.iter().enumerate() {
        if child.matchers.iter().all(|matcher| matcher.matches(labels)) {
            take(child, resolved.child(index, child), labels, found);
            if !child.go_on {
                break;
            }
        }
    }
    if found.len() == before {
        found.push(resolved);
    }
}

fn target(
    change: &AlertChange,
    labels: &Labels,
    rule: Option<&Rule>,
    own: Option<&[ChannelRef]>,
    route: Resolved<'_>,
) -> Target {
    let by_rule = [Text::from("rule")];
    let group_labels: Labels = route
        .group_by
        .unwrap_or(&by_rule)
        .iter()
        .map(|name| (name.clone(), labels.get(name).cloned().unwrap_or_default()))
        .collect();
    let mut key = route.path.clone();
    for (name, value) in &group_labels {
        key.push_str(&format!(";{}:{name}={}:{value}", name.len(), value.len()));
    }
    if own.is_some() {
        key.push_str(&format!(";rule:{}", change.transition.rule));
    }
    let mut timing = route.timing;
    if rule.is_some_and(|rule| rule.notify_at_once) {
        key.push_str(&format!(";alert:{}", change.transition.alert));
        timing.group_wait = Duration::ZERO;
        timing.group_interval = Duration::ZERO;
    }
    Target {
        key: key.into(),
        labels: group_labels,
        channels: own.unwrap_or(route.channels).to_vec(),
        timing,
        mute_during: route.mute_during,
    }
}
