//! Documents with a version over the key-value port: rules, channels, silences and routing, and the log of their changes.

use serde::de::DeserializeOwned;

use super::keys::alerting as keys;
use super::record::decode;
use super::transaction::{Attempts, Transaction};
use super::turns::Turns;
use crate::alerting::{Author, Channel, ConfigChange, Configured, Routing, Rule, Silence};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::ports::alert_store::{ConfigChangePage, ConfigChangeQuery, PutMode};
use crate::ports::key_value::{KeyValue, Read, ReadResult, prefix_end};
use crate::time::Timestamp;

/// How many entries of the log are read at a time.
const CHANGES_PAGE: usize = 256;
/// The page of a query that names no limit.
const DEFAULT_LIMIT: usize = 100;

/// What `put_*` needs to know of a document.
pub(super) trait Versioned: Configured + DeserializeOwned + Clone + Send + Sync {
    const WHAT: &'static str;
    const OPERATION: &'static str;

    fn set_version(&mut self, version: u64);
    fn key(&self, tenant: TenantId) -> Vec<u8>;
    /// The key that keeps the name unique, and the id under it.
    fn name_key(&self, tenant: TenantId) -> Option<(Vec<u8>, [u8; 16])>;
}

macro_rules! versioned {
    ($type:ty, $what:literal, $operation:literal, $key:expr, $name:expr) => {
        impl Versioned for $type {
            const WHAT: &'static str = $what;
            const OPERATION: &'static str = $operation;

            fn set_version(&mut self, version: u64) {
                self.version = version;
            }

            fn key(&self, tenant: TenantId) -> Vec<u8> {
                let key: fn(&Self, TenantId) -> Vec<u8> = $key;
                key(self, tenant)
            }

            fn name_key(&self, tenant: TenantId) -> Option<(Vec<u8>, [u8; 16])> {
                let name: fn(&Self, TenantId) -> Option<(Vec<u8>, [u8; 16])> = $name;
                name(self, tenant)
            }
        }
    };
}

versioned!(
    Rule,
    "rule",
    "alert_store.put_rule",
    |rule, tenant| keys::rule(tenant, rule.id),
    |rule, tenant| Some((keys::rule_name(tenant, &rule.name), rule.id.to_bytes()))
);
versioned!(
    Channel,
    "channel",
    "alert_store.put_channel",
    |channel, tenant| keys::channel(tenant, channel.id),
    |channel, tenant| Some((keys::channel_name(tenant, &channel.name), channel.id.to_bytes()))
);
versioned!(
    Silence,
    "silence",
    "alert_store.put_silence",
    |silence, tenant| keys::silence(tenant, silence.id),
    |_, _| None
);
versioned!(Routing, "routing", "alert_store.put_routing", |_, tenant| keys::routing(tenant), |_, _| None);

/// Puts a document and logs the change.
pub(super) async fn put<T: Versioned>(
    store: &dyn KeyValue,
    turns: &Turns,
    tenant: TenantId,
    mut document: T,
    mode: PutMode,
    author: &Author,
) -> Result<T> {
    let mut attempts = Attempts::in_turn(T::OPERATION, turns);
    loop {
        attempts.next().await?;
        let mut transaction = Transaction::new(store);
        let key = document.key(tenant);
        let present: Option<T> = transaction.get(&key, T::WHAT).await?;
        let version = present.as_ref().map_or(0, Configured::version);
        check_mode::<T>(mode, version)?;
        if let Some((name_key, id)) = document.name_key(tenant) {
            let holder = transaction.bytes(&name_key).await?;
            if holder.is_some_and(|holder| holder != id) {
                return Err(Error::new(ErrorKind::Conflict, T::OPERATION, "another one has this name"));
            }
            let before = present.as_ref().and_then(|present| present.name_key(tenant));
            if let Some((before, _)) = before
                && before != name_key
            {
                transaction.delete(before);
            }
            transaction.put_bytes(name_key, id.to_vec());
        }
        document.set_version(version + 1);
        transaction.put(key, &document)?;
        log(&mut transaction, tenant, author, present.as_ref(), Some(&document)).await?;
        if transaction.commit().await? {
            return Ok(document);
        }
    }
}

