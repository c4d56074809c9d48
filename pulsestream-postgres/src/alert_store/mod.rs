//! The alert store: rules, alerts, silences, channels and routes.

mod alerts;
mod changes;
mod commit;
mod documents;
mod erase;
mod revisions;
mod timeline;

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::alerting::{
    Alert, AlertAction, AlertSeverity, AlertState, Author, Channel, Routing, Rule, Silence, TimelineEntry,
};
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
use pulsestream_core::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, AlertCount, AlertPage, AlertQuery, AlertStore, AlertingConfig,
    Checkpoint, ConfigChangePage, ConfigChangeQuery, PutMode, RuleActivity, RuleCursor, RulePage, RuleQuery,
};
use pulsestream_core::ports::event_store::{Partition, Position};
use pulsestream_core::time::Timestamp;
use sqlx::PgConnection;

use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::event_store::saturating;
use crate::record::decode;
use crate::together::Together;
use crate::wire::{Columns, Param};

/// The page of a query that names no limit.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// Keeps rules, alerts, silences, channels, routes and checkpoints in PostgreSQL.
///
/// Deliveries that a commit makes go to the tables of [`PostgresOutbox`](crate::PostgresOutbox), in the same transaction.
#[derive(Debug)]
pub struct PostgresAlertStore {
    database: Arc<Database>,
    revisions: Arc<Together<Partition, Vec<(TenantId, u64)>>>,
}

impl PostgresAlertStore {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { revisions: revisions::together(&database), database }
    }

    fn schema(&self) -> &str {
        self.database.schema()
    }
}

#[async_trait]
impl AlertStore for PostgresAlertStore {
    async fn rule(&self, tenant: TenantId, id: RuleId) -> Result<Option<Rule>> {
        documents::get(&self.database, tenant, id.as_u128()).await
    }

    async fn rules(&self, tenant: TenantId, query: &RuleQuery) -> Result<RulePage> {
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        let selected =
            format!("{}.rules where tenant_id = $1 and ($2 is null or is_active = $2)", self.schema());
        let page: Arc<str> = Arc::from(format!(
            "select record from {selected} and ($3 is null or (created_at, rule_id) > ($3, $4)) \
             order by created_at, rule_id limit $5 offset $6"
        ));
        let count: Arc<str> = Arc::from(format!("select count(*) from {selected}"));
        let counted = vec![Param::uuid(tenant.as_u128()), Param::optional_bool(query.is_active)];
        let mut params = counted.clone();
        params.extend([
            Param::optional_timestamp(query.after.map(|cursor| cursor.created_at)),
            Param::uuid(query.after.map_or(0, |cursor| cursor.id.as_u128())),
            Param::int8(saturating(limit.saturating_add(1))),
            Param::int8(saturating(query.skip)),
        ]);
        self.database
            .read("alert_store.rules", Scope::Tenant(tenant), move |connection| {
                let (page, count) = (bound(page.clone(), &params), bound(count.clone(), &counted));
                Box::pin(async move {
                    let rows = page.fetch_all(&mut *connection).await?;
                    let total = Columns::new(&count.fetch_one(connection).await?).int8()?;
                    let mut rules = rows
                        .iter()
                        .map(|row| decode(Columns::new(row).jsonb()?, "rule"))
                        .collect::<Result<Vec<Rule>, Fault>>()?;
                    let more = rules.len() > limit;
                    rules.truncate(limit);
                    let next = rules
                        .last()
                        .filter(|_| more)
                        .map(|last| RuleCursor { created_at: last.created_at, id: last.id });
                    Ok(RulePage { rules, next, total: u64::try_from(total).unwrap_or_default() })
                })
            })
            .await
    }

    async fn put_rule(&self, tenant: TenantId, rule: Rule, mode: PutMode, author: &Author) -> Result<Rule> {
        documents::put(&self.database, tenant, rule, mode, author).await
    }

    async fn delete_rule(
        &self,
        tenant: TenantId,
        id: RuleId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        documents::delete::<Rule>(&self.database, tenant, id.as_u128(), expected, author).await
    }

