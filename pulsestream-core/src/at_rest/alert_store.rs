//! The alert store over the key-value port.

use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::keys::alerting as keys;
use super::keys::alerting::AlertIndex;
use super::record::decode;
use super::transaction::{Attempts, Transaction, delete_prefix};
use super::turns::Turns;
use super::{alert_commit, alert_documents as documents};
use crate::alerting::{
    Alert, AlertAction, AlertState, Author, Channel, Routing, Rule, Silence, TimelineEntry,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
use crate::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, AlertCount, AlertCursor, AlertPage, AlertQuery, AlertStore,
    AlertingConfig, Checkpoint, ConfigChangePage, ConfigChangeQuery, PutMode, RuleActivity, RuleCursor,
    RulePage, RuleQuery,
};
use crate::ports::event_store::Partition;
use crate::ports::key_value::{KeyValue, KeyValueExt, Read, ReadResult, prefix_end};
use crate::time::Timestamp;

/// How many tenants' revisions are read at a time.
const REVISIONS_PAGE: usize = 10_000;
/// How many entries of an index are read at a time.
const INDEX_PAGE: usize = 256;
/// The page of a query that names no limit.
const DEFAULT_LIMIT: usize = 100;

/// Keeps rules, alerts, silences, channels, routes and checkpoints in a [`KeyValue`] store.
///
/// Deliveries that a commit makes go to the same store, where [`KeyValueOutbox`](super::KeyValueOutbox) finds them.
#[derive(Debug, Clone)]
pub struct KeyValueAlertStore {
    store: Arc<dyn KeyValue>,
    turns: Turns,
}

impl KeyValueAlertStore {
    /// Creates a store over `store`.
    pub fn new(store: Arc<dyn KeyValue>) -> Self {
        Self { store, turns: Turns::default() }
    }

    async fn record<T: DeserializeOwned>(&self, key: Vec<u8>, what: &'static str) -> Result<Option<T>> {
        self.store.get(key).await?.map(|bytes| decode(&bytes, what)).transpose()
    }

    /// Reads all rules, channels or silences of a tenant: a list that ended somewhere would leave out what people count on.
    async fn records<T: DeserializeOwned>(&self, prefix: Vec<u8>, what: &'static str) -> Result<Vec<T>> {
        let entries = self.store.prefix(prefix, usize::MAX).await?;
        entries.into_iter().map(|(_, bytes)| decode(&bytes, what)).collect()
    }

    /// Reads entries of an index from its end downwards, up to but not including `end`.
    async fn index_page(&self, start: &[u8], end: &[u8]) -> Result<Vec<(Vec<u8>, AlertId)>> {
        let read = Read::Range { start: start.to_vec(), end: end.to_vec(), limit: INDEX_PAGE, reverse: true };
        let Some(ReadResult::Entries(entries)) = self.store.read(vec![read]).await?.pop() else {
            return Ok(Vec::new());
        };
        Ok(entries.into_iter().filter_map(|(key, _)| alert_of(&key).map(|id| (key, id))).collect())
    }

    async fn load_alerts(&self, tenant: TenantId, ids: &[AlertId]) -> Result<Vec<Alert>> {
        let reads = ids.iter().map(|id| Read::Get(keys::alert(tenant, *id))).collect();
        let mut alerts = Vec::with_capacity(ids.len());
        for answer in self.store.read(reads).await? {
            if let ReadResult::Value(Some(bytes)) = answer {
                alerts.push(decode(&bytes, "alert")?);
            }
        }
        Ok(alerts)
    }
}

/// Reads the id at the end of an index key.
fn alert_of(key: &[u8]) -> Option<AlertId> {
    let at = key.len().checked_sub(16)?;
    Some(AlertId::from_bytes(key[at..].try_into().ok()?))
}

#[async_trait]
impl AlertStore for KeyValueAlertStore {
    async fn rule(&self, tenant: TenantId, id: RuleId) -> Result<Option<Rule>> {
        self.record(keys::rule(tenant, id), "rule").await
    }