/// Deletes a document, logs the change, and returns whether the document was there.
pub(super) async fn delete<T: Versioned>(
    store: &dyn KeyValue,
    turns: &Turns,
    tenant: TenantId,
    key: Vec<u8>,
    expected: Option<u64>,
    author: &Author,
) -> Result<bool> {
    let mut attempts = Attempts::in_turn(T::OPERATION, turns);
    loop {
        attempts.next().await?;
        let mut transaction = Transaction::new(store);
        let Some(present) = transaction.get::<T>(&key, T::WHAT).await? else { return Ok(false) };
        if let Some(version) = expected {
            check_mode::<T>(PutMode::Replace { version }, present.version())?;
        }
        transaction.delete(key.clone());
        if let Some((name_key, _)) = present.name_key(tenant) {
            transaction.delete(name_key);
        }
        log(&mut transaction, tenant, author, Some(&present), None).await?;
        if transaction.commit().await? {
            return Ok(true);
        }
    }
}

/// Moves the revision on and says what it changed.
async fn log<T: Versioned>(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    author: &Author,
    before: Option<&T>,
    after: Option<&T>,
) -> Result<()> {
    let revision = bump_revision(transaction, tenant).await?;
    match ConfigChange::between(revision, author, before, after) {
        Some(change) => transaction.put(keys::change(tenant, revision), &change),
        None => Ok(()),
    }
}

fn check_mode<T: Versioned>(mode: PutMode, version: u64) -> Result<()> {
    match mode {
        PutMode::Always => Ok(()),
        PutMode::Create if version == 0 => Ok(()),
        PutMode::Create => Err(Error::new(ErrorKind::Conflict, T::OPERATION, "it is there already")),
        PutMode::Replace { version: expected } if expected == version => Ok(()),
        PutMode::Replace { .. } if version == 0 => {
            Err(Error::new(ErrorKind::NotFound, T::OPERATION, "there is nothing to replace"))
        }
        PutMode::Replace { version: expected } => Err(Error::new(
            ErrorKind::Conflict,
            T::OPERATION,
            "it was changed since it was read: read it again",
        )
        .with_context("expected_version", expected)
        .with_context("version", version)),
    }
}

/// Moves the revision of a tenant's configuration on and returns it.
pub(super) async fn bump_revision(transaction: &mut Transaction<'_>, tenant: TenantId) -> Result<u64> {
    let key = keys::revision(tenant);
    let revision = transaction.get::<u64>(&key, "revision").await?.unwrap_or(0) + 1;
    transaction.put(key, &revision)?;
    Ok(revision)
}

/// Reads the log of changes, the latest first.
pub(super) async fn changes(
    store: &dyn KeyValue,
    tenant: TenantId,
    query: &ConfigChangeQuery,
) -> Result<ConfigChangePage> {
    let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
    let start = keys::changes(tenant);
    let mut end = query.before.map_or_else(|| prefix_end(&start), |before| keys::change(tenant, before));
    let mut page = ConfigChangePage::default();
    loop {
        let read = Read::Range { start: start.clone(), end, limit: CHANGES_PAGE, reverse: true };
        let Some(ReadResult::Entries(entries)) = store.read(vec![read]).await?.pop() else {
            return Ok(page);
        };
        let Some((lowest, _)) = entries.last() else { return Ok(page) };
        end = lowest.clone();
        for (_, bytes) in &entries {
            let change: ConfigChange = decode(bytes, "change")?;
            if query.object.is_some_and(|object| object != change.object) {
                continue;
            }
            if page.changes.len() == limit {
                page.next = page.changes.last().map(|last| last.revision);
                return Ok(page);
            }
            page.changes.push(change);
        }
    }
}

/// Deletes entries of the log from before a time.
pub(super) async fn prune_changes(
    store: &dyn KeyValue,
    turns: &Turns,
    tenant: TenantId,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    let mut start = keys::changes(tenant);
    let end = prefix_end(&start);
    let mut pruned = 0;
    let mut attempts = Attempts::in_turn("alert_store.prune_changes", turns);
    while pruned < limit {
        let read =
            Read::Range { start: start.clone(), end: end.clone(), limit: CHANGES_PAGE, reverse: false };
        let Some(ReadResult::Entries(entries)) = store.read(vec![read]).await?.pop() else {
            break;
        };
        let Some((last, _)) = entries.last() else { break };
        let mut next = last.clone();
        next.push(0);
        let mut transaction = Transaction::new(store);
        let mut old = 0;
        for (key, bytes) in entries {
            if pruned + old < limit && decode::<ConfigChange>(&bytes, "change")?.author.at < before {
                transaction.delete(key);
                old += 1;
            }
        }
        if transaction.commit().await? {
            (start, pruned) = (next, pruned + old);
        } else {
            attempts.next().await?;
        }
    }
    Ok(pruned as u64)
}
