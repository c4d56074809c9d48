//! Every key of the at-rest ports, spelled in one place.
//!
//! Ids are their 16 big-endian bytes, so that keys sort as ids do. What belongs to a tenant starts with the tenant, so that one
//! range holds it all.

use crate::time::Timestamp;

/// Keys of identities: all start with `id/`.
pub(crate) mod identity {
    use crate::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
    use crate::ports::identity::unique_form;

    fn global(kind: &[u8], rest: &[u8]) -> Vec<u8> {
        [b"id/", kind, b"/", rest].concat()
    }

    /// The start of all keys of a tenant but those under [`tenant_index`], [`slug`] and [`api_key_owner`].
    pub(crate) fn tenant_prefix(tenant: TenantId) -> Vec<u8> {
        global(b"t", &[tenant.to_bytes().as_slice(), b"/"].concat())
    }

    fn of_tenant(tenant: TenantId, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = tenant_prefix(tenant);
        key.extend([kind, b'/']);
        key.extend_from_slice(rest);
        key
    }

    /// The secrets of the deployment.
    pub(crate) fn keyring() -> Vec<u8> {
        global(b"k", b"")
    }

    /// Present for each tenant: the list of tenants.
    pub(crate) fn tenant_index(tenant: TenantId) -> Vec<u8> {
        global(b"i", &tenant.to_bytes())
    }

    /// The start of the list of tenants.
    pub(crate) fn tenant_index_prefix() -> Vec<u8> {
        global(b"i", b"")
    }

    /// Slug to tenant id.
    pub(crate) fn slug(slug: &str) -> Vec<u8> {
        global(b"s", unique_form(slug).as_bytes())
    }

    /// API key id to tenant id.
    pub(crate) fn api_key_owner(key: ApiKeyId) -> Vec<u8> {
        global(b"a", &key.to_bytes())
    }

    /// The record of a tenant.
    pub(crate) fn tenant(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'r', b"")
    }

    /// The record of a user.
    pub(crate) fn user(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'u', &user.to_bytes())
    }

    /// The start of the records of users.
    pub(crate) fn users(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'u', b"")
    }

    /// E-mail address to user id.
    pub(crate) fn email(tenant: TenantId, email: &str) -> Vec<u8> {
        of_tenant(tenant, b'e', unique_form(email).as_bytes())
    }

    /// User name to user id.
    pub(crate) fn username(tenant: TenantId, username: &str) -> Vec<u8> {
        of_tenant(tenant, b'n', unique_form(username).as_bytes())
    }

    /// What a user did.
    pub(crate) fn activity(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'v', &user.to_bytes())
    }

    /// The record of a session.
    pub(crate) fn session(tenant: TenantId, session: SessionId) -> Vec<u8> {
        of_tenant(tenant, b's', &session.to_bytes())
    }

    /// The start of the records of sessions.
    pub(crate) fn sessions(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b's', b"")
    }

    /// Present for each session of a user; the last 16 bytes are the session.
    pub(crate) fn user_session(tenant: TenantId, user: UserId, session: SessionId) -> Vec<u8> {
        let mut key = user_sessions(tenant, user);
        key.extend(session.to_bytes());
        key
    }

    /// The start of the list of sessions of a user.
    pub(crate) fn user_sessions(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'o', &user.to_bytes())
    }

    /// The record of an API key.
    pub(crate) fn api_key(tenant: TenantId, key: ApiKeyId) -> Vec<u8> {
        of_tenant(tenant, b'k', &key.to_bytes())
    }

    /// The start of the records of API keys.
    pub(crate) fn api_keys(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'k', b"")
    }

    /// When an API key was last used.
    pub(crate) fn api_key_use(tenant: TenantId, key: ApiKeyId) -> Vec<u8> {
        of_tenant(tenant, b'l', &key.to_bytes())
    }

    /// An entry of the audit log.
    pub(crate) fn audit(tenant: TenantId, entry: AuditId) -> Vec<u8> {
        of_tenant(tenant, b'a', &entry.to_bytes())
    }

    /// The start of the audit log.
    pub(crate) fn audit_log(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'a', b"")
    }
}

