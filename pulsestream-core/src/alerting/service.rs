//! What people do with alerting: rules, alerts, channels, silences and routes, checked before they are stored.

mod deliveries;
mod evaluation;

use std::sync::Arc;

use serde::Serialize;

pub use self::evaluation::{Evaluated, EvaluatedGroup};
use super::delivery::template;
use super::{
    Alert, AlertAction, AlertListener, AlertState, Author, Channel, ChannelRef, DEFAULT_MAX_GROUPS,
    MAX_GROUPS, Routing, Rule, RuleKind, Silence,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, FieldError, Result};
use crate::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
use crate::ports::alert_store::{AlertStore, ConfigChangePage, ConfigChangeQuery, PutMode, RuleQuery};
use crate::ports::event_store::EventStore;
use crate::ports::outbox::Outbox;
use crate::ports::rule_engine::RuleEngine;
use crate::text::Text;
use crate::time::Timestamp;

/// Who changes something when nobody is named.
const APPLICATION: &str = "application";
/// How many silences that ended go for each new one, when a limit was lowered.
const MAX_MADE_ROOM: usize = 16;

/// How alerting stands for a tenant; resolved episodes that never fired do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct AlertStats {
    /// All alerts that are kept.
    pub total_alerts: u64,
    /// Those that fire, recover, or have no data.
    pub active_alerts: u64,
    /// Those that wait for their `for`.
    pub pending_alerts: u64,
    /// Those that are over.
    pub resolved_alerts: u64,
    /// All rules.
    pub total_rules: u64,
    /// Those that are switched on.
    pub active_rules: u64,
    /// Share of the alerts that are over, 0 to 100; 0 without alerts.
    pub alert_resolution_rate: f64,
}

/// Checks and stores what people configure, answers what they ask, and records what they do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AlertingService {
    alerts: Arc<dyn AlertStore>,
    outbox: Arc<dyn Outbox>,
    events: Arc<dyn EventStore>,
    engine: Arc<dyn RuleEngine>,
    env: Env,
    server_channels: Arc<[Channel]>,
    listener: Option<Arc<dyn AlertListener>>,
    max_rules: usize,
    max_channels: usize,
    max_silences: usize,
    max_instances: u32,
    actor: Text,
    may_name_later_channels: bool,
}

impl AlertingService {
    /// Creates the service, without channels of the server and with at most 1,000 rules and channels and 10,000 silences for each tenant.
    pub fn new(
        alerts: Arc<dyn AlertStore>,
        outbox: Arc<dyn Outbox>,
        events: Arc<dyn EventStore>,
        engine: Arc<dyn RuleEngine>,
        env: Env,
    ) -> Self {
        Self {
            alerts,
            outbox,
            events,
            engine,
            env,
            server_channels: Arc::new([]),
            listener: None,
            max_rules: 1_000,
            max_channels: 1_000,
            max_silences: 10_000,
            max_instances: MAX_GROUPS,
            actor: APPLICATION.into(),
            may_name_later_channels: false,
        }
    }

    /// Sets the channels that rules may name without a tenant configuring them.
    #[must_use]
    pub fn with_server_channels(mut self, channels: Vec<Channel>) -> Self {
        self.server_channels = channels.into();
        self
    }

