//! Everything at rest through queries that lack the tenant predicate, as in `mutant`: one tenant has something of every kind, and the
//! other finds, changes and deletes nothing.

use std::time::Duration;

use pulsestream_core::alerting::{
    Alert, AlertAction, AlertChange, AlertState, Author, Channel, ChannelConfig, Delivery, Fingerprint,
    Labels, Matcher, NotificationContent, NotificationKind, Routing, Rule, RuleExpression, RuleKind, Silence,
    TimelineEntry, TimelineKind, Transition, TransitionReason,
};
use pulsestream_core::auth::{Digest256, Role, Scope, Scopes, Secret};
use pulsestream_core::error::ErrorKind;
use pulsestream_core::event::JsonObject;
use pulsestream_core::id::{
    AlertId, ApiKeyId, AuditId, ChannelId, DeliveryId, RuleId, SessionId, SilenceId, TenantId, UserId,
};
use pulsestream_core::ports::alert_store::{
    AlertCommit, AlertQuery, AlertStore, AlertingConfig, CheckpointUpdate, ConfigChangeQuery, PutMode,
    RuleQuery, TenantAlertChanges,
};
use pulsestream_core::ports::document_store::{Document, DocumentStore};
use pulsestream_core::ports::event_store::{Partition, Position};
use pulsestream_core::ports::identity::{
    ApiKeyRecord, AuditAction, AuditQuery, AuditRecord, IdentityOutcome, IdentityStore, IdentityWrite,
    PurgeOptions, SessionRecord, TenantRecord, TenantStatus, UserActivity, UserLookup, UserQuery, UserRecord,
};
use pulsestream_core::ports::outbox::{DeliveryCounts, DeliveryQuery, Outbox, ReplaySelection};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_postgres::Postgres;

use crate::mutant::{connect_mutant, mutated};
use crate::support::{config, connect, connect_as_app, fresh_schema, with_server};

const WINDOW: Duration = Duration::from_secs(300);

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + second)
}

fn tenants() -> (TenantId, TenantId) {
    (TenantId::from_name("ours"), TenantId::from_name("theirs"))
}

pub(crate) fn rule() -> Rule {
    let expression: RuleExpression = "count > 5 over 5m".parse().unwrap();
    let mut rule = Rule::new(RuleId::from_u128(1), "theirs", RuleKind::Absence { window: WINDOW });
    expression.apply_to(&mut rule);
    rule
}

pub(crate) fn delivery() -> Delivery {
    let content = NotificationContent {
        kind: NotificationKind::Firing,
        title: "theirs".into(),
        message: "theirs".into(),
        group: Labels::new(),
        alerts: Vec::new(),
        omitted: 0,
    };
    Delivery::new(DeliveryId::from_u128(1), ChannelId::from_u128(1), "theirs".into(), content, at(1), at(1))
}

/// An alert that was resolved, with a line in its timeline and a delivery.
pub(crate) fn commit(tenant: TenantId) -> AlertCommit {
    let transition = Transition {
        alert: AlertId::from_u128(1),
        sequence: 1,
        rule: RuleId::from_u128(1),
        rule_version: 1,
        fingerprint: Fingerprint(1),
        group: Labels::new(),
        from: None,
        to: AlertState::Resolved,
        at: at(2),
        started_at: at(1),
        fired_at: Some(at(1)),
        value: None,
        reason: TransitionReason::Condition,
        muted: None,
    };
    let told = TimelineKind::Notified { delivery: DeliveryId::from_u128(1), channel: "theirs".into() };
    AlertCommit {
        checkpoint: CheckpointUpdate {
            processor: "alerting".into(),
            partition: Partition::of(tenant),
            fencing_token: 1,
            after_sequence: 0,
            position: Position::START,
            state: Vec::new(),
        },
        changes: vec![TenantAlertChanges {
            tenant,
            alerts: vec![AlertChange::new(transition, &rule(), "count > 5 over 5m")],
            timeline: vec![TimelineEntry::of_delivery(
                AlertId::from_u128(1),
                at(2),
                DeliveryId::from_u128(1),
                told,
            )],
            deliveries: vec![delivery()],
        }],
    }
}

