//! The alerting processor: events of a partition in, alerts and deliveries out, exactly once in effect.

mod tenant;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use self::tenant::{Effects, TenantWork};
use super::{AlertListener, PlannerFactory, checkpoint, incident};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::TenantId;
use crate::lease::KeptLease;
use crate::ports::alert_store::{AlertCommit, AlertStore, CheckpointUpdate, TenantAlertChanges};
use crate::ports::coordinator::Coordinator;
use crate::ports::event_store::{EventStore, Partition, Position, TailOptions};
use crate::ports::rule_engine::RuleEngine;
use crate::processing::StepOutcome;
use crate::text::Text;
use crate::time::Timestamp;

/// Name under which the processor keeps its checkpoints.
pub const PROCESSOR: &str = "alerting";
/// How the processor works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorSettings {
    /// How many events one step takes at most.
    pub batch_events: usize,
    /// How long a lease on a partition lasts; it is renewed after a third of it.
    pub lease_ttl: Duration,
    /// How long a checkpoint may lag behind when nothing happens that must be committed.
    pub checkpoint_interval: Duration,
    /// After how many events a checkpoint is made even sooner: what is replayed after a crash at most.
    pub checkpoint_events: usize,
    /// How many stored events a new rule reads at most to fill its first window.
    pub history_events: usize,
    /// How often changed rules are looked for.
    pub config_interval: Duration,
}

impl Default for ProcessorSettings {
    fn default() -> Self {
        Self {
            batch_events: 5_000,
            lease_ttl: Duration::from_secs(15),
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_events: 100_000,
            history_events: 50_000,
            config_interval: Duration::from_secs(1),
        }
    }
}

/// What the processor works with.
#[derive(Debug, Clone)]
pub struct ProcessorParts {
    /// Where the events are.
    pub events: Arc<dyn EventStore>,
    /// Where rules, alerts, deliveries and checkpoints are.
    pub alerts: Arc<dyn AlertStore>,
    /// Who may work.
    pub coordinator: Arc<dyn Coordinator>,
    /// What evaluates the rules.
    pub engine: Arc<dyn RuleEngine>,
    /// What decides who is told.
    pub planner: Arc<dyn PlannerFactory>,
    /// Who is told of the alerts that changed.
    pub listener: Option<Arc<dyn AlertListener>>,
    /// The time.
    pub env: Env,
    /// Unique for each process: holds the leases.
    pub holder: Text,
}

/// The state of a partition between steps, lost when the lease is.
#[derive(Debug)]
struct Work {
    fencing_token: u64,
    sequence: u64,
    position: Position,
    tenants: BTreeMap<TenantId, TenantWork>,
    /// States of tenants whose configuration was not read yet.
    unread: HashMap<TenantId, Vec<u8>>,
    config_read_at: Option<Timestamp>,
    checkpoint_at: Timestamp,
    events_since_checkpoint: usize,
    /// A commit whose outcome is not known yet: it is made again before anything else.
    pending: Option<AlertCommit>,
}

impl Work {
    /// Returns whose events matter.
    fn with_rules(&self) -> BTreeSet<TenantId> {
        let with_rules = self.tenants.iter().filter(|(_, work)| work.has_rules());
        with_rules.map(|(tenant, _)| *tenant).collect()
    }

    fn encode(&mut self) -> Vec<u8> {
        let mut states: BTreeMap<TenantId, &[u8]> = BTreeMap::new();
        states.extend(self.unread.iter().map(|(tenant, state)| (*tenant, state.as_slice())));
        states.extend(self.tenants.iter_mut().map(|(tenant, tenant_work)| (*tenant, tenant_work.encode())));
        checkpoint::encode(&states)
    }
}

/// Processes one partition, a step at a time. It has no timer and spawns nothing: whoever drives it calls [`step`](Self::step)
/// when events come or time is due.
#[derive(Debug)]
pub struct AlertingProcessor {
    parts: ProcessorParts,
    settings: ProcessorSettings,
    partition: Partition,
    lease: KeptLease,
    work: Option<Work>,
}

impl AlertingProcessor {
    /// Creates the processor of a partition.
    pub fn new(parts: ProcessorParts, settings: ProcessorSettings, partition: Partition) -> Self {
        let resource = format!("{PROCESSOR}/{}", partition.number());
        let (coordinator, holder) = (parts.coordinator.clone(), parts.holder.clone());
        let lease = KeptLease::new(coordinator, resource, holder, settings.lease_ttl);
        Self { parts, settings, partition, lease, work: None }
    }

    /// Returns the partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Returns up to where events were taken, for [`EventStore::wait_for_events`].
    pub fn position(&self) -> Position {
        self.work.as_ref().map_or(Position::START, |work| work.position)
    }

