//! The work of one tenant: its rules, what they and its planner remember, and what follows from events, time and people.

use std::collections::{BTreeMap, HashSet};

use super::{ProcessorParts, ProcessorSettings};
use crate::alerting::incident::Incident;
use crate::alerting::{AlertChange, AlertState, Plan, Planner, Rule, Transition, checkpoint};
use crate::error::Result;
use crate::event::Event;
use crate::id::TenantId;
use crate::ports::alert_store::{AlertCursor, AlertQuery, AlertStore, AlertingConfig, TenantAlertChanges};
use crate::ports::rule_engine::RuleEvaluation;
use crate::query::{FindQuery, Order};
use crate::time::{TimeRange, Timestamp};
use std::time::Duration;

/// How far in the future the time of an event can lie when it is received.
const MAX_SKEW: Duration = Duration::from_secs(3_600);
/// How often a tenant is told that rules have more groups than they may have.
const OVERFLOW_SPAN: Duration = Duration::from_secs(3_600);

/// What happened to one tenant in a step.
#[derive(Debug, Default)]
pub(super) struct Effects {
    alerts: Vec<AlertChange>,
    plan: Plan,
    /// Transitions of rules that the configuration does not know any more.
    orphans: Vec<Transition>,
    /// The state must be kept although nothing else changes.
    must_commit: bool,
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.plan.is_empty() && !self.must_commit
    }

    /// Returns how many changes and notifications there are.
    pub(super) fn count(&self) -> usize {
        self.alerts.len() + self.plan.deliveries.len()
    }

    /// Completes transitions of rules that were deleted while nobody watched from the records of their alerts.
    pub(super) async fn adopt_orphans(&mut self, tenant: TenantId, alerts: &dyn AlertStore) -> Result<()> {
        for transition in std::mem::take(&mut self.orphans) {
            if let Some(alert) = alerts.alert(tenant, transition.alert).await? {
                self.alerts.push(AlertChange {
                    transition,
                    rule_name: alert.rule_name,
                    severity: alert.severity,
                    labels: alert.labels,
                    annotations: alert.annotations,
                    summary: alert.summary,
                    suppressed_by: alert.suppressed_by,
                });
            }
        }
        Ok(())
    }

    /// Returns what is to be committed, if anything.
    pub(super) fn into_changes(self, tenant: TenantId) -> Option<TenantAlertChanges> {
        let Self { alerts, plan: Plan { deliveries, timeline }, .. } = self;
        let is_empty = alerts.is_empty() && deliveries.is_empty() && timeline.is_empty();
        (!is_empty).then_some(TenantAlertChanges { tenant, alerts, timeline, deliveries })
    }
}

/// What is known of a tenant between steps.
#[derive(Debug)]
pub(super) struct TenantWork {
    tenant: TenantId,
    config: AlertingConfig,
    evaluation: Box<dyn RuleEvaluation>,
    planner: Box<dyn Planner>,
    /// Encoded state; `None` when it must be encoded again.
    encoded: Option<Vec<u8>>,
    /// Matches counted when the state was encoded last.
    matches: u64,
    /// Events that went to overflow instances, when that was told last.
    overflowed: u64,
    /// Until when it is not told again.
    overflow_told_until: Timestamp,
}

impl TenantWork {
    /// Starts, or continues from an encoded state.
    pub(super) fn start(
        parts: &ProcessorParts,
        tenant: TenantId,
        config: AlertingConfig,
        state: Option<&[u8]>,
    ) -> Result<Self> {
        let (engine, planner) = state.map(checkpoint::split).transpose()?.unzip();
        Ok(Self {
            tenant,
            evaluation: parts.engine.start(tenant, &config.rules, engine)?,
            planner: parts.planner.start(tenant, planner)?,
            config,
            encoded: None,
            matches: 0,
            overflowed: 0,
            overflow_told_until: Timestamp::MIN,
        })
    }

    /// Returns the revision of the configuration that it works by.
    pub(super) const fn revision(&self) -> u64 {
        self.config.revision
    }

    /// Returns whether there are rules that events could matter to.
    pub(super) fn has_rules(&self) -> bool {
        !self.config.rules.is_empty()
    }