pub(crate) fn silence() -> Silence {
    Silence {
        id: SilenceId::from_u128(1),
        version: 0,
        matchers: vec![Matcher::equal("service", "s1")],
        starts_at: at(0),
        ends_at: at(10_000),
        created_by: "theirs".into(),
        comment: "theirs".into(),
        created_at: at(1),
        updated_at: at(1),
    }
}

pub(crate) async fn fill_alerting(postgres: &Postgres, tenant: TenantId) {
    let (alerts, author) = (postgres.alert_store(), Author::server(at(1)));
    alerts.put_rule(tenant, rule(), PutMode::Create, &author).await.unwrap();
    let channel = Channel::new(ChannelId::from_u128(1), "theirs", ChannelConfig::Log {});
    alerts.put_channel(tenant, channel, PutMode::Create, &author).await.unwrap();
    alerts.put_silence(tenant, silence(), PutMode::Create, &author).await.unwrap();
    let routing = Routing { updated_at: at(9), ..Routing::default() };
    alerts.put_routing(tenant, routing, PutMode::Always, &author).await.unwrap();
    alerts.commit(commit(tenant)).await.unwrap();
}

/// How much of alerting a tenant sees, by every way to ask.
async fn alerting_seen(postgres: &Postgres, tenant: TenantId) -> usize {
    let (alerts, outbox) = (postgres.alert_store(), postgres.outbox());
    let rules = RuleQuery { limit: 100, ..RuleQuery::default() };
    let any = AlertQuery { include_unfired: true, limit: 100, ..AlertQuery::default() };
    let deliveries = DeliveryQuery { limit: 100, ..DeliveryQuery::default() };
    let activity = alerts.rule_activity(tenant, &[RuleId::from_u128(1)]).await.unwrap();
    let config = alerts.config(tenant, at(1)).await.unwrap();
    [
        alerts.rules(tenant, &rules).await.unwrap().rules.len(),
        usize::from(alerts.rule(tenant, RuleId::from_u128(1)).await.unwrap().is_some()),
        activity.iter().filter(|activity| format!("{activity:?}").contains("Some")).count(),
        usize::from(alerts.alert(tenant, AlertId::from_u128(1)).await.unwrap().is_some()),
        alerts.alerts(tenant, &any).await.unwrap().alerts.len(),
        alerts.alert_counts(tenant).await.unwrap().len(),
        alerts.timeline(tenant, AlertId::from_u128(1)).await.map_or(0, |entries| entries.len()),
        alerts.channels(tenant).await.unwrap().len(),
        usize::from(alerts.channel(tenant, ChannelId::from_u128(1)).await.unwrap().is_some()),
        alerts.silences(tenant, None).await.unwrap().len(),
        alerts.silences(tenant, Some(at(1))).await.unwrap().len(),
        usize::from(alerts.silence(tenant, SilenceId::from_u128(1)).await.unwrap().is_some()),
        usize::from(alerts.routing(tenant).await.unwrap() != Routing::default()),
        alerts.changes(tenant, &ConfigChangeQuery::default()).await.unwrap().changes.len(),
        usize::from(config != AlertingConfig::default()),
        outbox.deliveries(tenant, &deliveries).await.unwrap().deliveries.len(),
        usize::from(outbox.delivery(tenant, DeliveryId::from_u128(1)).await.unwrap().is_some()),
        usize::from(outbox.counts(tenant).await.unwrap() != DeliveryCounts::default()),
    ]
    .into_iter()
    .filter(|seen| *seen > 0)
    .count()
}

