//! Names: slugs are unique, addresses and user names are unique in a tenant, whatever their case.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::probe::{Probe, api_key_record, put_user, tenant_record, user_record};
use crate::ports::identity::{
    ApiKeyRecord, IdentityConflict, IdentityOutcome, IdentityWrite, TenantRecord, UserLookup, UserRecord,
};
use crate::testkit::run::{BoxFuture, concurrently};

/// A name that somebody has is refused, in any case and with spaces around it.
pub(super) async fn identity_names_are_unique(probe: Probe) {
    probe.put_user(user_record(1, "Ada@Mail.example")).await;
    let slug = probe.tenant_record().await.slug.to_uppercase();
    let other = probe.harness.tenant();
    let twin = IdentityWrite::PutTenant(Box::new(TenantRecord { slug, ..tenant_record(other) }));
    let outcome = probe.store.commit(other, vec![twin]).await.expect("succeeds");
    assert_eq!(outcome, IdentityOutcome::Conflict(IdentityConflict::Slug));
    assert_eq!(probe.store.tenant(other).await.expect("succeeds"), None);
    for email in ["ada@mail.example", "ADA@MAIL.EXAMPLE", " ada@mail.example "] {
        probe.refused(vec![put_user(user_record(2, email))], IdentityConflict::Email).await;
        assert!(probe.user(UserLookup::Email(email.to_owned())).await.is_some(), "{email}");
    }
    let same_name = UserRecord { username: Some("USER.1".into()), ..user_record(2, "bob@mail.example") };
    probe.refused(vec![put_user(same_name)], IdentityConflict::Username).await;
    let nameless = |number, email| UserRecord { username: None, ..user_record(number, email) };
    probe.put(vec![put_user(nameless(3, "c@mail.example")), put_user(nameless(4, "d@mail.example"))]).await;
    let twins = vec![put_user(user_record(5, "e@mail.example")), put_user(user_record(6, "E@mail.example"))];
    probe.refused(twins, IdentityConflict::Email).await;
    // Writing oneself again, in another spelling, is no conflict.
    let again =
        UserRecord { version: 1, username: Some("User.1".into()), ..user_record(1, "ADA@mail.example") };
    probe.put_user(again).await;
    assert_eq!(
        probe.user(UserLookup::Username(" user.1".into())).await.map(|user| user.email),
        Some("ADA@mail.example".into())
    );
}

/// Of parallel takers of one name, one gets it.
pub(super) async fn identity_names_race(probe: Probe) {
    let won = Arc::new(AtomicUsize::new(0));
    let tasks = (1..=8_u128).map(|number| {
        let (probe, won) = (probe.clone(), won.clone());
        Box::pin(async move {
            match probe.commit(vec![put_user(user_record(number, "ada@mail.example"))]).await {
                IdentityOutcome::Committed => drop(won.fetch_add(1, Ordering::SeqCst)),
                outcome => assert_eq!(outcome, IdentityOutcome::Conflict(IdentityConflict::Email)),
            }
        }) as BoxFuture<'static, ()>
    });
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks.collect()).await;
    assert_eq!(won.load(Ordering::SeqCst), 1);
}

/// A name that was given up is free, also within the same commit.
pub(super) async fn identity_names_given_up_can_be_taken(probe: Probe) {
    probe.put_user(user_record(1, "ada@mail.example")).await;
    let renamed = UserRecord { version: 1, username: None, ..user_record(1, "lovelace@mail.example") };
    let successor = UserRecord { username: Some("user.1".into()), ..user_record(2, "ada@mail.example") };
    probe.put(vec![put_user(renamed), put_user(successor)]).await;
    let found = probe.user(UserLookup::Email("ada@mail.example".into())).await;
    assert_eq!(found.map(|user| user.id.as_u128()), Some(2));
    let found = probe.user(UserLookup::Username("user.1".into())).await;
    assert_eq!(found.map(|user| user.id.as_u128()), Some(2));
    let record = probe.tenant_record().await;
    let old_slug = record.slug.clone();
    probe.put_tenant(TenantRecord { slug: format!("new-{old_slug}"), ..record }).await;
    assert_eq!(probe.store.tenant_by_slug(&old_slug).await.expect("succeeds"), None);
    let stranger = probe.stranger().await;
    let record = stranger.tenant_record().await;
    stranger.put_tenant(TenantRecord { slug: old_slug.clone(), ..record }).await;
    let found = probe.store.tenant_by_slug(&old_slug).await.expect("succeeds");
    assert_eq!(found.map(|tenant| tenant.id), Some(stranger.tenant));
}

/// Two tenants may have users of the same id, address and name.
pub(super) async fn identity_names_are_per_tenant(probe: Probe) {
    let stranger = probe.stranger().await;
    for (tenant, name) in [(&probe, "mine"), (&stranger, "theirs")] {
        tenant.put_user(UserRecord { full_name: name.into(), ..user_record(1, "ada@mail.example") }).await;
    }
    for lookup in [
        UserLookup::Id(user_record(1, "").id),
        UserLookup::Email("ada@mail.example".into()),
        UserLookup::Username("user.1".into()),
    ] {
        assert_eq!(probe.user(lookup.clone()).await.map(|user| user.full_name), Some("mine".into()));
        assert_eq!(stranger.user(lookup).await.map(|user| user.full_name), Some("theirs".into()));
    }
}

/// A key id belongs to one tenant, whichever asks first, and its record cannot be taken over.
pub(super) async fn identity_api_key_ids_are_unique(probe: Probe) {
    let stranger = probe.stranger().await;
    let key = api_key_record(1);
    probe.put(vec![IdentityWrite::PutApiKey(Box::new(key.clone()))]).await;
    for version in [0, 1] {
        let taken = ApiKeyRecord { version, ..key.clone() };
        stranger.refused(vec![IdentityWrite::PutApiKey(Box::new(taken))], IdentityConflict::Version).await;
    }
    let state = probe.store.api_key(key.id).await.expect("succeeds").expect("it is there");
    assert_eq!(state.tenant.id, probe.tenant);
    assert_eq!(stranger.store.api_keys(stranger.tenant).await.expect("succeeds"), []);
}