/// Keys of coordination: all start with `co/`.
pub(crate) mod coordination {
    /// The lease of a resource; with the start of a resource's name, the start of all such keys.
    pub(crate) fn lease(resource: &str) -> Vec<u8> {
        [b"co/l/", resource.as_bytes()].concat()
    }
}

/// A timestamp as bytes that sort as it does.
/// Keys of documents: all start with `do/`.
pub(crate) mod documents {
    use crate::id::TenantId;

    /// The start of the documents of a tenant.
    pub(crate) fn of_tenant(tenant: TenantId) -> Vec<u8> {
        [b"do/".as_slice(), &tenant.to_bytes(), b"/"].concat()
    }

    /// A document.
    pub(crate) fn document(tenant: TenantId, name: &str) -> Vec<u8> {
        [of_tenant(tenant).as_slice(), name.as_bytes()].concat()
    }
}

fn time(at: Timestamp) -> [u8; 8] {
    (at.as_micros() ^ i64::MIN).to_be_bytes()
}

/// Keys of rules, alerts, channels, silences and checkpoints: all start with `al/`.
pub(crate) mod alerting {
    use super::time;
    use crate::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
    use crate::ports::event_store::Partition;
    use crate::time::Timestamp;

    /// The start of everything of a tenant but its [`revision`].
    pub(crate) fn tenant(tenant: TenantId) -> Vec<u8> {
        [b"al/t/".as_slice(), &tenant.to_bytes(), b"/"].concat()
    }

    fn of_tenant(tenant: TenantId, kind: u8, rest: &[&[u8]]) -> Vec<u8> {
        [self::tenant(tenant).as_slice(), &[kind, b'/'], &rest.concat()].concat()
    }