#[test]
fn alerting_of_others_stays_hidden_and_whole() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let (ours, theirs) = tenants();
        let app = connect_as_app(&url, config(schema.clone())).await;
        fill_alerting(&app, theirs).await;
        let whole = alerting_seen(&app, theirs).await;
        assert!(whole >= 17, "{whole}");

        let mutant = connect_mutant(&url, schema.clone()).await;
        assert_eq!(alerting_seen(&mutant, ours).await, 0);
        let leaky = connect(&mutated(&url).await, config(schema)).await;
        assert!(alerting_seen(&leaky, ours).await >= 14, "the operator is in force");

        let (alerts, outbox, author) = (mutant.alert_store(), mutant.outbox(), Author::server(at(1)));
        assert!(!alerts.delete_rule(ours, RuleId::from_u128(1), None, &author).await.unwrap());
        assert!(!alerts.delete_channel(ours, ChannelId::from_u128(1), None, &author).await.unwrap());
        assert!(!alerts.delete_silence(ours, SilenceId::from_u128(1), None, &author).await.unwrap());
        let action = AlertAction::Comment { actor: "ours".into(), note: "ours".into() };
        let refused = alerts.act_on_alert(ours, AlertId::from_u128(1), &action, at(3)).await;
        assert_eq!(refused.map(|alert: Alert| alert.id).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(alerts.prune_alerts(ours, at(1_000), 100).await.unwrap(), 0);
        assert_eq!(alerts.prune_changes(ours, at(1_000), 100).await.unwrap(), 0);
        let everything = ReplaySelection::Range { range: TimeRange::ALL, channel: None };
        for selection in [everything, ReplaySelection::Ids(vec![DeliveryId::from_u128(1)])] {
            assert_eq!(outbox.replay(ours, &selection, at(5)).await.unwrap(), 0);
        }
        assert_eq!(outbox.prune(ours, at(1_000), 100).await.unwrap(), 0);
        assert_eq!(alerting_seen(&app, theirs).await, whole);
    });
}

pub(crate) fn tenant_record(tenant: TenantId, slug: &str) -> TenantRecord {
    TenantRecord {
        id: tenant,
        version: 0,
        slug: slug.to_owned(),
        name: slug.to_owned(),
        status: TenantStatus::Active,
        contact_email: "contact@example.org".to_owned(),
        billing_email: None,
        subscription_tier: "free".to_owned(),
        timezone: "UTC".to_owned(),
        notification_settings: JsonObject::default(),
        rate_limit_per_minute: 100,
        max_events_per_month: 100,
        primary_api_key: None,
        created_at: at(1),
        updated_at: at(1),
    }
}

pub(crate) fn user_record() -> UserRecord {
    UserRecord {
        id: UserId::from_u128(1),
        version: 0,
        email: "ann@example.org".to_owned(),
        username: Some("ann".to_owned()),
        full_name: "Ann".to_owned(),
        role: Role::Admin,
        is_active: true,
        is_verified: true,
        password_hash: Secret::from("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"),
        password_changed_at: at(1),
        password_expires_at: None,
        epoch: 1,
        reset: None,
        preferences: JsonObject::default(),
        notification_preferences: JsonObject::default(),
        created_at: at(1),
        updated_at: at(1),
        activity: UserActivity::default(),
    }
}

fn session_record() -> SessionRecord {
    SessionRecord {
        id: SessionId::from_u128(1),
        version: 0,
        user: UserId::from_u128(1),
        epoch: 1,
        current: Digest256::new([1; 32]),
        previous: None,
        remember_me: false,
        created_at: at(1),
        expires_at: at(100),
        ended: None,
        address: None,
        user_agent: None,
    }
}