    /// Tells this listener of what people do with alerts, and of deliveries that they ask for.
    #[must_use]
    pub fn with_listener(mut self, listener: Arc<dyn AlertListener>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Sets how many rules a tenant may have.
    #[must_use]
    pub fn with_max_rules(mut self, max_rules: usize) -> Self {
        self.max_rules = max_rules;
        self
    }

    /// Sets how many channels a tenant may have.
    #[must_use]
    pub fn with_max_channels(mut self, max_channels: usize) -> Self {
        self.max_channels = max_channels;
        self
    }

    /// Sets how many silences a tenant may have.
    #[must_use]
    pub fn with_max_silences(mut self, max_silences: usize) -> Self {
        self.max_silences = max_silences;
        self
    }

    /// Sets how many instances a rule may have: its `max_groups` at most.
    #[must_use]
    pub fn with_max_instances(mut self, max_instances: u32) -> Self {
        self.max_instances = max_instances.max(1);
        self
    }

    /// Returns the same service for somebody: the log of changes names them, for example `user:0190f3a2-...`. Without it, the log
    /// says `application`.
    #[must_use]
    pub fn acting_as(&self, actor: impl Into<Text>) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// Returns the same service for callers who may name channels that are made later. Until then an alert says in its timeline that
    /// nobody was told.
    #[must_use]
    pub fn naming_later_channels(&self) -> Self {
        Self { may_name_later_channels: true, ..self.clone() }
    }

    /// Returns the store below, for questions that need no check.
    pub fn store(&self) -> &Arc<dyn AlertStore> {
        &self.alerts
    }

    /// Returns a new id for a rule.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn new_rule_id(&self) -> Result<RuleId> {
        self.env.uuid_v7().map(RuleId::from_u128)
    }

    /// Stores a new rule and returns it with its version and times.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong; `Conflict` when the name is taken, or the tenant has as many rules
    /// as it may.
    pub async fn create_rule(&self, tenant: TenantId, mut rule: Rule) -> Result<Rule> {
        let now = self.env.now();
        (rule.created_at, rule.updated_at) = (now, now);
        self.check_rule(tenant, &mut rule).await?;
        let query = RuleQuery { limit: 1, ..RuleQuery::default() };
        let total = self.alerts.rules(tenant, &query).await?.total;
        if usize::try_from(total).unwrap_or(usize::MAX) >= self.max_rules {
            let message = "the tenant has as many rules as it may";
            return Err(Error::new(ErrorKind::Conflict, "rules.create", message)
                .with_context("max_rules", self.max_rules));
        }
        self.alerts.put_rule(tenant, rule, PutMode::Create, &self.author()).await
    }

    /// Replaces a rule and returns it; `version` is the one that was read, `None` replaces whatever is there.
    ///
    /// # Errors
    /// Those of [`Self::create_rule`]; `NotFound` for an unknown rule; `Conflict` when it changed since it was read.
    pub async fn update_rule(&self, tenant: TenantId, mut rule: Rule, version: Option<u64>) -> Result<Rule> {
        let before = self.rule(tenant, rule.id).await?;
        rule.created_at = before.created_at;
        rule.updated_at = self.env.now().max(before.updated_at);
        self.check_rule(tenant, &mut rule).await?;
        let mode = PutMode::Replace { version: version.unwrap_or(before.version) };
        self.alerts.put_rule(tenant, rule, mode, &self.author()).await
    }

    /// Switches a rule on or off and returns it; `version` is the one that was read, `None` switches whatever is there.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule; `Conflict` when it changed since it was read.
    pub async fn set_rule_active(
        &self,
        tenant: TenantId,
        id: RuleId,
        is_active: bool,
        version: Option<u64>,
    ) -> Result<Rule> {
        let mut rule = self.rule(tenant, id).await?;
        if rule.is_active == is_active && version.is_none_or(|version| version == rule.version) {
            return Ok(rule);
        }
        let version = version.unwrap_or(rule.version);
        rule.is_active = is_active;
        rule.updated_at = self.env.now();
        self.alerts.put_rule(tenant, rule, PutMode::Replace { version }, &self.author()).await
    }