    /// Returns when time alone has something to do.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        [self.evaluation.next_due(), self.planner.next_due()].into_iter().flatten().min()
    }

    /// Takes a changed configuration.
    pub(super) fn configure(&mut self, config: AlertingConfig, now: Timestamp, effects: &mut Effects) {
        if self.config.rules != config.rules {
            let transitions = self.evaluation.set_rules(&config.rules, now);
            // Rules that are gone are known to the old configuration only.
            self.take(transitions, now, effects);
        }
        self.config = config;
        self.encoded = None;
    }

    /// Takes events in the order of the log.
    pub(super) fn observe(&mut self, events: &[Event], now: Timestamp, effects: &mut Effects) {
        let transitions = self.evaluation.observe(events);
        self.take(transitions, now, effects);
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Timestamp, effects: &mut Effects) {
        let transitions = self.evaluation.advance(now);
        self.take(transitions, now, effects);
        let plan = self.planner.advance(&self.config, now);
        self.encoded = self.encoded.take().filter(|_| plan.is_empty());
        effects.plan.extend(plan);
    }

    /// Gives new rules the events of their first window.
    pub(super) async fn read_history(
        &mut self,
        parts: &ProcessorParts,
        settings: &ProcessorSettings,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        for wanted in self.evaluation.wanted_history(now) {
            let rule = self.config.rules.iter().find(|rule| rule.id == wanted.rule);
            let mut query = FindQuery {
                range: TimeRange::new(wanted.since, wanted.until.plus(MAX_SKEW)),
                filter: rule.map(|rule| rule.filter.clone()),
                order: Order::OldestFirst,
                limit: 1_000,
                ..FindQuery::default()
            };
            let mut events = Vec::new();
            while events.len() < settings.history_events {
                let page = parts.events.find(self.tenant, &query).await?;
                events.extend(page.events.into_iter().filter(|event| event.received_at <= wanted.until));
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            let transitions = self.evaluation.prime(wanted.rule, &events, wanted.until);
            // What was read is part of the state from here on.
            effects.must_commit = true;
            self.encoded = None;
            self.take(transitions, now, effects);
        }
        Ok(())
    }

    /// Ends the episodes that people resolved, and learns of those that they acknowledged.
    pub(super) async fn follow_people(
        &mut self,
        alerts: &dyn AlertStore,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        let open = self.evaluation.open_episodes();
        if open.is_empty() {
            return Ok(());
        }
        let states = AlertState::ALL.into_iter().filter(|state| state.is_open()).collect();
        let mut query = AlertQuery { states, limit: 1_000, ..AlertQuery::default() };
        let (mut stored, mut acknowledged) = (HashSet::new(), BTreeMap::new());
        loop {
            let page = alerts.alerts(self.tenant, &query).await?;
            for alert in page.alerts {
                stored.insert(alert.id);
                acknowledged.extend(alert.acknowledgement.map(|acknowledgement| (alert.id, acknowledgement)));
            }
            let Some(AlertCursor { started_at, id }) = page.next else { break };
            query.after = Some(AlertCursor { started_at, id });
        }
        self.planner.follow(&acknowledged, now);
        let fresh: HashSet<_> = effects.alerts.iter().map(|change| change.transition.alert).collect();
        for episode in open {
            if !stored.contains(&episode.alert) && !fresh.contains(&episode.alert) {
                let transitions = self.evaluation.resolve(episode.alert, now);
                self.take(transitions, now, effects);
            }
        }
        Ok(())
    }

    /// Plans what follows from transitions.
    fn take(&mut self, transitions: Vec<Transition>, now: Timestamp, effects: &mut Effects) {
        if self.evaluation.counters().matches != self.matches || !transitions.is_empty() {
            self.encoded = None;
        }
        let mut changes = Vec::with_capacity(transitions.len());
        for transition in transitions {
            match self.config.rules.iter().find(|rule| rule.id == transition.rule) {
                Some(rule) => changes.push(AlertChange::new(transition, rule, rule.expression())),
                None => effects.orphans.push(transition),
            }
        }
        if !changes.is_empty() {
            effects.plan.extend(self.planner.plan(&mut changes, &self.config, now));
            effects.alerts.append(&mut changes);
        }
    }

    /// Returns the rules that have more groups than they may have, when that was not told lately.
    pub(super) fn overflows(&mut self, now: Timestamp) -> Vec<Incident<'_>> {
        let overflowed = self.evaluation.counters().overflowed;
        if overflowed == self.overflowed || now < self.overflow_told_until {
            return Vec::new();
        }
        (self.overflowed, self.overflow_told_until) = (overflowed, now.plus(OVERFLOW_SPAN));
        let overflowing = self.evaluation.overflowing();
        let rules = self.config.rules.iter().filter(|rule| overflowing.contains(&rule.id));
        rules
            .map(|rule| {
                let Rule { id, ref name, max_groups, .. } = *rule;
                Incident::RuleOverflowed { rule: id, name, max_groups }
            })
            .collect()
    }

    /// Returns the state to continue from.
    pub(super) fn encode(&mut self) -> &[u8] {
        let (evaluation, planner) = (&self.evaluation, &self.planner);
        self.matches = evaluation.counters().matches;
        self.encoded.get_or_insert_with(|| checkpoint::join(&evaluation.snapshot(), &planner.snapshot()))
    }
}
