//! Every operation of every port, dropped at every await: no connection stays inside a transaction, and the pools go on working.

use std::collections::BTreeSet;
use std::time::Duration;

use pulsestream_core::alerting::{AlertAction, Author, Channel, ChannelConfig, Routing};
use pulsestream_core::auth::Keyring;
use pulsestream_core::env::Env;
use pulsestream_core::id::{
    AlertId, ApiKeyId, ChannelId, DeliveryId, RuleId, SessionId, SilenceId, TenantId, UserId,
};
use pulsestream_core::ports::alert_store::{AlertQuery, AlertStore, ConfigChangeQuery, PutMode, RuleQuery};
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::document_store::{Document, DocumentStore};
use pulsestream_core::ports::event_store::{
    AppendOptions, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::ports::identity::{
    AuditQuery, IdentityStore, IdentityWrite, KeyringRecord, PurgeOptions, UserLookup, UserQuery,
};
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveTopic};
use pulsestream_core::ports::outbox::{
    AttemptRecord, DeliveryQuery, Disposition, LeaseOptions, Outbox, ReplaySelection,
};
use pulsestream_core::query::{AggregateQuery, FindQuery, ScanQuery};
use pulsestream_core::time::TimeRange;
use pulsestream_postgres::{Postgres, PostgresConfig};

use crate::cancellation::drop_at_every_await;
use crate::isolation::as_app_role;
use crate::mutant_at_rest::{at, commit, delivery, fill_accounts, rule, silence, tenant_record, user_record};
use crate::support::{config, direct, event, fresh_schema, number, stored, with_server};

/// The ports, as they are written; [`every_method_of_every_port_is_dropped`] looks for each method in this file.
const PORTS: [&str; 7] = [
    include_str!("../../../pulsestream-core/src/ports/event_store.rs"),
    include_str!("../../../pulsestream-core/src/ports/alert_store.rs"),
    include_str!("../../../pulsestream-core/src/ports/outbox.rs"),
    include_str!("../../../pulsestream-core/src/ports/identity/mod.rs"),
    include_str!("../../../pulsestream-core/src/ports/coordinator.rs"),
    include_str!("../../../pulsestream-core/src/ports/document_store.rs"),
    include_str!("../../../pulsestream-core/src/ports/live_bus.rs"),
];

/// Methods that end the store, or that only wait for what is in memory.
const NOT_DROPPED: [&str; 2] = ["close", "next"];

#[test]
fn every_method_of_every_port_is_dropped() {
    let here = include_str!("cancellation_operations.rs");
    for port in PORTS {
        let methods: Vec<&str> = port
            .split("\n    async fn ")
            .skip(1)
            .map(|rest| rest.split('(').next().unwrap())
            .filter(|method| !NOT_DROPPED.contains(method))
            .collect();
        assert!(methods.len() >= 2, "a port is not written as it was: {methods:?}");
        for method in methods {
            assert!(here.contains(&format!(".{method}(")), "no line here drops {method}");
        }
    }
}

/// Drops each of the calls at every await.
macro_rules! drop_each {
    ($($call:expr),+ $(,)?) => {
        $(drop_at_every_await(|_| async { drop($call.await) }).await;)+
    };
}

async fn events(postgres: &Postgres, tenant: TenantId) {
    let store = postgres.event_store().await.unwrap();
    let (find, scan) = (FindQuery { count_total: true, ..FindQuery::default() }, ScanQuery::default());
    let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
    let (partition, ids) = (Partition::of(tenant), [event("dropped", 1).id]);
    drop_each![
        store.append(tenant, vec![event("dropped", 1)], AppendOptions::default()),
        store.append(tenant, vec![event("two", 1), event("three", 2)], AppendOptions::default()),
        store.get(tenant, &ids),
        store.find(tenant, &find),
        store.aggregate(tenant, &AggregateQuery::default()),
        async { store.scan(tenant, &scan).await.unwrap().next_batch().await },
        store.tail(partition, Position::START, TailOptions::default()),
        store.wait_for_events(partition, Position::START),
        store.check(),
        store.delete(tenant, &DeleteSelection::Ids(ids.to_vec())),
        store.delete(tenant, &everything),
        store.retain(tenant, event("late", 100).timestamp),
    ];
}