    /// The start of the records of rules.
    pub(crate) fn rules(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'r', &[])
    }

    /// The record of a rule.
    pub(crate) fn rule(tenant: TenantId, id: RuleId) -> Vec<u8> {
        of_tenant(tenant, b'r', &[&id.to_bytes()])
    }

    /// Name of a rule to its id.
    pub(crate) fn rule_name(tenant: TenantId, name: &str) -> Vec<u8> {
        of_tenant(tenant, b'n', &[name.as_bytes()])
    }

    /// What a rule has done.
    pub(crate) fn activity(tenant: TenantId, id: RuleId) -> Vec<u8> {
        of_tenant(tenant, b'y', &[&id.to_bytes()])
    }

    /// The start of the records of channels.
    pub(crate) fn channels(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'c', &[])
    }

    /// The record of a channel.
    pub(crate) fn channel(tenant: TenantId, id: ChannelId) -> Vec<u8> {
        of_tenant(tenant, b'c', &[&id.to_bytes()])
    }

    /// Name of a channel to its id.
    pub(crate) fn channel_name(tenant: TenantId, name: &str) -> Vec<u8> {
        of_tenant(tenant, b'm', &[name.as_bytes()])
    }

    /// The start of the records of silences.
    pub(crate) fn silences(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b's', &[])
    }

    /// The record of a silence.
    pub(crate) fn silence(tenant: TenantId, id: SilenceId) -> Vec<u8> {
        of_tenant(tenant, b's', &[&id.to_bytes()])
    }

    /// Routes, inhibitions and mute schedules.
    pub(crate) fn routing(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'g', &[])
    }

    /// The start of the log of changes.
    pub(crate) fn changes(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'h', &[])
    }

    /// The entry of the log of changes about a revision.
    pub(crate) fn change(tenant: TenantId, revision: u64) -> Vec<u8> {
        of_tenant(tenant, b'h', &[&revision.to_be_bytes()])
    }

    /// The record of an alert.
    pub(crate) fn alert(tenant: TenantId, id: AlertId) -> Vec<u8> {
        of_tenant(tenant, b'a', &[&id.to_bytes()])
    }

    /// The timeline of an alert.
    pub(crate) fn timeline(tenant: TenantId, id: AlertId) -> Vec<u8> {
        of_tenant(tenant, b'l', &[&id.to_bytes()])
    }

    /// How many alerts of each kind there are.
    pub(crate) fn counts(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'k', &[])
    }

    /// An index of alerts by their start.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum AlertIndex {
        /// All alerts.
        All,
        /// Those whose episode goes on.
        Open,
        /// Those of a rule.
        Rule(RuleId),
        /// Those that are resolved, by when.
        Resolved,
    }

    /// The start of an index.
    pub(crate) fn index(tenant: TenantId, index: AlertIndex) -> Vec<u8> {
        match index {
            AlertIndex::All => of_tenant(tenant, b'b', &[]),
            AlertIndex::Open => of_tenant(tenant, b'p', &[]),
            AlertIndex::Rule(rule) => of_tenant(tenant, b'u', &[&rule.to_bytes()]),
            AlertIndex::Resolved => of_tenant(tenant, b'f', &[]),
        }
    }

    /// The place of an alert in an index; the last 16 bytes are its id.
    pub(crate) fn indexed(tenant: TenantId, at: AlertIndex, time_of: Timestamp, id: AlertId) -> Vec<u8> {
        let mut key = index(tenant, at);
        key.extend(time(time_of));
        key.extend(id.to_bytes());
        key
    }

    /// The first place in an index at or after a time.
    pub(crate) fn indexed_from(tenant: TenantId, at: AlertIndex, time_of: Timestamp) -> Vec<u8> {
        let mut key = index(tenant, at);
        key.extend(time(time_of));
        key
    }

    /// The start of the list of tenants of a partition that have configuration.
    pub(crate) fn revisions(partition: Partition) -> Vec<u8> {
        [b"al/p/".as_slice(), &partition.number().to_be_bytes(), b"/"].concat()
    }

    /// The revision of a tenant's configuration; the last 16 bytes are the tenant.
    pub(crate) fn revision(tenant: TenantId) -> Vec<u8> {
        [revisions(Partition::of(tenant)).as_slice(), &tenant.to_bytes()].concat()
    }

    /// Sequence, position and token of a checkpoint.
    pub(crate) fn checkpoint(processor: &str, partition: Partition) -> Vec<u8> {
        [b"al/k/".as_slice(), &partition.number().to_be_bytes(), b"/", processor.as_bytes()].concat()
    }

    /// The state of a checkpoint.
    pub(crate) fn checkpoint_state(processor: &str, partition: Partition) -> Vec<u8> {
        [b"al/z/".as_slice(), &partition.number().to_be_bytes(), b"/", processor.as_bytes()].concat()
    }
}

/// Keys of deliveries: all start with `ob/`.
pub(crate) mod outbox {
    use super::time;
    use crate::id::{ChannelId, DeliveryId, TenantId};
    use crate::time::Timestamp;

    fn key(kind: u8, rest: &[&[u8]]) -> Vec<u8> {
        [b"ob/".as_slice(), &[kind, b'/'], &rest.concat()].concat()
    }

    /// The record of a delivery.
    pub(crate) fn delivery(tenant: TenantId, id: DeliveryId) -> Vec<u8> {
        key(b'd', &[&tenant.to_bytes(), &id.to_bytes()])
    }

    /// The log of a delivery.
    pub(crate) fn log(tenant: TenantId, id: DeliveryId) -> Vec<u8> {
        key(b'l', &[&tenant.to_bytes(), &id.to_bytes()])
    }