    /// Takes the next events, lets time pass when there are no more, and commits what follows.
    ///
    /// # Contract
    /// - Whatever happens between two steps, an event takes effect once: transitions, deliveries and the place in the log are one
    ///   commit, under the fencing token of the lease.
    ///
    /// # Errors
    /// Those of the stores. After an error the next step continues, or starts again from the checkpoint.
    ///
    /// # Cancel safety
    /// A dropped step loses the memory of the partition, and the next one starts again from the checkpoint.
    pub async fn step(&mut self) -> Result<StepOutcome> {
        let now = self.parts.env.now();
        let held = self.lease.token();
        let token = self.lease.hold(now).await?;
        if token.is_none() {
            self.work = None;
            return Ok(self.idle());
        }
        let outcome = self.work_under_lease(now).await;
        match &outcome {
            // Only work that went well renews the lease: its time tells others when rules were evaluated last.
            Ok(_) => self.lease.renew(self.parts.env.now()).await,
            Err(error) if error.kind() == ErrorKind::Fenced => self.lease.forget(),
            // Nothing went well under this lease yet, and another process may fare better.
            Err(_) if token != held => {
                // A lease that cannot be given back ends by itself.
                let _ = self.lease.release().await;
            }
            Err(_) => {}
        }
        outcome
            .map(|outcome| StepOutcome { next_due: outcome.next_due.min(self.lease.renew_at()), ..outcome })
    }

    async fn work_under_lease(&mut self, now: Timestamp) -> Result<StepOutcome> {
        // What is in memory was made under the token that it carries.
        let known = self.work.take().filter(|work| Some(work.fencing_token) == self.lease.token());
        let work = match known {
            Some(work) => work,
            None => self.load(now).await?,
        };
        match self.work_on(work, now).await {
            Ok((work, outcome)) => {
                self.work = Some(work);
                Ok(outcome)
            }
            Err((work, error)) => {
                self.work = work;
                Err(error)
            }
        }
    }

    /// Gives the partition back, so that another process takes it at once.
    ///
    /// # Errors
    /// Those of the coordinator.
    pub async fn stop(&mut self) -> Result<()> {
        self.work = None;
        self.lease.release().await
    }

    fn idle(&self) -> StepOutcome {
        let next_due = self.lease.renew_at();
        StepOutcome { events: 0, effects: 0, holds_lease: false, has_more: false, next_due }
    }

    async fn load(&self, now: Timestamp) -> Result<Work> {
        let checkpoint = self.parts.alerts.checkpoint(PROCESSOR, self.partition).await?;
        let fencing_token = self.lease.token().unwrap_or_default();
        let (sequence, position, unread) = match &checkpoint {
            Some(checkpoint) => {
                (checkpoint.sequence, checkpoint.position, checkpoint::decode(&checkpoint.state)?)
            }
            None => (0, Position::START, HashMap::new()),
        };
        Ok(Work {
            fencing_token,
            sequence,
            position,
            tenants: BTreeMap::new(),
            unread,
            config_read_at: None,
            checkpoint_at: now,
            events_since_checkpoint: 0,
            pending: None,
        })
    }

    /// Returns the work together with an error when it can go on from where it is.
    async fn work_on(
        &self,
        mut work: Work,
        now: Timestamp,
    ) -> Result<(Work, StepOutcome), (Option<Work>, Error)> {
        if let Some(commit) = work.pending.take() {
            work = self.commit(work, commit).await?;
        }
        let mut changes: BTreeMap<TenantId, Effects> = BTreeMap::new();
        let limit = self.settings.batch_events.max(1);
        // A little early serves as well, and whoever looks once in an interval does not miss it by a hair.
        let interval = self.settings.config_interval * 7 / 8;
        let (mut is_due, mut is_changed) =
            (work.config_read_at.is_none_or(|read_at| now >= read_at.plus(interval)), false);
        let batch = loop {
            let wanted = work.with_rules();
            let options = TailOptions { limit, tenants: Some(Arc::new(wanted.clone())) };
            let batch = match self.parts.events.tail(self.partition, work.position, options).await {
                Ok(batch) => batch,
                Err(error) => return Err(((!is_changed).then_some(work), error)),
            };
            // Read after the events, so that a rule that was made before an event is known when the event is taken.
            if batch.next > work.position || is_due {
                // A failure here may have changed the state of some tenants: start again from the checkpoint.
                self.read_config(&mut work, now, &mut changes).await.map_err(|error| (None, error))?;
                work.config_read_at = Some(now);
                (is_due, is_changed) = (false, true);
            }
            // Events of a tenant whose first rule was found only now may have been passed over: read them again.
            if batch.next == work.position || work.with_rules().is_subset(&wanted) {
                break batch;
            }
        };
        let events = batch.events.len();
        let mut by_tenant: BTreeMap<TenantId, Vec<Event>> = BTreeMap::new();
        for tailed in batch.events {
            by_tenant.entry(tailed.tenant).or_default().push(tailed.event);
        }
        for (tenant, events) in by_tenant {
            if let Some(tenant_work) = work.tenants.get_mut(&tenant) {
                tenant_work.observe(&events, now, changes.entry(tenant).or_default());
                let incidents = tenant_work.overflows(now);
                incident::tell(&*self.parts.events, tenant, &incidents, now).await;
            }
        }
        // What was passed over counts too: the place moves, and is to be kept.
        if batch.next > work.position {
            work.events_since_checkpoint += events.max(1);
        }
        work.position = work.position.max(batch.next);
        if batch.caught_up {
            for (tenant, tenant_work) in &mut work.tenants {
                tenant_work.advance(now, changes.entry(*tenant).or_default());
            }
        }
        for (tenant, effects) in &mut changes {
            effects.adopt_orphans(*tenant, &*self.parts.alerts).await.map_err(|error| (None, error))?;
        }
        changes.retain(|_, effects| !effects.is_empty());
        let effects = changes.values().map(Effects::count).sum();
        let has_moved = work.events_since_checkpoint > 0
            && (now >= work.checkpoint_at.plus(self.settings.checkpoint_interval)
                || work.events_since_checkpoint >= self.settings.checkpoint_events);
        if has_moved || !changes.is_empty() {
            let commit = self.prepare(&mut work, changes);
            work = self.commit(work, commit).await?;
            work.checkpoint_at = now;
            work.events_since_checkpoint = 0;
        }
        let next_due = self.next_due(&work, now);
        let has_more = !batch.caught_up;
        Ok((work, StepOutcome { events, effects, holds_lease: true, has_more, next_due }))
    }