async fn alerting(postgres: &Postgres, tenant: TenantId) {
    let (alerts, author) = (postgres.alert_store(), Author::server(at(1)));
    let channel = || Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {});
    let action = AlertAction::Comment { actor: "ann".into(), note: "hm".into() };
    let entry = commit(tenant).changes.remove(0).timeline.remove(0);
    let alert = AlertId::from_u128(1);
    drop_each![
        alerts.put_rule(tenant, rule(), PutMode::Always, &author),
        alerts.rule(tenant, RuleId::from_u128(1)),
        alerts.rules(tenant, &RuleQuery::default()),
        alerts.rule_activity(tenant, &[RuleId::from_u128(1)]),
        alerts.put_channel(tenant, channel(), PutMode::Always, &author),
        alerts.channel(tenant, ChannelId::from_u128(1)),
        alerts.channels(tenant),
        alerts.put_silence(tenant, silence(), PutMode::Always, &author),
        alerts.silence(tenant, SilenceId::from_u128(1)),
        alerts.silences(tenant, Some(at(1))),
        alerts.put_routing(tenant, Routing::default(), PutMode::Always, &author),
        alerts.routing(tenant),
        alerts.changes(tenant, &ConfigChangeQuery::default()),
        alerts.config(tenant, at(1)),
        alerts.revisions(Partition::of(tenant)),
        alerts.commit(commit(tenant)),
        alerts.checkpoint("alerting", Partition::of(tenant)),
        alerts.alert(tenant, alert),
        alerts.alerts(tenant, &AlertQuery::default()),
        alerts.alert_counts(tenant),
        alerts.act_on_alert(tenant, alert, &action, at(3)),
        alerts.record_timeline(tenant, vec![entry.clone()]),
        alerts.timeline(tenant, alert),
        alerts.prune_alerts(tenant, at(100), 10),
        alerts.delete_rule(tenant, RuleId::from_u128(1), None, &author),
        alerts.delete_channel(tenant, ChannelId::from_u128(1), None, &author),
        alerts.delete_silence(tenant, SilenceId::from_u128(1), None, &author),
        alerts.prune_changes(tenant, at(100), 10),
        alerts.erase(tenant),
    ];
}

async fn deliveries(postgres: &Postgres, tenant: TenantId) {
    let outbox = postgres.outbox();
    let lease = LeaseOptions {
        holder: "dispatcher".into(),
        now: at(50),
        limit: 10,
        ttl: Duration::from_secs(10),
        max_per_channel: 10,
        full: BTreeSet::new(),
    };
    outbox.enqueue(tenant, vec![delivery()]).await.unwrap();
    let leased = outbox.lease(&lease).await.unwrap();
    let done: Vec<AttemptRecord> = leased
        .iter()
        .map(|leased| AttemptRecord {
            tenant: leased.tenant,
            delivery: leased.delivery.id,
            lease_token: leased.lease_token,
            at: at(51),
            disposition: Disposition::Delivered,
            report: None,
        })
        .collect();
    drop_each![
        outbox.enqueue(tenant, vec![delivery()]),
        outbox.lease(&lease),
        outbox.record(done.clone()),
        outbox.next_due(),
        outbox.deliveries(tenant, &DeliveryQuery::default()),
        outbox.delivery(tenant, DeliveryId::from_u128(1)),
        outbox.counts(tenant),
        outbox.replay(tenant, &ReplaySelection::Dead { channel: None }, at(60)),
        outbox.prune(tenant, at(100), 10),
        outbox.erase(tenant),
    ];
}

