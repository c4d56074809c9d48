//! Commits: what was written is read, all or nothing, guarded by versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::probe::{Probe, api_key_record, at, audit_record, put_user, session_record, user_record};
use crate::auth::{Keyring, SecretBytes, SigningKey};
use crate::id::{ApiKeyId, SessionId, UserId};
use crate::ports::identity::{
    ApiKeyRecord, ApiKeyState, AuditQuery, IdentityConflict, IdentityOutcome, IdentityWrite, KeyringRecord,
    SessionEnd, SessionRecord, SessionState, TenantRecord, UserActivity, UserLookup, UserRecord,
};
use crate::testkit::run::{BoxFuture, concurrently};

/// Every field of every record comes back, with the next version.
pub(super) async fn identity_reads_what_was_written(probe: Probe) {
    let (user, session, key) = (user_record(1, "ada@mail.example"), session_record(2, 1), api_key_record(3));
    let entry = audit_record(1_800_000_000_000, 4);
    probe
        .put(vec![
            put_user(user.clone()),
            IdentityWrite::PutSession(Box::new(session.clone())),
            IdentityWrite::PutApiKey(Box::new(key.clone())),
            IdentityWrite::Audit(entry.clone()),
        ])
        .await;
    let tenant = probe.tenant_record().await;
    assert_eq!(tenant, TenantRecord { version: 1, ..super::probe::tenant_record(probe.tenant) });
    let by_slug =
        probe.store.tenant_by_slug(&format!(" {}", tenant.slug.to_uppercase())).await.expect("succeeds");
    assert_eq!(by_slug.as_ref(), Some(&tenant));
    let user = UserRecord { version: 1, ..user };
    assert_eq!(probe.user_by_id(1).await.as_ref(), Some(&user));
    let session = SessionRecord { version: 1, ..session };
    let state = probe.store.session(probe.tenant, session.id).await.expect("succeeds");
    assert_eq!(state, Some(SessionState { session: session.clone(), user, tenant: tenant.clone() }));
    assert_eq!(probe.store.sessions_of(probe.tenant, session.user).await.expect("succeeds"), [session]);
    let key = ApiKeyRecord { version: 1, ..key };
    assert_eq!(probe.store.api_keys(probe.tenant).await.expect("succeeds"), std::slice::from_ref(&key));
    let state = probe.store.api_key(key.id).await.expect("succeeds");
    assert_eq!(state, Some(ApiKeyState { key, tenant }));
    let log =
        probe.store.audit_log(probe.tenant, &AuditQuery { before: None, limit: 9 }).await.expect("succeeds");
    assert_eq!(log, [entry]);
}

/// A record that is not at the stored version is not written; neither is a new one over an old one.
pub(super) async fn identity_versions_guard(probe: Probe) {
    let (user, session, key) = (user_record(1, "ada@mail.example"), session_record(2, 1), api_key_record(3));
    let puts = |version| {
        [
            IdentityWrite::PutTenant(Box::new(TenantRecord {
                version,
                ..super::probe::tenant_record(probe.tenant)
            })),
            put_user(UserRecord { version, ..user.clone() }),
            IdentityWrite::PutSession(Box::new(SessionRecord { version, ..session.clone() })),
            IdentityWrite::PutApiKey(Box::new(ApiKeyRecord { version, ..key.clone() })),
        ]
    };
    probe.put(puts(0)[1..].to_vec()).await;
    for version in [0, 2, u64::MAX >> 1] {
        for write in puts(version) {
            probe.refused(vec![write], IdentityConflict::Version).await;
        }
    }
    probe.put(puts(1).to_vec()).await;
    for write in puts(1) {
        probe.refused(vec![write], IdentityConflict::Version).await;
    }
    assert_eq!(probe.user_by_id(1).await.map(|user| user.version), Some(2));
    probe
        .refused(
            vec![put_user(UserRecord { version: 1, ..user_record(9, "new@mail.example") })],
            IdentityConflict::Version,
        )
        .await;
}

/// After a conflict in the last write, none of those before has happened.
pub(super) async fn identity_commit_is_atomic(probe: Probe) {
    probe.put_user(user_record(1, "ada@mail.example")).await;
    let writes = vec![
        IdentityWrite::PutTenant(Box::new(TenantRecord {
            name: "Changed".into(),
            ..probe.tenant_record().await
        })),
        put_user(user_record(2, "bob@mail.example")),
        IdentityWrite::PutSession(Box::new(session_record(3, 1))),
        IdentityWrite::PutApiKey(Box::new(api_key_record(4))),
        IdentityWrite::RecordLogin(UserId::from_u128(1), at(1)),
        IdentityWrite::Audit(audit_record(1_800_000_000_000, 5)),
        put_user(user_record(6, "ADA@mail.example")),
    ];
    let before = probe.tenant_record().await;
    probe.refused(writes, IdentityConflict::Email).await;
    assert_eq!(probe.tenant_record().await, before);
    assert_eq!(probe.user_by_id(2).await, None);
    assert_eq!(probe.user_by_id(1).await.map(|user| user.activity), Some(UserActivity::default()));
    assert_eq!(probe.store.session(probe.tenant, SessionId::from_u128(3)).await.expect("succeeds"), None);
    assert_eq!(probe.store.api_key(ApiKeyId::from_u128(4)).await.expect("succeeds"), None);
    let log =
        probe.store.audit_log(probe.tenant, &AuditQuery { before: None, limit: 9 }).await.expect("succeeds");
    assert_eq!(log, []);
    probe.put_user(user_record(2, "bob@mail.example")).await;
}

