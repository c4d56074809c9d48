//! Tells every node what happens to alerts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::{
    Alert, AlertAction, Author, Channel, Routing, Rule, Silence, TimelineEntry,
};
use pulsestream_core::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
use pulsestream_core::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, AlertCount, AlertPage, AlertQuery, AlertStore, AlertingConfig,
    Checkpoint, ConfigChangePage, ConfigChangeQuery, PutMode, RuleActivity, RulePage, RuleQuery,
};
use pulsestream_core::ports::event_store::Partition;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveTopic};
use pulsestream_core::time::Timestamp;
use tokio::sync::Notify;

use crate::background::{Stepped, Worker};

/// How many changes may wait; when the bus cannot keep up the oldest are dropped, because the store has them.
const MAX_WAITING: usize = 4_096;
/// How many are told in one step.
const STEP: usize = 64;

/// The alerts that changed and were not told yet, and the worker that tells them.
#[derive(Debug)]
pub(crate) struct AlertNews {
    alerts: Arc<dyn AlertStore>,
    bus: Arc<dyn LiveBus>,
    waiting: Mutex<VecDeque<(TenantId, AlertId)>>,
    arrived: Notify,
}

impl AlertNews {
    pub(crate) fn new(alerts: Arc<dyn AlertStore>, bus: Arc<dyn LiveBus>) -> Arc<Self> {
        Arc::new(Self { alerts, bus, waiting: Mutex::default(), arrived: Notify::new() })
    }

    fn tell(&self, changed: impl IntoIterator<Item = (TenantId, AlertId)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.len();
        for change in changed {
            if waiting.len() == MAX_WAITING {
                waiting.pop_front();
                tracing::warn!("the live bus is too slow: a change of an alert is not shown live");
            }
            waiting.push_back(change);
        }
        let has_more = waiting.len() > before;
        drop(waiting);
        if has_more {
            self.arrived.notify_one();
        }
    }

    fn take(&self) -> Vec<(TenantId, AlertId)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(STEP);
        waiting.drain(..count).collect()
    }
}

#[async_trait]
impl Worker for AlertNews {
    fn name(&self) -> &str {
        "live alerts"
    }

    async fn step(&self) -> Result<Stepped> {
        let changed = self.take();
        let count = changed.len();
        for (tenant, id) in changed {
            // Whoever listens gets the alert as it is now: two changes in a row may look alike, and the last is never missed.
            let Some(alert) = self.alerts.alert(tenant, id).await? else { continue };
            let Ok(body) = serde_json::to_string(&alert) else { continue };
            let message = LiveMessage { topic: LiveTopic::Alert, body: body.into_boxed_str() };
            self.bus.publish(tenant, vec![message]).await?;
        }
        Ok(Stepped { progressed: count > 0, has_more: count == STEP, next_due: None })
    }

    async fn wait(&self) -> Result<()> {
        self.arrived.notified().await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        Ok(())
    }
}

/// An alert store that notes which alerts changed.
#[derive(Debug)]
pub(crate) struct WatchedAlertStore {
    inner: Arc<dyn AlertStore>,
    news: Arc<AlertNews>,
}