async fn accounts(postgres: &Postgres, tenant: TenantId) {
    let (accounts, documents) = (postgres.identity_store(), postgres.document_store());
    let lookups = [UserLookup::Id(UserId::from_u128(1))];
    let everything = PurgeOptions { sessions_before: at(1_000), audit_before: at(1_000), limit: 10 };
    let document = || Document { body: "{}".into(), updated_at: at(1) };
    let user = || vec![IdentityWrite::PutUser(Box::new(user_record()))];
    let keyring =
        KeyringRecord { version: 0, keyring: Keyring::generate(&Env::system()).unwrap(), setups: Vec::new() };
    drop_each![
        accounts.tenant(tenant),
        accounts.tenant_by_slug("dropped"),
        accounts.tenants(None, 10),
        accounts.users(tenant, &lookups),
        accounts.find_users(tenant, &UserQuery::default()),
        accounts.session(tenant, SessionId::from_u128(1)),
        accounts.sessions_of(tenant, UserId::from_u128(1)),
        accounts.api_key(ApiKeyId::from_u128(1)),
        accounts.api_keys(tenant),
        accounts.commit(tenant, user()),
        accounts.audit_log(tenant, &AuditQuery { before: None, limit: 10 }),
        accounts.keyring(),
        accounts.put_keyring(&keyring),
        accounts.purge(tenant, &everything),
        documents.put_document(tenant, "dashboard", document()),
        documents.document(tenant, "dashboard"),
        documents.delete_documents(tenant),
    ];
}

async fn sharing(postgres: &Postgres, tenant: TenantId) {
    let (leases, bus) = (postgres.coordinator(), postgres.live_bus(16).await.unwrap());
    let held = leases.acquire("held", "node", Duration::from_secs(60)).await.unwrap().unwrap();
    let message = || vec![LiveMessage { topic: LiveTopic::Event, body: "{}".into() }];
    drop_each![
        leases.acquire("share", "node", Duration::from_secs(60)),
        leases.leases(""),
        leases.release(&held),
        bus.subscribe(tenant),
        bus.publish(tenant, message()),
    ];
}

#[test]
fn a_dropped_future_leaves_no_transaction_open() {
    with_server(|url| async move {
        let schema = fresh_schema();
        // The role tells its connections from those of other tests.
        let app_url = as_app_role(&url, &schema).await;
        let own = PostgresConfig { max_connections: 2, ..config(schema.clone()) };
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(3).connect(&app_url).await.unwrap();
        let tenant = TenantId::from_name("dropped");
        let of_the_host = Postgres::with_pool(pool, own.clone(), Env::system()).await.unwrap();
        let ours = Postgres::connect(&app_url, own, Env::system()).await.unwrap();
        let record = IdentityWrite::PutTenant(Box::new(tenant_record(tenant, "dropped")));
        let _ = ours.identity_store().commit(tenant, vec![record]).await.unwrap();
        fill_accounts(&ours, tenant).await;
        for _ in 0..5 {
            for postgres in [&of_the_host, &ours] {
                events(postgres, tenant).await;
                alerting(postgres, tenant).await;
                deliveries(postgres, tenant).await;
                accounts(postgres, tenant).await;
                sharing(postgres, tenant).await;
            }
        }
        drop_each![ours.identity_store().delete_tenant(tenant)];
        // What was dropped goes on in its task until it is done; then none is left inside a transaction.
        let of_role = format!("from pg_stat_activity where usename = 'app_{schema}'");
        let busy = format!("select count(*) {of_role} and state <> 'idle'");
        let mut observer = direct(&url).await;
        let settled = async {
            while number(&mut observer, &busy).await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("all are idle in the end");
        assert!(number(&mut direct(&url).await, &format!("select count(*) {of_role}")).await >= 3);
        // And the pools still work.
        for (postgres, id) in [(&of_the_host, "after-1"), (&ours, "after-2")] {
            let store = postgres.event_store().await.unwrap();
            let outcomes = store.append(tenant, vec![event(id, 1)], AppendOptions::default()).await.unwrap();
            assert_eq!(stored(&outcomes), 1);
            assert!(postgres.identity_store().tenant(tenant).await.is_ok());
        }
    });
}