/// Of parallel writes of the same version, one happens.
pub(super) async fn identity_races_have_one_winner(probe: Probe) {
    probe.put_user(user_record(1, "ada@mail.example")).await;
    let won = Arc::new(AtomicUsize::new(0));
    let tasks = (0..8_u64).map(|number| {
        let (probe, won) = (probe.clone(), won.clone());
        Box::pin(async move {
            let user = UserRecord { version: 1, epoch: 100 + number, ..user_record(1, "ada@mail.example") };
            if probe.commit(vec![put_user(user)]).await == IdentityOutcome::Committed {
                won.fetch_add(1, Ordering::SeqCst);
            }
        }) as BoxFuture<'static, ()>
    });
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks.collect()).await;
    assert_eq!(won.load(Ordering::SeqCst), 1);
    assert_eq!(probe.user_by_id(1).await.map(|user| user.version), Some(2));
}

/// Sign-ins and activity add up from every thread, touch no version, and never go back.
pub(super) async fn identity_activity_never_conflicts(probe: Probe) {
    probe.put_user(user_record(1, "ada@mail.example")).await;
    let user = UserId::from_u128(1);
    let tasks = (0..8_i64).map(|number| {
        let probe = probe.clone();
        Box::pin(async move {
            probe.put(vec![IdentityWrite::RecordLogin(user, at(number))]).await;
        }) as BoxFuture<'static, ()>
    });
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks.collect()).await;
    let found = probe.user_by_id(1).await.expect("the user exists");
    assert_eq!(found.version, 1);
    assert_eq!(
        found.activity,
        UserActivity { last_login_at: Some(at(7)), last_active_at: Some(at(7)), login_count: 8 }
    );
    probe.put(vec![IdentityWrite::RecordActivity(user, at(20))]).await;
    probe
        .put(vec![IdentityWrite::RecordActivity(user, at(19)), IdentityWrite::RecordLogin(user, at(3))])
        .await;
    let changed = UserRecord { activity: UserActivity::default(), ..found };
    probe.put_user(changed).await;
    let activity = probe.user_by_id(1).await.expect("the user exists").activity;
    assert_eq!(
        activity,
        UserActivity { last_login_at: Some(at(7)), last_active_at: Some(at(20)), login_count: 9 }
    );
}

/// The use of a key is noted beside its record and never goes back.
pub(super) async fn identity_key_use_never_conflicts(probe: Probe) {
    let key = api_key_record(1);
    probe.put(vec![IdentityWrite::PutApiKey(Box::new(key.clone()))]).await;
    for (noted, expected) in [(5, 5), (9, 9), (7, 9)] {
        probe.put(vec![IdentityWrite::RecordKeyUse(key.id, at(noted))]).await;
        let state = probe.store.api_key(key.id).await.expect("succeeds").expect("the key exists");
        assert_eq!((state.key.version, state.key.last_used_at), (1, Some(at(expected))));
    }
    probe.put(vec![IdentityWrite::PutApiKey(Box::new(ApiKeyRecord { version: 1, ..key }))]).await;
    let keys = probe.store.api_keys(probe.tenant).await.expect("succeeds");
    assert_eq!(keys[0].last_used_at, Some(at(9)));
}

/// The secrets of the deployment are written by one node at a time.
pub(super) async fn identity_keyring_is_guarded(probe: Probe) {
    assert_eq!(probe.store.keyring().await.expect("succeeds"), None);
    let key = SigningKey { kid: "one".into(), secret: SecretBytes::new([1; 32]), verify_until: Some(at(1)) };
    let keyring = Keyring { keys: vec![key], pepper: SecretBytes::new([2; 32]) };
    let record = |version| KeyringRecord { version, keyring: keyring.clone(), setups: Vec::new() };
    let put = |version| {
        let (store, record) = (probe.store.clone(), record(version));
        async move { store.put_keyring(&record).await.expect("succeeds") }
    };
    assert_eq!(put(1).await, IdentityOutcome::Conflict(IdentityConflict::Version));
    assert_eq!(put(0).await, IdentityOutcome::Committed);
    assert_eq!(put(0).await, IdentityOutcome::Conflict(IdentityConflict::Version));
    assert_eq!(probe.store.keyring().await.expect("succeeds"), Some(record(1)));
    assert_eq!(put(1).await, IdentityOutcome::Committed);
    assert_eq!(probe.store.keyring().await.expect("succeeds"), Some(record(2)));
}