    /// Deletes a rule; its open alerts are resolved, its past ones stay. `version` is the one that was read, `None` deletes
    /// whatever is there.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule; `Conflict` while a composite rule names it, or when it changed since it was read.
    pub async fn delete_rule(&self, tenant: TenantId, id: RuleId, version: Option<u64>) -> Result<()> {
        for rule in self.all_rules(tenant).await? {
            let mut is_named = false;
            if let RuleKind::Composite { expression } = &rule.kind {
                expression.for_each_rule(&mut |named| is_named |= named == id && rule.id != id);
            }
            if is_named {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "rules.delete",
                    "a composite rule names the rule",
                )
                .with_context("composite", rule.id));
            }
        }
        let was_there = self.alerts.delete_rule(tenant, id, version, &self.author()).await?;
        if was_there { Ok(()) } else { Err(no_rule(id)) }
    }

    /// Returns a rule.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule.
    pub async fn rule(&self, tenant: TenantId, id: RuleId) -> Result<Rule> {
        self.alerts.rule(tenant, id).await?.ok_or_else(|| no_rule(id))
    }

    /// Returns an alert.
    ///
    /// # Errors
    /// `NotFound` for an unknown alert.
    pub async fn alert(&self, tenant: TenantId, id: AlertId) -> Result<Alert> {
        self.alerts.alert(tenant, id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "alerts.get", "no such alert").with_context("alert", id)
        })
    }

    /// Acknowledges, resolves or comments an alert, and returns it.
    ///
    /// # Errors
    /// `NotFound` for an unknown alert; `Conflict` when the action does not apply to its state; `Invalid` without an actor, or with
    /// an expiry that has passed.
    pub async fn act(&self, tenant: TenantId, id: AlertId, action: &AlertAction) -> Result<Alert> {
        let now = self.env.now();
        let (actor, expires_at) = match action {
            AlertAction::Acknowledge { actor, expires_at, .. } => (actor, *expires_at),
            AlertAction::Unacknowledge { actor }
            | AlertAction::Resolve { actor, .. }
            | AlertAction::Comment { actor, .. } => (actor, None),
        };
        if actor.trim().is_empty() {
            return Err(Error::invalid("alerts.act", "/actor", "required", "is required"));
        }
        if expires_at.is_some_and(|expiry| expiry <= now) {
            return Err(Error::invalid("alerts.act", "/expires_at", "out_of_range", "must be in the future"));
        }
        let alert = self.alerts.act_on_alert(tenant, id, action, now).await?;
        if let Some(listener) = &self.listener {
            listener.alerts_changed(tenant, &[id]);
        }
        Ok(alert)
    }

    /// Returns how alerting stands.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn stats(&self, tenant: TenantId) -> Result<AlertStats> {
        let mut stats = AlertStats::default();
        for counted in self.alerts.alert_counts(tenant).await? {
            stats.total_alerts += counted.count;
            match counted.state {
                AlertState::Resolved => stats.resolved_alerts += counted.count,
                AlertState::Pending => stats.pending_alerts += counted.count,
                _ => stats.active_alerts += counted.count,
            }
        }
        let mut query = RuleQuery { limit: 1, ..RuleQuery::default() };
        stats.total_rules = self.alerts.rules(tenant, &query).await?.total;
        query.is_active = Some(true);
        stats.active_rules = self.alerts.rules(tenant, &query).await?.total;
        if stats.total_alerts > 0 {
            #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let share = stats.resolved_alerts as f64 / stats.total_alerts as f64;
            stats.alert_resolution_rate = share * 100.0;
        }
        Ok(stats)
    }

    /// Stores a channel; `version` is the one that was read, `None` for a new one.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong; `Conflict` when the name is taken, it changed meanwhile, or the tenant
    /// has as many channels as it may.
    pub async fn put_channel(
        &self,
        tenant: TenantId,
        mut channel: Channel,
        version: Option<u64>,
    ) -> Result<Channel> {
        channel.validate()?;
        let before = match version {
            Some(_) => self.alerts.channel(tenant, channel.id).await?,
            None => {
                self.require_room_for_channel(tenant).await?;
                None
            }
        };
        let now = self.env.now();
        channel.created_at = before.map_or(now, |before| before.created_at);
        channel.updated_at = now;
        self.alerts.put_channel(tenant, channel, put_mode(version), &self.author()).await
    }

    async fn require_room_for_channel(&self, tenant: TenantId) -> Result<()> {
        if self.alerts.channels(tenant).await?.len() < self.max_channels {
            return Ok(());
        }
        let message = "the tenant has as many channels as it may";
        Err(Error::new(ErrorKind::Conflict, "channels.put", message)
            .with_context("max_channels", self.max_channels))
    }

    /// Deletes a channel; `version` is the one that was read, `None` deletes whatever is there.
    ///
    /// # Errors
    /// `NotFound` for an unknown channel; `Conflict` while a rule names it, or when it changed since it was read.
    pub async fn delete_channel(&self, tenant: TenantId, id: ChannelId, version: Option<u64>) -> Result<()> {
        let missing = || {
            Error::new(ErrorKind::NotFound, "channels.delete", "no such channel").with_context("channel", id)
        };
        let channel = self.alerts.channel(tenant, id).await?.ok_or_else(missing)?;
        for rule in self.all_rules(tenant).await? {
            if rule.channels.iter().any(|reference| channel.is_called(reference)) {
                return Err(Error::new(ErrorKind::Conflict, "channels.delete", "a rule names the channel")
                    .with_context("rule", rule.id));
            }
        }
        let was_there = self.alerts.delete_channel(tenant, id, version, &self.author()).await?;
        if was_there { Ok(()) } else { Err(missing()) }
    }

    /// Stores a silence; `version` is the one that was read, `None` for a new one. One that ended makes room for a new one when the
    /// tenant has as many as it may.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong; `Conflict` when it changed meanwhile, or when the tenant has as many as
    /// it may and none has ended.
    pub async fn put_silence(
        &self,
        tenant: TenantId,
        mut silence: Silence,
        version: Option<u64>,
    ) -> Result<Silence> {
        silence.validate()?;
        let now = self.env.now();
        if silence.ends_at <= now && version.is_none() {
            return Err(Error::invalid("silences.put", "/ends_at", "out_of_range", "must be in the future"));
        }
        let before = match version {
            Some(_) => self.alerts.silence(tenant, silence.id).await?,
            None => {
                self.make_room_for_silence(tenant, now).await?;
                None
            }
        };
        silence.created_at = before.map_or(now, |before| before.created_at);
        silence.updated_at = now;
        self.alerts.put_silence(tenant, silence, put_mode(version), &self.author()).await
    }

    /// Deletes the silences that ended first, until there is room for one more.
    async fn make_room_for_silence(&self, tenant: TenantId, now: Timestamp) -> Result<()> {
        let mut silences = self.alerts.silences(tenant, None).await?;
        let excess = (silences.len() + 1).saturating_sub(self.max_silences);
        silences.retain(|silence| silence.ends_at <= now);
        silences.sort_by_key(|silence| (silence.ends_at, silence.id));
        if silences.len() < excess {
            let message = "the tenant has as many silences as it may";
            return Err(Error::new(ErrorKind::Conflict, "silences.put", message)
                .with_context("max_silences", self.max_silences));
        }
        for over in silences.iter().take(excess.min(MAX_MADE_ROOM)) {
            let author = Author::server(now);
            match self.alerts.delete_silence(tenant, over.id, Some(over.version), &author).await {
                // Somebody else made room, or prolonged it: what is in use stays.
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Ends a silence now; one that has ended already stays as it is.
    ///
    /// # Errors
    /// `NotFound` for an unknown silence; `Conflict` when it changes at the same time.
    pub async fn expire_silence(&self, tenant: TenantId, id: SilenceId) -> Result<Silence> {
        let mut silence = self.alerts.silence(tenant, id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "silences.expire", "no such silence").with_context("silence", id)
        })?;
        let now = self.env.now();
        if silence.ends_at <= now {
            return Ok(silence);
        }
        let version = silence.version;
        silence.ends_at = now;
        silence.starts_at = silence.starts_at.min(now);
        silence.updated_at = now;
        self.alerts.put_silence(tenant, silence, PutMode::Replace { version }, &self.author()).await
    }

    /// Deletes a silence; `version` is the one that was read, `None` deletes whatever is there.
    ///
    /// # Errors
    /// `NotFound` for an unknown silence; `Conflict` when it changed since it was read.
    pub async fn delete_silence(&self, tenant: TenantId, id: SilenceId, version: Option<u64>) -> Result<()> {
        if self.alerts.delete_silence(tenant, id, version, &self.author()).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, "silences.delete", "no such silence").with_context("silence", id))
    }

    /// Stores routes, inhibitions and mute schedules; `version` is the one that was read, 0 when there were none.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong; `Conflict` when they changed meanwhile.
    pub async fn put_routing(&self, tenant: TenantId, mut routing: Routing, version: u64) -> Result<Routing> {
        routing.validate()?;
        routing.updated_at = self.env.now();
        let mode = if version == 0 { PutMode::Create } else { PutMode::Replace { version } };
        self.alerts.put_routing(tenant, routing, mode, &self.author()).await
    }

    /// Returns the log of changes to rules, channels, silences and routing, the latest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn changes(&self, tenant: TenantId, query: &ConfigChangeQuery) -> Result<ConfigChangePage> {
        self.alerts.changes(tenant, query).await
    }

    fn author(&self) -> Author {
        Author::new(self.actor.clone(), self.env.now())
    }

    async fn all_rules(&self, tenant: TenantId) -> Result<Vec<Rule>> {
        let mut query = RuleQuery { limit: 1_000, ..RuleQuery::default() };
        let mut rules = Vec::new();
        loop {
            let page = self.alerts.rules(tenant, &query).await?;
            rules.extend(page.rules);
            query.after = page.next;
            if query.after.is_none() {
                return Ok(rules);
            }
        }
    }

    /// Checks a rule with what it refers to. One that leaves `max_groups` to the default gets what the server allows.
    async fn check_rule(&self, tenant: TenantId, rule: &mut Rule) -> Result<()> {
        self.engine.validate(rule)?;
        let mut fields = Vec::new();
        if rule.max_groups == DEFAULT_MAX_GROUPS {
            rule.max_groups = DEFAULT_MAX_GROUPS.min(self.max_instances);
        }
        if rule.max_groups > self.max_instances {
            let message = format!("must be 1 to {}, which is what this server allows", self.max_instances);
            fields.push(FieldError::new("/max_groups", "out_of_range", message));
        }
        for (name, text) in &rule.annotations {
            if let Err(error) = template::check(text) {
                let pointer = format!("/annotations/{name}");
                fields.extend(
                    error
                        .fields()
                        .iter()
                        .map(|field| FieldError::new(&pointer, field.code.clone(), field.message.clone())),
                );
            }
        }
        if !rule.channels.is_empty() && !self.may_name_later_channels {
            let channels = self.alerts.channels(tenant).await?;
            for (index, reference) in rule.channels.iter().enumerate() {
                let known = channels.iter().chain(self.server_channels.iter());
                if !known.clone().any(|channel| channel.is_called(reference)) {
                    let names = known.map(|channel| channel.name.clone()).collect();
                    fields.push(unknown_channel(index, reference, names));
                }
            }
        }
        if let RuleKind::Composite { expression } = &rule.kind {
            let mut named = Vec::new();
            expression.for_each_rule(&mut |id| named.push(id));
            for id in named {
                let message = match self.alerts.rule(tenant, id).await? {
                    None => format!("there is no rule `{id}`"),
                    Some(other) if matches!(other.kind, RuleKind::Composite { .. }) => {
                        format!("`{id}` is composite itself")
                    }
                    Some(_) => continue,
                };
                fields.push(FieldError::new("/kind/expression", "unknown_rule", message));
            }
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("rules.validate", fields)) }
    }
}

fn no_rule(id: RuleId) -> Error {
    Error::new(ErrorKind::NotFound, "rules.get", "no such rule").with_context("rule", id)
}

fn put_mode(version: Option<u64>) -> PutMode {
    version.map_or(PutMode::Create, |version| PutMode::Replace { version })
}

fn unknown_channel(index: usize, reference: &ChannelRef, mut names: Vec<Text>) -> FieldError {
    names.sort();
    let near = crate::event::nearest_of(reference.as_str(), names.iter().map(Text::as_str));
    let near = near.map(|near| format!("; did you mean `{near}`")).unwrap_or_default();
    let names = names.join(", ");
    let known =
        if names.is_empty() { "none are configured".to_owned() } else { format!("known are {names}") };
    FieldError::new(
        format!("/channels/{index}"),
        "unknown_channel",
        format!("there is no channel `{reference}`{near}; {known}"),
    )
}
