//! A tenant that is deleted leaves nothing behind.

use std::sync::Arc;

use pulsestream::core::alerting::{
    Author, Channel, ChannelConfig, ChannelRef, Rule, RuleExpression, Silence,
};
use pulsestream::core::auth::{EnsureAdmin, EnsuredAdmin, Role};
use pulsestream::core::id::{ChannelId, RuleId, SilenceId};
use pulsestream::core::memory::MemoryKeyValue;
use pulsestream::core::ports::alert_store::{AlertQuery, PutMode};
use pulsestream::core::ports::auth::{Origin, Principal, Subject};
use pulsestream::core::ports::key_value::{KeyValue, Read, ReadResult};
use pulsestream::core::ports::outbox::DeliveryQuery;
use pulsestream::prelude::*;
use pulsestream_testtools::eventually_async;

/// Every key and value of a store that names the tenant, in bytes or in text.
async fn traces(store: &dyn KeyValue, tenant: TenantId) -> Vec<String> {
    let read = Read::Range { start: Vec::new(), end: vec![0xFF; 64], limit: 100_000, reverse: false };
    let Some(ReadResult::Entries(entries)) = store.read(vec![read]).await.unwrap().pop() else { panic!() };
    let (bytes, text) = (tenant.to_bytes(), tenant.to_string());
    let names = |place: &[u8]| {
        place.windows(16).any(|window| window == bytes)
            || place.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let found = entries.iter().filter(|(key, value)| names(key) || names(value));
    found.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

/// Fills a tenant until an alert fires and its notification waits or went out.
async fn fill(ps: &PulseStream, tenant: TenantId) {
    let (store, author) = (ps.alert_store(), Author::server(ps.env().now()));
    let channel = Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {});
    store.put_channel(tenant, channel, PutMode::Create, &author).await.unwrap();
    let expression: RuleExpression = "count > 3 over 5m where severity >= 'error'".parse().unwrap();
    let mut rule = Rule::new(RuleId::from_u128(1), "many errors", expression.kind.clone());
    expression.apply_to(&mut rule);
    rule.channels = vec![ChannelRef::new("ops")];
    rule.notify_at_once = true;
    store.put_rule(tenant, rule, PutMode::Create, &author).await.unwrap();
    let now = ps.env().now();
    let silence = Silence {
        id: SilenceId::from_u128(1),
        version: 0,
        matchers: Vec::new(),
        starts_at: now,
        ends_at: now,
        created_by: "ann".into(),
        comment: "none".into(),
        created_at: now,
        updated_at: now,
    };
    store.put_silence(tenant, silence, PutMode::Create, &author).await.unwrap();
    for number in 0..6 {
        let mut event = Event::new(EventId::new(format!("e{number}")).unwrap(), "api_call", now);
        event.severity = Severity::Error;
        ps.tenant(tenant).ingest(event).await.unwrap();
    }
    let told = async || {
        let alerts = store.alerts(tenant, &AlertQuery::default()).await.unwrap().alerts.len();
        let deliveries = ps.outbox().deliveries(tenant, &DeliveryQuery::default()).await.unwrap();
        alerts == 1 && deliveries.deliveries.len() == 1
    };
    eventually_async("the alert fires and somebody is told", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_leaves_no_trace_and_others_keep_theirs() {
    let key_value = Arc::new(MemoryKeyValue::new());
    let ps = PulseStream::builder().with_key_value(key_value.clone()).open("memory:").await.unwrap();
    let mut tenants = Vec::new();
    for slug in ["gone", "stays"] {
        let request = EnsureAdmin {
            tenant_name: slug.to_owned(),
            tenant_slug: slug.to_owned(),
            email: "owner@example.com".to_owned(),
            full_name: "Owner".to_owned(),
            password: None,
        };
        let EnsuredAdmin::Created { tenant, .. } = ps.accounts().ensure_admin(&request).await.unwrap() else {
            panic!("it is new")
        };
        fill(&ps, tenant.id).await;
        tenants.push(tenant.id);
    }
    let [gone, stays] = tenants[..] else { panic!() };
    let owner = Principal {
        tenant: gone,
        subject: Subject::External("test".into()),
        role: Some(Role::Owner),
        scopes: None,
        session: None,
        expires_at: None,
    };
    assert!(traces(&*key_value, gone).await.len() > 20);
    ps.accounts().delete_tenant(&owner, &Origin::default()).await.unwrap();
    // The state of the engine goes with the next checkpoint.
    let is_gone = async || traces(&*key_value, gone).await.is_empty();
    eventually_async("no trace is left", is_gone).await;
    assert!(ps.tenant(gone).find(FindQuery::default()).await.unwrap().events.is_empty());
    assert_eq!(ps.tenant(stays).find(FindQuery::default()).await.unwrap().events.len(), 6);
    assert_eq!(ps.alert_store().alerts(stays, &AlertQuery::default()).await.unwrap().alerts.len(), 1);
    let page = ps.outbox().deliveries(stays, &DeliveryQuery::default()).await.unwrap();
    assert_eq!(page.deliveries.len(), 1);
    ps.close().await.unwrap();
}