    /// How many deliveries of a tenant there are.
    pub(crate) fn counts(tenant: TenantId) -> Vec<u8> {
        key(b'n', &[&tenant.to_bytes()])
    }

    /// The start of the queue of all tenants.
    pub(crate) fn queue() -> Vec<u8> {
        key(b'q', &[])
    }

    /// A delivery in the queue, by when it is due or its lease ends; the last 32 bytes are tenant and id, the value its channel.
    pub(crate) fn queued(due_at: Timestamp, tenant: TenantId, id: DeliveryId) -> Vec<u8> {
        key(b'q', &[&time(due_at), &tenant.to_bytes(), &id.to_bytes()])
    }

    /// The first place in the queue after all that is due at a time.
    pub(crate) fn queued_after(due_at: Timestamp) -> Vec<u8> {
        key(b'q', &[&time(due_at), &[u8::MAX; 33]])
    }

    /// Reads the time, the tenant and the id out of a place in the queue.
    pub(crate) fn parse_queued(key: &[u8]) -> Option<(Timestamp, TenantId, DeliveryId)> {
        let rest = key.strip_prefix(queue().as_slice())?;
        let micros = i64::from_be_bytes(rest.get(..8)?.try_into().ok()?) ^ i64::MIN;
        let tenant = TenantId::from_bytes(rest.get(8..24)?.try_into().ok()?);
        let id = DeliveryId::from_bytes(rest.get(24..40)?.try_into().ok()?);
        Some((Timestamp::from_micros(micros), tenant, id))
    }

    /// The start of the leases of all channels.
    pub(crate) fn all_leases() -> Vec<u8> {
        key(b'w', &[])
    }

    /// Reads the tenant out of the key of the leases of a channel.
    pub(crate) fn tenant_of_leases(key: &[u8]) -> Option<TenantId> {
        let rest = key.strip_prefix(all_leases().as_slice())?;
        Some(TenantId::from_bytes(rest.get(..16)?.try_into().ok()?))
    }

    /// The start of what is kept of a tenant in each way but the queue.
    pub(crate) fn of_tenant(tenant: TenantId) -> [Vec<u8>; 6] {
        [b'd', b'l', b'n', b'w', b'c', b'f'].map(|kind| key(kind, &[&tenant.to_bytes()]))
    }

    /// The leases of a channel.
    pub(crate) fn leases(tenant: TenantId, channel: ChannelId) -> Vec<u8> {
        key(b'w', &[&tenant.to_bytes(), &channel.to_bytes()])
    }

    /// The start of the deliveries of a tenant by when they were planned.
    pub(crate) fn created(tenant: TenantId) -> Vec<u8> {
        key(b'c', &[&tenant.to_bytes()])
    }

    /// A delivery by when it was planned; the last 16 bytes are its id.
    pub(crate) fn created_at(tenant: TenantId, at: Timestamp, id: DeliveryId) -> Vec<u8> {
        key(b'c', &[&tenant.to_bytes(), &time(at), &id.to_bytes()])
    }

    /// The first place by when they were planned at or after a time.
    pub(crate) fn created_from(tenant: TenantId, at: Timestamp) -> Vec<u8> {
        key(b'c', &[&tenant.to_bytes(), &time(at)])
    }

    /// The start of the finished deliveries of a tenant.
    pub(crate) fn finished(tenant: TenantId) -> Vec<u8> {
        key(b'f', &[&tenant.to_bytes()])
    }

    /// A finished delivery by when it was finished; the last 16 bytes are its id.
    pub(crate) fn finished_at(tenant: TenantId, at: Timestamp, id: DeliveryId) -> Vec<u8> {
        key(b'f', &[&tenant.to_bytes(), &time(at), &id.to_bytes()])
    }

    /// The first place among the finished at or after a time.
    pub(crate) fn finished_from(tenant: TenantId, at: Timestamp) -> Vec<u8> {
        key(b'f', &[&tenant.to_bytes(), &time(at)])
    }
}
