//! Endings: tenants that go, and records that are old.

use super::probe::{
    Probe, api_key_record, at, audit_record, put_user, session_record, tenant_record, user_record,
};
use crate::id::{ApiKeyId, SessionId, UserId};
use crate::ports::identity::{
    AuditQuery, IdentityConflict, IdentityOutcome, IdentityWrite, PurgeOptions, SessionRecord, TenantRecord,
    TenantStatus, UserPage, UserQuery,
};
use crate::time::Timestamp;

fn one_of_each() -> Vec<IdentityWrite> {
    vec![
        put_user(user_record(1, "ada@mail.example")),
        IdentityWrite::PutSession(Box::new(session_record(2, 1))),
        IdentityWrite::PutApiKey(Box::new(api_key_record(3))),
        IdentityWrite::RecordLogin(UserId::from_u128(1), at(1)),
        IdentityWrite::RecordKeyUse(ApiKeyId::from_u128(3), at(1)),
        IdentityWrite::Audit(audit_record(1_000, 4)),
    ]
}

/// Nothing is written to a tenant that does not exist or is being deleted; a suspended one takes writes.
pub(super) async fn identity_gone_tenant_refuses(probe: Probe) {
    let nobody = Probe { tenant: probe.harness.tenant(), ..probe.clone() };
    for write in one_of_each() {
        nobody.refused(vec![write], IdentityConflict::TenantGone).await;
    }
    let record = probe.tenant_record().await;
    probe.put_tenant(TenantRecord { status: TenantStatus::Suspended, ..record }).await;
    probe.put(one_of_each()).await;
    let record = probe.tenant_record().await;
    let last_words = IdentityWrite::Audit(audit_record(2_000, 5));
    let deleting =
        IdentityWrite::PutTenant(Box::new(TenantRecord { status: TenantStatus::Deleting, ..record }));
    probe.put(vec![last_words, deleting]).await;
    for write in one_of_each() {
        probe.refused(vec![write], IdentityConflict::TenantGone).await;
    }
}

/// After a deletion nothing of the tenant is found, its neighbour is whole, and its slug is free.
pub(super) async fn identity_deleted_tenant_is_gone(probe: Probe) {
    let neighbour = probe.stranger().await;
    probe.put(one_of_each()).await;
    neighbour.put_user(user_record(1, "ada@mail.example")).await;
    let store = probe.store.clone();
    store.delete_tenant(probe.tenant).await.expect("delete_tenant succeeds");
    assert_eq!(store.tenant(probe.tenant).await.expect("succeeds"), None);
    let slug = tenant_record(probe.tenant).slug;
    assert_eq!(store.tenant_by_slug(&slug).await.expect("succeeds"), None);
    assert!(
        store.tenants(None, 9).await.expect("succeeds").iter().all(|tenant| tenant.id == neighbour.tenant)
    );
    assert_eq!(probe.user_by_id(1).await, None);
    let everybody = UserQuery { limit: 9, ..UserQuery::default() };
    assert_eq!(store.find_users(probe.tenant, &everybody).await.expect("succeeds"), UserPage::default());
    assert_eq!(store.session(probe.tenant, SessionId::from_u128(2)).await.expect("succeeds"), None);
    assert_eq!(store.sessions_of(probe.tenant, UserId::from_u128(1)).await.expect("succeeds"), []);
    assert_eq!(store.api_key(ApiKeyId::from_u128(3)).await.expect("succeeds"), None);
    assert_eq!(store.api_keys(probe.tenant).await.expect("succeeds"), []);
    let log = AuditQuery { before: None, limit: 9 };
    assert_eq!(store.audit_log(probe.tenant, &log).await.expect("succeeds"), []);
    probe.refused(one_of_each(), IdentityConflict::TenantGone).await;
    assert!(neighbour.user_by_id(1).await.is_some());
    // The id of the key and the slug can be used by another tenant now, and the tenant can be made again, empty.
    neighbour.put(vec![IdentityWrite::PutApiKey(Box::new(api_key_record(3)))]).await;
    let record = neighbour.tenant_record().await;
    neighbour.put_tenant(TenantRecord { slug: slug.clone(), ..record }).await;
    let again = TenantRecord { slug: format!("{slug}-again"), ..tenant_record(probe.tenant) };
    probe.put_tenant(again).await;
    assert_eq!(probe.user_by_id(1).await, None);
    probe.put_user(user_record(1, "ada@mail.example")).await;
    assert_eq!(probe.user_by_id(1).await.map(|user| user.activity.login_count), Some(0));
}

/// Deleting twice, or what never was, is fine; many records go too.
pub(super) async fn identity_delete_resumes(probe: Probe) {
    for batch in 0..25_u64 {
        let entries = (0..100).map(|number| IdentityWrite::Audit(audit_record(1_000 + batch, number)));
        probe.put(entries.collect()).await;
    }
    let record = probe.tenant_record().await;
    probe.put_tenant(TenantRecord { status: TenantStatus::Deleting, ..record }).await;
    for _ in 0..2 {
        probe.store.delete_tenant(probe.tenant).await.expect("delete_tenant succeeds");
        assert_eq!(probe.store.tenant(probe.tenant).await.expect("succeeds"), None);
        let log = probe
            .store
            .audit_log(probe.tenant, &AuditQuery { before: None, limit: 9 })
            .await
            .expect("succeeds");
        assert_eq!(log, []);
    }
    probe.store.delete_tenant(probe.harness.tenant()).await.expect("delete_tenant succeeds");
}

/// Expired sessions and old entries go, at most as many as asked, and nothing else goes.
pub(super) async fn identity_purge_takes_what_expired(probe: Probe) {
    let stranger = probe.stranger().await;
    for tenant in [&probe, &stranger] {
        tenant.put_user(user_record(1, "ada@mail.example")).await;
        for (number, expires_at) in [(10, at(99)), (11, at(100)), (12, at(101))] {
            let session = SessionRecord { expires_at, ..session_record(number, 1) };
            tenant.put(vec![IdentityWrite::PutSession(Box::new(session))]).await;
        }
        let entries = [(999, 1), (999, 2), (1_000, 3)].map(|(millis, number)| audit_record(millis, number));
        tenant.put(entries.map(IdentityWrite::Audit).to_vec()).await;
    }
    let purge = |limit| {
        let options =
            PurgeOptions { sessions_before: at(100), audit_before: Timestamp::from_millis(1_000), limit };
        let (store, tenant) = (probe.store.clone(), probe.tenant);
        async move { store.purge(tenant, &options).await.expect("purge succeeds") }
    };
    assert_eq!((purge(0).await, purge(1).await, purge(9).await, purge(9).await), (0, 1, 2, 0));
    for (tenant, sessions, entries) in [(&probe, vec![11, 12], 1), (&stranger, vec![10, 11, 12], 3)] {
        let found = tenant.store.sessions_of(tenant.tenant, UserId::from_u128(1)).await.expect("succeeds");
        let mut found: Vec<_> = found.iter().map(|session| session.id.as_u128()).collect();
        found.sort_unstable();
        assert_eq!(found, sessions);
        let log = tenant
            .store
            .audit_log(tenant.tenant, &AuditQuery { before: None, limit: 9 })
            .await
            .expect("succeeds");
        assert_eq!(log.len(), entries);
    }
    let again = SessionRecord { version: 1, ..session_record(10, 1) };
    let outcome = probe.commit(vec![IdentityWrite::PutSession(Box::new(again))]).await;
    assert_eq!(
        outcome,
        IdentityOutcome::Conflict(IdentityConflict::Version),
        "a purged session is not revived"
    );
}