    async fn rule_activity(&self, tenant: TenantId, rules: &[RuleId]) -> Result<Vec<RuleActivity>> {
        let sql: Arc<str> = Arc::from(format!(
            "select rule_id, count(*), max(fired_at) from {}.alerts \
             where tenant_id = $1 and rule_id = any($2) and fired_at is not null group by rule_id",
            self.schema()
        ));
        let params = [Param::uuid(tenant.as_u128()), Param::uuids(rules.iter().map(|rule| rule.as_u128()))];
        let found = self
            .database
            .read("alert_store.rule_activity", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let mut found = std::collections::HashMap::new();
                    for row in statement.fetch_all(connection).await? {
                        let mut columns = Columns::new(&row);
                        let rule = RuleId::from_u128(columns.uuid()?);
                        let total_fired = u64::try_from(columns.int8()?).unwrap_or_default();
                        let last_fired_at = columns.optional_timestamp()?;
                        found.insert(rule, RuleActivity { total_fired, last_fired_at });
                    }
                    Ok(found)
                })
            })
            .await?;
        Ok(rules.iter().map(|rule| found.get(rule).copied().unwrap_or_default()).collect())
    }

    async fn alert(&self, tenant: TenantId, id: AlertId) -> Result<Option<Alert>> {
        let sql: Arc<str> = Arc::from(format!(
            "select record from {}.alerts where tenant_id = $1 and alert_id = $2",
            self.schema()
        ));
        let params = [Param::uuid(tenant.as_u128()), Param::uuid(id.as_u128())];
        self.database
            .read("alert_store.alert", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let rows = statement.fetch_all(connection).await?;
                    rows.first().map(|row| decode(Columns::new(row).jsonb()?, "alert")).transpose()
                })
            })
            .await
    }

    async fn alerts(&self, tenant: TenantId, query: &AlertQuery) -> Result<AlertPage> {
        alerts::list(&self.database, tenant, query.clone()).await
    }

    async fn alert_counts(&self, tenant: TenantId) -> Result<Vec<AlertCount>> {
        let sql: Arc<str> = Arc::from(format!(
            "select state, severity, suppressed, count(*) from {}.alerts \
             where tenant_id = $1 and (state <> 'resolved' or fired_at is not null) group by 1, 2, 3",
            self.schema()
        ));
        let params = [Param::uuid(tenant.as_u128())];
        self.database
            .read("alert_store.alert_counts", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let mut counts = Vec::new();
                    for row in statement.fetch_all(connection).await? {
                        let mut columns = Columns::new(&row);
                        let (state, severity) = (columns.str()?, columns.str()?);
                        let state = AlertState::ALL.into_iter().find(|known| known.as_str() == state);
                        let severity =
                            AlertSeverity::ALL.into_iter().find(|known| known.as_str() == severity);
                        let (suppressed, count) = (columns.bool()?, columns.int8()?);
                        if let (Some(state), Some(severity)) = (state, severity) {
                            let count = u64::try_from(count).unwrap_or_default();
                            counts.push(AlertCount { state, severity, suppressed, count });
                        }
                    }
                    Ok(counts)
                })
            })
            .await
    }

    async fn act_on_alert(
        &self,
        tenant: TenantId,
        id: AlertId,
        action: &AlertAction,
        now: Timestamp,
    ) -> Result<Alert> {
        const OPERATION: &str = "alert_store.act_on_alert";
        let (schema, action) = (self.schema().to_owned(), action.clone());
        self.database
            .write(OPERATION, Scope::Tenant(tenant), move |connection| {
                let (schema, action) = (schema.clone(), action.clone());
                Box::pin(async move {
                    let Some(mut alert) = alerts::lock(connection, &schema, tenant, &[id]).await?.remove(&id)
                    else {
                        return Err(Fault::Typed(
                            Error::new(ErrorKind::NotFound, OPERATION, "no such alert")
                                .with_context("alert", id),
                        ));
                    };
                    let state = alert.state;
                    let Some(entry) = alert.act(&action, now) else {
                        let message = "the action does not apply to the alert as it is";
                        return Err(Fault::Typed(
                            Error::new(ErrorKind::Conflict, OPERATION, message).with_context("state", state),
                        ));
                    };
                    alerts::store(connection, &schema, tenant, [&alert]).await?;
                    timeline::insert(connection, &schema, tenant, &[entry]).await?;
                    documents::bump_revision(connection, &schema, tenant).await?;
                    Ok(alert)
                })
            })
            .await
    }

    async fn timeline(&self, tenant: TenantId, id: AlertId) -> Result<Vec<TimelineEntry>> {
        timeline::read(&self.database, tenant, id).await
    }

    async fn record_timeline(&self, tenant: TenantId, entries: Vec<TimelineEntry>) -> Result<()> {
        let (schema, entries) = (self.schema().to_owned(), Arc::new(entries));
        self.database
            .write("alert_store.record_timeline", Scope::Tenant(tenant), move |connection| {
                let (schema, entries) = (schema.clone(), entries.clone());
                Box::pin(async move { timeline::record(connection, &schema, tenant, &entries).await })
            })
            .await
    }

    async fn prune_alerts(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        alerts::prune(&self.database, tenant, before, limit).await
    }

    async fn channels(&self, tenant: TenantId) -> Result<Vec<Channel>> {
        let mut channels: Vec<Channel> = documents::list(&self.database, tenant).await?;
        channels.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(channels)
    }

    async fn channel(&self, tenant: TenantId, id: ChannelId) -> Result<Option<Channel>> {
        documents::get(&self.database, tenant, id.as_u128()).await
    }

    async fn put_channel(
        &self,
        tenant: TenantId,
        channel: Channel,
        mode: PutMode,
        author: &Author,
    ) -> Result<Channel> {
        documents::put(&self.database, tenant, channel, mode, author).await
    }

    async fn delete_channel(
        &self,
        tenant: TenantId,
        id: ChannelId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        documents::delete::<Channel>(&self.database, tenant, id.as_u128(), expected, author).await
    }

    async fn silences(&self, tenant: TenantId, active_at: Option<Timestamp>) -> Result<Vec<Silence>> {
        let mut silences: Vec<Silence> = documents::list(&self.database, tenant).await?;
        silences.retain(|silence| active_at.is_none_or(|at| silence.ends_at > at));
        silences.sort_by_key(|silence| (silence.starts_at, silence.id));
        Ok(silences)
    }

    async fn silence(&self, tenant: TenantId, id: SilenceId) -> Result<Option<Silence>> {
        documents::get(&self.database, tenant, id.as_u128()).await
    }

    async fn put_silence(
        &self,
        tenant: TenantId,
        silence: Silence,
        mode: PutMode,
        author: &Author,
    ) -> Result<Silence> {
        documents::put(&self.database, tenant, silence, mode, author).await
    }

    async fn delete_silence(
        &self,
        tenant: TenantId,
        id: SilenceId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool> {
        documents::delete::<Silence>(&self.database, tenant, id.as_u128(), expected, author).await
    }

    async fn routing(&self, tenant: TenantId) -> Result<Routing> {
        let found: Vec<Routing> = documents::list(&self.database, tenant).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    async fn put_routing(
        &self,
        tenant: TenantId,
        routing: Routing,
        mode: PutMode,
        author: &Author,
    ) -> Result<Routing> {
        documents::put(&self.database, tenant, routing, mode, author).await
    }

    async fn changes(&self, tenant: TenantId, query: &ConfigChangeQuery) -> Result<ConfigChangePage> {
        changes::list(&self.database, tenant, *query).await
    }

    async fn prune_changes(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        changes::prune(&self.database, tenant, before, limit).await
    }

    async fn config(&self, tenant: TenantId, now: Timestamp) -> Result<AlertingConfig> {
        documents::config(&self.database, tenant, now).await
    }

    async fn revisions(&self, partition: Partition) -> Result<Vec<(TenantId, u64)>> {
        self.revisions.ask(revisions::OPERATION, partition).await
    }

    async fn checkpoint(&self, processor: &str, partition: Partition) -> Result<Option<Checkpoint>> {
        let schema = self.schema().to_owned();
        let key = [Param::text(processor), partition_number(partition)];
        self.database
            .read("alert_store.checkpoint", Scope::Processor, move |connection| {
                let (schema, key) = (schema.clone(), key.clone());
                Box::pin(async move { read_checkpoint(connection, &schema, &key, "").await })
            })
            .await
    }

    async fn commit(&self, commit: AlertCommit) -> Result<AlertCommitOutcome> {
        commit::commit(&self.database, commit).await
    }

    async fn erase(&self, tenant: TenantId) -> Result<()> {
        erase::erase(&self.database, tenant).await
    }
}

fn partition_number(partition: Partition) -> Param {
    Param::int2(i16::try_from(partition.number()).unwrap_or_default())
}

/// Reads the checkpoint with this processor and partition; `lock` is a locking clause or empty.
async fn read_checkpoint(
    connection: &mut PgConnection,
    schema: &str,
    key: &[Param],
    lock: &'static str,
) -> Result<Option<Checkpoint>, Fault> {
    let sql = format!(
        "select sequence, position, fencing_token, state from {schema}.checkpoints \
         where processor = $1 and partition = $2 {lock}"
    );
    let rows = bound(Arc::from(sql), key).fetch_all(connection).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns = Columns::new(row);
    let sequence = columns.int8()?.cast_unsigned();
    let position: Position = columns.str()?.parse()?;
    let fencing_token = columns.int8()?.cast_unsigned();
    Ok(Some(Checkpoint { sequence, position, fencing_token, state: columns.bytes()?.to_vec() }))
}