/// A session is read with what decides about it, also when it ended; an unknown or foreign one is absent.
pub(super) async fn identity_session_comes_with_user_and_tenant(probe: Probe) {
    let session = session_record(2, 1);
    let ended = SessionRecord { ended: Some(SessionEnd::TokenReused), previous: None, ..session.clone() };
    probe.put_user(user_record(1, "ada@mail.example")).await;
    probe.put(vec![IdentityWrite::PutSession(Box::new(session.clone()))]).await;
    probe.put(vec![IdentityWrite::PutSession(Box::new(SessionRecord { version: 1, ..ended.clone() }))]).await;
    probe.put(vec![IdentityWrite::RecordLogin(session.user, at(3))]).await;
    let state = probe.store.session(probe.tenant, session.id).await.expect("succeeds").expect("it is there");
    assert_eq!(state.session, SessionRecord { version: 2, ..ended });
    assert_eq!(state.user.activity.login_count, 1);
    assert_eq!(state.tenant.id, probe.tenant);
    assert_eq!(probe.store.session(probe.tenant, SessionId::from_u128(99)).await.expect("succeeds"), None);
    let stranger = probe.stranger().await;
    assert_eq!(stranger.store.session(stranger.tenant, session.id).await.expect("succeeds"), None);
}

/// Deleted sessions are gone, one by one, and deleting nothing is fine.
pub(super) async fn identity_sessions_can_be_deleted(probe: Probe) {
    probe.put_user(user_record(1, "ada@mail.example")).await;
    probe.put_user(user_record(2, "bob@mail.example")).await;
    for (number, user) in [(10, 1), (11, 1), (12, 2)] {
        probe.put(vec![IdentityWrite::PutSession(Box::new(session_record(number, user)))]).await;
    }
    let stranger = probe.stranger().await;
    stranger.put(vec![IdentityWrite::DeleteSession(SessionId::from_u128(11))]).await;
    probe.put(vec![IdentityWrite::DeleteSession(SessionId::from_u128(10))]).await;
    probe.put(vec![IdentityWrite::DeleteSession(SessionId::from_u128(10))]).await;
    let left = |user| {
        let (store, tenant) = (probe.store.clone(), probe.tenant);
        async move {
            let sessions = store.sessions_of(tenant, UserId::from_u128(user)).await.expect("succeeds");
            sessions.iter().map(|session| session.id.as_u128()).collect::<Vec<_>>()
        }
    };
    assert_eq!((left(1).await, left(2).await, left(3).await), (vec![11], vec![12], vec![]));
}

/// A user goes with its names and what it did, at the version that was read, and nobody else does.
pub(super) async fn identity_users_can_be_deleted(probe: Probe) {
    let stranger = probe.stranger().await;
    for probe in [&probe, &stranger] {
        probe.put_user(user_record(1, "ada@mail.example")).await;
        probe.put_user(user_record(2, "bob@mail.example")).await;
    }
    let user = UserId::from_u128(1);
    probe.put(vec![IdentityWrite::RecordLogin(user, at(3))]).await;
    probe.put(vec![IdentityWrite::PutSession(Box::new(session_record(10, 1)))]).await;
    let delete = |version| IdentityWrite::DeleteUser(user, version);
    for version in [0, 2] {
        probe.refused(vec![delete(version)], IdentityConflict::Version).await;
    }
    assert!(probe.user_by_id(1).await.is_some());
    probe.put(vec![IdentityWrite::DeleteSession(SessionId::from_u128(10)), delete(1)]).await;
    probe.refused(vec![delete(1)], IdentityConflict::Version).await;
    assert_eq!(probe.user_by_id(1).await, None);
    for lookup in [UserLookup::Email("ada@mail.example".into()), UserLookup::Username("user.1".into())] {
        assert_eq!(probe.user(lookup.clone()).await, None, "{lookup:?}");
        assert!(stranger.user(lookup).await.is_some(), "another tenant's user stays");
    }
    assert_eq!(probe.store.session(probe.tenant, SessionId::from_u128(10)).await.expect("succeeds"), None);
    assert!(probe.user_by_id(2).await.is_some());
    // The names are free, and a user of the same id begins anew.
    probe.put_user(user_record(1, "ada@mail.example")).await;
    assert_eq!(probe.user_by_id(1).await.map(|user| user.activity.login_count), Some(0));
}

/// What was committed is there after the store was closed and opened again.
pub(super) async fn identity_survives_reopening(probe: Probe) {
    let tenant = probe.tenant_record().await;
    probe.put_user(user_record(1, "ada@mail.example")).await;
    probe.put(vec![IdentityWrite::RecordLogin(UserId::from_u128(1), at(3))]).await;
    let user = probe.user_by_id(1).await;
    let Probe { harness, store, tenant: id } = probe;
    let Some(store) = harness.reopen(store).await else { return };
    let probe = Probe { harness, store, tenant: id };
    assert_eq!(probe.tenant_record().await, tenant);
    assert_eq!(probe.user_by_id(1).await, user);
}