    async fn rules(&self, tenant: TenantId, query: &RuleQuery) -> Result<RulePage> {
        let mut rules: Vec<Rule> = self.records(keys::rules(tenant), "rule").await?;
        rules.retain(|rule| query.is_active.is_none_or(|wanted| wanted == rule.is_active));
        rules.sort_by_key(|rule| (rule.created_at, rule.id));
        let total = rules.len() as u64;
        let after = query.after.map(|cursor| (cursor.created_at, cursor.id));
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        let mut rest = rules
            .into_iter()
            .filter(|rule| after.is_none_or(|after| (rule.created_at, rule.id) > after))
            .skip(query.skip);
        let rules: Vec<_> = rest.by_ref().take(limit).collect();
        let next = match (rest.next(), rules.last()) {
            (Some(_), Some(last)) => Some(RuleCursor { created_at: last.created_at, id: last.id }),
            _ => None,
        };
        Ok(RulePage { rules, next, total })
    }

    async fn put_rule(&self, tenant: TenantId, rule: Rule, mode: PutMode, author: &Author) -> Result<Rule> {
        documents::put(&*self.store, &self.turns, tenant, rule, mode, author).await
    }

    async fn delete_rule(
        &self,
        tenant: TenantId,
        id: RuleId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        let key = keys::rule(tenant, id);
        documents::delete::<Rule>(&*self.store, &self.turns, tenant, key, expected, author).await
    }

    async fn rule_activity(&self, tenant: TenantId, rules: &[RuleId]) -> Result<Vec<RuleActivity>> {
        let reads = rules.iter().map(|id| Read::Get(keys::activity(tenant, *id))).collect();
        let mut activities = Vec::with_capacity(rules.len());
        for answer in self.store.read(reads).await? {
            activities.push(match answer {
                ReadResult::Value(Some(bytes)) => decode(&bytes, "rule activity")?,
                _ => RuleActivity::default(),
            });
        }
        Ok(activities)
    }

    async fn alert(&self, tenant: TenantId, id: AlertId) -> Result<Option<Alert>> {
        self.record(keys::alert(tenant, id), "alert").await
    }

    async fn alerts(&self, tenant: TenantId, query: &AlertQuery) -> Result<AlertPage> {
        let only_open = !query.states.is_empty() && query.states.iter().all(|state| state.is_open());
        let index = match query.rule {
            _ if only_open => AlertIndex::Open,
            Some(rule) => AlertIndex::Rule(rule),
            None => AlertIndex::All,
        };
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        let (start, mut end) = match query.range {
            Some(range) if range.is_empty() => return Ok(AlertPage::default()),
            Some(range) => {
                (keys::indexed_from(tenant, index, range.start), keys::indexed_from(tenant, index, range.end))
            }
            None => {
                let prefix = keys::index(tenant, index);
                (prefix.clone(), prefix_end(&prefix))
            }
        };
        let after = query.after.map(|cursor| keys::indexed(tenant, index, cursor.started_at, cursor.id));
        let mut page = AlertPage { total: query.count_total.then_some(0), ..AlertPage::default() };
        let mut skip = query.skip;
        loop {
            let places = self.index_page(&start, &end).await?;
            let Some((lowest, _)) = places.last() else { return Ok(page) };
            end.clone_from(lowest);
            let ids: Vec<_> = places.iter().map(|(_, id)| *id).collect();
            for alert in
                self.load_alerts(tenant, &ids).await?.into_iter().filter(|alert| query.selects(alert))
            {
                page.total = page.total.map(|total| total + 1);
                let place = keys::indexed(tenant, index, alert.started_at, alert.id);
                if after.as_ref().is_some_and(|after| place >= *after) {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                } else if page.alerts.len() < limit {
                    page.alerts.push(alert);
                } else if page.next.is_none() {
                    let last = page.alerts.last();
                    page.next = last.map(|last| AlertCursor { started_at: last.started_at, id: last.id });
                }
            }
            if page.next.is_some() && page.total.is_none() {
                return Ok(page);
            }
        }
    }

    async fn alert_counts(&self, tenant: TenantId) -> Result<Vec<AlertCount>> {
        Ok(self.record(keys::counts(tenant), "alert counts").await?.unwrap_or_default())
    }