    /// Looks for changed rules, and for alerts that people resolved.
    async fn read_config(
        &self,
        work: &mut Work,
        now: Timestamp,
        changes: &mut BTreeMap<TenantId, Effects>,
    ) -> Result<()> {
        let revisions: BTreeMap<TenantId, u64> =
            self.parts.alerts.revisions(self.partition).await?.into_iter().collect();
        let known = work.tenants.len() + work.unread.len();
        work.tenants.retain(|tenant, _| revisions.contains_key(tenant));
        work.unread.retain(|tenant, _| revisions.contains_key(tenant));
        // The state of a tenant that is gone leaves the checkpoint soon, whether events come or not.
        if work.tenants.len() + work.unread.len() < known {
            work.events_since_checkpoint = work.events_since_checkpoint.max(1);
        }
        for (tenant, revision) in revisions {
            let known = work.tenants.get(&tenant);
            if known.is_some_and(|tenant_work| tenant_work.revision() == revision) {
                continue;
            }
            let config = self.parts.alerts.config(tenant, now).await?;
            let effects = changes.entry(tenant).or_default();
            match work.tenants.get_mut(&tenant) {
                Some(tenant_work) => {
                    tenant_work.configure(config, now, effects);
                }
                None => {
                    let state = work.unread.remove(&tenant);
                    let tenant_work = TenantWork::start(&self.parts, tenant, config, state.as_deref())?;
                    work.tenants.insert(tenant, tenant_work);
                }
            }
            if let Some(tenant_work) = work.tenants.get_mut(&tenant) {
                tenant_work.read_history(&self.parts, &self.settings, now, effects).await?;
                tenant_work.follow_people(&*self.parts.alerts, now, effects).await?;
            }
        }
        Ok(())
    }

    /// Makes the commit of what happened, with the state after it.
    fn prepare(&self, work: &mut Work, changes: BTreeMap<TenantId, Effects>) -> AlertCommit {
        let changes =
            changes.into_iter().filter_map(|(tenant, effects)| effects.into_changes(tenant)).collect();
        AlertCommit {
            checkpoint: CheckpointUpdate {
                processor: Text::from(PROCESSOR),
                partition: self.partition,
                fencing_token: work.fencing_token,
                after_sequence: work.sequence,
                position: work.position,
                state: work.encode(),
            },
            changes,
        }
    }

    async fn commit(&self, mut work: Work, commit: AlertCommit) -> Result<Work, (Option<Work>, Error)> {
        match self.parts.alerts.commit(commit.clone()).await {
            Ok(_) => {
                work.sequence += 1;
                if let Some(listener) = &self.parts.listener {
                    for TenantAlertChanges { tenant, alerts, deliveries, .. } in &commit.changes {
                        let changed: Vec<_> = alerts.iter().map(|change| change.transition.alert).collect();
                        listener.alerts_changed(*tenant, &changed);
                        if !deliveries.is_empty() {
                            listener.deliveries_planned();
                        }
                    }
                }
                Ok(work)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Conflict) => {
                // Somebody else moved the checkpoint: what is in memory is not what is stored.
                Err((None, error))
            }
            Err(error) => {
                work.pending = Some(commit);
                Err((Some(work), error))
            }
        }
    }

    fn next_due(&self, work: &Work, now: Timestamp) -> Timestamp {
        let config_due = work.config_read_at.unwrap_or(now).plus(self.settings.config_interval);
        let mut due = config_due;
        if work.events_since_checkpoint > 0 {
            due = due.min(work.checkpoint_at.plus(self.settings.checkpoint_interval));
        }
        let dues = work.tenants.values().filter_map(TenantWork::next_due);
        dues.fold(due, Timestamp::min).max(now)
    }
}