fn key_record() -> ApiKeyRecord {
    ApiKeyRecord {
        id: ApiKeyId::from_u128(1),
        version: 0,
        name: "theirs".to_owned(),
        scopes: Scopes::of(Scope::EventsWrite),
        digest: Digest256::new([2; 32]),
        created_by: "user:1".to_owned(),
        created_at: at(1),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

pub(crate) async fn fill_accounts(postgres: &Postgres, tenant: TenantId) {
    let audit = AuditRecord {
        id: AuditId::from_u128(1_700_000_001_000 << 80 | 7 << 76 | 2 << 62),
        at: at(1),
        action: AuditAction::ApiKeyRotated,
        actor: "user:1".to_owned(),
        target: None,
        address: None,
        detail: None,
    };
    let writes = vec![
        IdentityWrite::PutUser(Box::new(user_record())),
        IdentityWrite::PutSession(Box::new(session_record())),
        IdentityWrite::PutApiKey(Box::new(key_record())),
        IdentityWrite::Audit(audit),
    ];
    let outcome = postgres.identity_store().commit(tenant, writes).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Committed);
    let document = Document { body: "{}".into(), updated_at: at(1) };
    postgres.document_store().put_document(tenant, "dashboard", document).await.unwrap();
}

/// How many kinds of records of accounts and documents a tenant sees.
async fn accounts_seen(postgres: &Postgres, tenant: TenantId) -> usize {
    let (accounts, documents) = (postgres.identity_store(), postgres.document_store());
    let lookups = [
        UserLookup::Id(UserId::from_u128(1)),
        UserLookup::Email("ann@example.org".to_owned()),
        UserLookup::Username("ann".to_owned()),
    ];
    let anybody = UserQuery { limit: 100, ..UserQuery::default() };
    let audit = AuditQuery { before: None, limit: 100 };
    [
        accounts.users(tenant, &lookups).await.unwrap().iter().flatten().count(),
        accounts.find_users(tenant, &anybody).await.unwrap().users.len(),
        usize::from(accounts.session(tenant, SessionId::from_u128(1)).await.unwrap().is_some()),
        accounts.sessions_of(tenant, UserId::from_u128(1)).await.unwrap().len(),
        accounts.api_keys(tenant).await.unwrap().len(),
        accounts.audit_log(tenant, &audit).await.unwrap().len(),
        usize::from(documents.document(tenant, "dashboard").await.unwrap().is_some()),
    ]
    .into_iter()
    .filter(|seen| *seen > 0)
    .count()
}

#[test]
fn accounts_and_documents_of_others_stay_hidden_and_whole() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let (ours, theirs) = tenants();
        let app = connect_as_app(&url, config(schema.clone())).await;
        for (tenant, slug) in [(ours, "ours"), (theirs, "theirs")] {
            let record = IdentityWrite::PutTenant(Box::new(tenant_record(tenant, slug)));
            let outcome = app.identity_store().commit(tenant, vec![record]).await.unwrap();
            assert_eq!(outcome, IdentityOutcome::Committed);
        }
        fill_accounts(&app, theirs).await;
        assert_eq!(accounts_seen(&app, theirs).await, 7);

        let mutant = connect_mutant(&url, schema.clone()).await;
        assert_eq!(accounts_seen(&mutant, ours).await, 0);
        let own = mutant.identity_store().tenant(ours).await.unwrap().unwrap();
        assert_eq!((own.id, own.slug.as_str()), (ours, "ours"));
        let leaky = connect(&mutated(&url).await, config(schema)).await;
        assert!(accounts_seen(&leaky, ours).await >= 6, "the operator is in force");

        let accounts = mutant.identity_store();
        let everything = PurgeOptions { sessions_before: at(1_000), audit_before: at(1_000), limit: 1_000 };
        assert_eq!(accounts.purge(ours, &everything).await.unwrap(), 0);
        // Whatever these answer, nothing of the other tenant may change.
        for write in [
            IdentityWrite::DeleteSession(SessionId::from_u128(1)),
            IdentityWrite::RecordLogin(UserId::from_u128(1), at(50)),
            IdentityWrite::RecordActivity(UserId::from_u128(1), at(50)),
            IdentityWrite::RecordKeyUse(ApiKeyId::from_u128(1), at(50)),
        ] {
            let _ = accounts.commit(ours, vec![write]).await;
        }
        assert_eq!(mutant.document_store().delete_documents(ours).await.unwrap(), 0);
        accounts.delete_tenant(ours).await.unwrap();
        assert!(app.identity_store().tenant(ours).await.unwrap().is_none());
        assert_eq!(accounts_seen(&app, theirs).await, 7);
        let lookup = [UserLookup::Id(UserId::from_u128(1))];
        let user = app.identity_store().users(theirs, &lookup).await.unwrap().pop().unwrap().unwrap();
        assert_eq!(user.activity, UserActivity::default());
    });
}