    async fn act_on_alert(
        &self,
        tenant: TenantId,
        id: AlertId,
        action: &AlertAction,
        now: Timestamp,
    ) -> Result<Alert> {
        const OPERATION: &str = "alert_store.act_on_alert";
        let mut attempts = Attempts::in_turn(OPERATION, &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            let key = keys::alert(tenant, id);
            let Some(before) = transaction.get::<Alert>(&key, "alert").await? else {
                return Err(
                    Error::new(ErrorKind::NotFound, OPERATION, "no such alert").with_context("alert", id)
                );
            };
            let mut alert = before.clone();
            let Some(entry) = alert.act(action, now) else {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    OPERATION,
                    "the action does not apply to the alert as it is",
                )
                .with_context("state", before.state));
            };
            alert_commit::replace(&mut transaction, tenant, Some(&before), &alert).await?;
            alert_commit::add_to_timeline(&mut transaction, tenant, id, vec![entry]).await?;
            documents::bump_revision(&mut transaction, tenant).await?;
            if transaction.commit().await? {
                return Ok(alert);
            }
        }
    }

    async fn timeline(&self, tenant: TenantId, id: AlertId) -> Result<Vec<TimelineEntry>> {
        let mut entries: Vec<TimelineEntry> =
            self.record(keys::timeline(tenant, id), "timeline").await?.unwrap_or_default();
        entries.sort_by_key(|entry| entry.at);
        Ok(entries)
    }

    async fn record_timeline(&self, tenant: TenantId, entries: Vec<TimelineEntry>) -> Result<()> {
        let mut attempts = Attempts::in_turn("alert_store.record_timeline", &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            alert_commit::record_timeline(&mut transaction, tenant, &entries).await?;
            if transaction.commit().await? {
                return Ok(());
            }
        }
    }

    async fn prune_alerts(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        let mut pruned = 0;
        let mut attempts = Attempts::in_turn("alert_store.prune_alerts", &self.turns);
        while pruned < limit {
            let read = Read::Range {
                start: keys::index(tenant, AlertIndex::Resolved),
                end: keys::indexed_from(tenant, AlertIndex::Resolved, before),
                limit: INDEX_PAGE.min(limit - pruned),
                reverse: false,
            };
            let Some(ReadResult::Entries(places)) = self.store.read(vec![read]).await?.pop() else { break };
            if places.is_empty() {
                break;
            }
            let mut transaction = Transaction::new(&*self.store);
            let ids: Vec<_> = places.iter().filter_map(|(key, _)| alert_of(key)).collect();
            for id in &ids {
                alert_commit::remove(&mut transaction, tenant, *id).await?;
            }
            if transaction.commit().await? {
                pruned += ids.len();
            } else {
                attempts.next().await?;
            }
        }
        Ok(pruned as u64)
    }

    async fn channels(&self, tenant: TenantId) -> Result<Vec<Channel>> {
        let mut channels: Vec<Channel> = self.records(keys::channels(tenant), "channel").await?;
        channels.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(channels)
    }

    async fn channel(&self, tenant: TenantId, id: ChannelId) -> Result<Option<Channel>> {
        self.record(keys::channel(tenant, id), "channel").await
    }

    async fn put_channel(
        &self,
        tenant: TenantId,
        channel: Channel,
        mode: PutMode,
        author: &Author,
    ) -> Result<Channel> {
        documents::put(&*self.store, &self.turns, tenant, channel, mode, author).await
    }

    async fn delete_channel(
        &self,
        tenant: TenantId,
        id: ChannelId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        let key = keys::channel(tenant, id);
        documents::delete::<Channel>(&*self.store, &self.turns, tenant, key, expected, author).await
    }

    async fn silences(&self, tenant: TenantId, active_at: Option<Timestamp>) -> Result<Vec<Silence>> {
        let mut silences: Vec<Silence> = self.records(keys::silences(tenant), "silence").await?;
        silences.retain(|silence| active_at.is_none_or(|at| silence.ends_at > at));
        silences.sort_by_key(|silence| (silence.starts_at, silence.id));
        Ok(silences)
    }

    async fn silence(&self, tenant: TenantId, id: SilenceId) -> Result<Option<Silence>> {
        self.record(keys::silence(tenant, id), "silence").await
    }

    async fn put_silence(
        &self,
        tenant: TenantId,
        silence: Silence,
        mode: PutMode,
        author: &Author,
    ) -> Result<Silence> {
        documents::put(&*self.store, &self.turns, tenant, silence, mode, author).await
    }

    async fn delete_silence(
        &self,
        tenant: TenantId,
        id: SilenceId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        let key = keys::silence(tenant, id);
        documents::delete::<Silence>(&*self.store, &self.turns, tenant, key, expected, author).await
    }

    async fn routing(&self, tenant: TenantId) -> Result<Routing> {
        Ok(self.record(keys::routing(tenant), "routing").await?.unwrap_or_default())
    }

    async fn put_routing(
        &self,
        tenant: TenantId,
        routing: Routing,
        mode: PutMode,
        author: &Author,
    ) -> Result<Routing> {
        documents::put(&*self.store, &self.turns, tenant, routing, mode, author).await
    }

    async fn changes(&self, tenant: TenantId, query: &ConfigChangeQuery) -> Result<ConfigChangePage> {
        documents::changes(&*self.store, tenant, query).await
    }

    async fn prune_changes(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        documents::prune_changes(&*self.store, &self.turns, tenant, before, limit).await
    }

    async fn config(&self, tenant: TenantId, now: Timestamp) -> Result<AlertingConfig> {
        let all = |prefix: Vec<u8>| Read::Range {
            end: prefix_end(&prefix),
            start: prefix,
            limit: usize::MAX,
            reverse: false,
        };
        let reads = vec![
            Read::Get(keys::revision(tenant)),
            Read::Get(keys::routing(tenant)),
            all(keys::rules(tenant)),
            all(keys::channels(tenant)),
            all(keys::silences(tenant)),
        ];
        let mut answers = self.store.read(reads).await?.into_iter();
        let mut config = AlertingConfig {
            revision: value(answers.next(), "revision")?.unwrap_or(0),
            routing: value(answers.next(), "routing")?.unwrap_or_default(),
            rules: values(answers.next(), "rule")?,
            channels: values(answers.next(), "channel")?,
            silences: values(answers.next(), "silence")?,
        };
        config.silences.retain(|silence| silence.ends_at > now);
        Ok(config)
    }

    async fn revisions(&self, partition: Partition) -> Result<Vec<(TenantId, u64)>> {
        let prefix = keys::revisions(partition);
        let (mut start, end) = (prefix.clone(), prefix_end(&prefix));
        let mut revisions = Vec::new();
        loop {
            let read =
                Read::Range { start: start.clone(), end: end.clone(), limit: REVISIONS_PAGE, reverse: false };
            let Some(ReadResult::Entries(entries)) = self.store.read(vec![read]).await?.pop() else {
                return Ok(revisions);
            };
            let complete = entries.len() < REVISIONS_PAGE;
            for (key, bytes) in entries {
                let tenant =
                    key.get(prefix.len()..).and_then(|id| id.try_into().ok()).map(TenantId::from_bytes);
                if let Some(tenant) = tenant {
                    revisions.push((tenant, decode(&bytes, "revision")?));
                }
                start = key;
            }
            if complete {
                return Ok(revisions);
            }
            start.push(0);
        }
    }

    async fn checkpoint(&self, processor: &str, partition: Partition) -> Result<Option<Checkpoint>> {
        alert_commit::read_checkpoint(&*self.store, processor, partition).await
    }

    async fn commit(&self, commit: AlertCommit) -> Result<AlertCommitOutcome> {
        alert_commit::commit(&*self.store, &self.turns, &commit).await
    }

    async fn erase(&self, tenant: TenantId) -> Result<()> {
        const OPERATION: &str = "alert_store.erase";
        // First, and alone: from here on commits pass the tenant over, and those under way fail and are made again.
        delete_prefix(&*self.store, OPERATION, keys::revision(tenant)).await?;
        delete_prefix(&*self.store, OPERATION, keys::tenant(tenant)).await?;
        Ok(())
    }
}

fn value<T: DeserializeOwned>(answer: Option<ReadResult>, what: &'static str) -> Result<Option<T>> {
    match answer {
        Some(ReadResult::Value(Some(bytes))) => decode(&bytes, what).map(Some),
        _ => Ok(None),
    }
}

fn values<T: DeserializeOwned>(answer: Option<ReadResult>, what: &'static str) -> Result<Vec<T>> {
    match answer {
        Some(ReadResult::Entries(entries)) => entries.iter().map(|(_, bytes)| decode(bytes, what)).collect(),
        _ => Ok(Vec::new()),
    }
}

/// Whether an alert counts: resolved episodes that never fired do not.
pub(super) fn counts(alert: &Alert) -> bool {
    alert.state != AlertState::Resolved || alert.fired_at.is_some()
}