impl WatchedAlertStore {
    pub(crate) fn new(inner: Arc<dyn AlertStore>, news: Arc<AlertNews>) -> Self {
        Self { inner, news }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AlertStore for WatchedAlertStore {
    async fn rule(&self, tenant: TenantId, id: RuleId) -> Result<Option<Rule>> {
        self.inner.rule(tenant, id).await
    }

    async fn rules(&self, tenant: TenantId, query: &RuleQuery) -> Result<RulePage> {
        self.inner.rules(tenant, query).await
    }

    async fn put_rule(&self, tenant: TenantId, rule: Rule, mode: PutMode, author: &Author) -> Result<Rule> {
        self.inner.put_rule(tenant, rule, mode, author).await
    }

    async fn delete_rule(&self, tenant: TenantId, id: RuleId, author: &Author) -> Result<bool> {
        self.inner.delete_rule(tenant, id, author).await
    }

    async fn rule_activity(&self, tenant: TenantId, rules: &[RuleId]) -> Result<Vec<RuleActivity>> {
        self.inner.rule_activity(tenant, rules).await
    }

    async fn alert(&self, tenant: TenantId, id: AlertId) -> Result<Option<Alert>> {
        self.inner.alert(tenant, id).await
    }

    async fn alerts(&self, tenant: TenantId, query: &AlertQuery) -> Result<AlertPage> {
        self.inner.alerts(tenant, query).await
    }

    async fn alert_counts(&self, tenant: TenantId) -> Result<Vec<AlertCount>> {
        self.inner.alert_counts(tenant).await
    }

    async fn act_on_alert(
        &self,
        tenant: TenantId,
        id: AlertId,
        action: &AlertAction,
        now: Timestamp,
    ) -> Result<Alert> {
        let alert = self.inner.act_on_alert(tenant, id, action, now).await?;
        self.news.tell([(tenant, id)]);
        Ok(alert)
    }

    async fn timeline(&self, tenant: TenantId, id: AlertId) -> Result<Vec<TimelineEntry>> {
        self.inner.timeline(tenant, id).await
    }

    async fn record_timeline(&self, tenant: TenantId, entries: Vec<TimelineEntry>) -> Result<()> {
        self.inner.record_timeline(tenant, entries).await
    }

    async fn prune_alerts(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.inner.prune_alerts(tenant, before).await
    }

    async fn channels(&self, tenant: TenantId) -> Result<Vec<Channel>> {
        self.inner.channels(tenant).await
    }

    async fn channel(&self, tenant: TenantId, id: ChannelId) -> Result<Option<Channel>> {
        self.inner.channel(tenant, id).await
    }

    async fn put_channel(
        &self,
        tenant: TenantId,
        channel: Channel,
        mode: PutMode,
        author: &Author,
    ) -> Result<Channel> {
        self.inner.put_channel(tenant, channel, mode, author).await
    }

    async fn delete_channel(&self, tenant: TenantId, id: ChannelId, author: &Author) -> Result<bool> {
        self.inner.delete_channel(tenant, id, author).await
    }

    async fn silences(&self, tenant: TenantId, active_at: Option<Timestamp>) -> Result<Vec<Silence>> {
        self.inner.silences(tenant, active_at).await
    }

    async fn silence(&self, tenant: TenantId, id: SilenceId) -> Result<Option<Silence>> {
        self.inner.silence(tenant, id).await
    }

    async fn put_silence(
        &self,
        tenant: TenantId,
        silence: Silence,
        mode: PutMode,
        author: &Author,
    ) -> Result<Silence> {
        self.inner.put_silence(tenant, silence, mode, author).await
    }

    async fn delete_silence(&self, tenant: TenantId, id: SilenceId, author: &Author) -> Result<bool> {
        self.inner.delete_silence(tenant, id, author).await
    }

    async fn routing(&self, tenant: TenantId) -> Result<Routing> {
        self.inner.routing(tenant).await
    }

    async fn put_routing(
        &self,
        tenant: TenantId,
        routing: Routing,
        mode: PutMode,
        author: &Author,
    ) -> Result<Routing> {
        self.inner.put_routing(tenant, routing, mode, author).await
    }

    async fn changes(&self, tenant: TenantId, query: &ConfigChangeQuery) -> Result<ConfigChangePage> {
        self.inner.changes(tenant, query).await
    }

    async fn prune_changes(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.inner.prune_changes(tenant, before).await
    }

    async fn config(&self, tenant: TenantId, now: Timestamp) -> Result<AlertingConfig> {
        self.inner.config(tenant, now).await
    }

    async fn revisions(&self, partition: Partition) -> Result<Vec<(TenantId, u64)>> {
        self.inner.revisions(partition).await
    }

    async fn checkpoint(&self, processor: &str, partition: Partition) -> Result<Option<Checkpoint>> {
        self.inner.checkpoint(processor, partition).await
    }

    async fn commit(&self, commit: AlertCommit) -> Result<AlertCommitOutcome> {
        let changed: Vec<_> = commit
            .changes
            .iter()
            .flat_map(|changes| changes.alerts.iter().map(|change| (changes.tenant, change.transition.alert)))
            .collect();
        let outcome = self.inner.commit(commit).await?;
        self.news.tell(changed);
        Ok(outcome)
    }
}
