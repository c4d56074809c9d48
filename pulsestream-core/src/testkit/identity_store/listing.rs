//! Lists: in order, by page, searched literally, and of the own tenant only.

use super::probe::{Probe, api_key_record, audit_record, put_user, session_record, user_record};
use crate::id::UserId;
use crate::ports::identity::{AuditQuery, IdentityWrite, UserLookup, UserPage, UserQuery, UserRecord};

async fn find(probe: &Probe, search: Option<&str>, skip: usize, limit: usize) -> UserPage {
    let query = UserQuery { search: search.map(str::to_owned), skip, limit, ..UserQuery::default() };
    probe.store.find_users(probe.tenant, &query).await.expect("find_users succeeds")
}

fn numbers(page: &UserPage) -> Vec<u128> {
    page.users.iter().map(|user| user.id.as_u128()).collect()
}

/// One answer per look-up, in the order asked, also for the same one twice and for nobody.
pub(super) async fn identity_lookups_answer_in_order(probe: Probe) {
    probe
        .put(vec![put_user(user_record(1, "ada@mail.example")), put_user(user_record(2, "bob@mail.example"))])
        .await;
    let lookups = [
        UserLookup::Email("bob@mail.example".into()),
        UserLookup::Id(UserId::from_u128(9)),
        UserLookup::Username("user.1".into()),
        UserLookup::Email("nobody@mail.example".into()),
        UserLookup::Id(UserId::from_u128(2)),
        UserLookup::Username(String::new()),
    ];
    let found = probe.store.users(probe.tenant, &lookups).await.expect("users succeeds");
    let found: Vec<_> = found.iter().map(|user| user.as_ref().map(|user| user.id.as_u128())).collect();
    assert_eq!(found, [Some(2), None, Some(1), None, Some(2), None]);
    assert_eq!(probe.store.users(probe.tenant, &[]).await.expect("users succeeds"), []);
}

/// Users come by ascending id, from the start or after one of them, and the total counts those left out.
pub(super) async fn identity_users_are_paged(probe: Probe) {
    for number in [5, 3, 1, 4, 2] {
        probe.put_user(user_record(number, &format!("user{number}@mail.example"))).await;
    }
    for (skip, limit, expected) in [
        (0, 9, vec![1, 2, 3, 4, 5]),
        (1, 2, vec![2, 3]),
        (4, 2, vec![5]),
        (5, 2, vec![]),
        (0, 0, vec![]),
        (usize::MAX, 1, vec![]),
    ] {
        let page = find(&probe, None, skip, limit).await;
        assert_eq!((numbers(&page), page.total), (expected, 5), "skip {skip} limit {limit}");
    }
    assert_eq!(find(&probe, None, 0, usize::MAX).await.users.len(), 5);
    for (after, skip, limit, expected) in
        [(2, 0, 2, vec![3, 4]), (0, 0, 9, vec![1, 2, 3, 4, 5]), (1, 2, 9, vec![4, 5]), (5, 0, 9, vec![])]
    {
        let query = UserQuery { search: None, after: Some(UserId::from_u128(after)), skip, limit };
        let page = probe.store.find_users(probe.tenant, &query).await.expect("find_users succeeds");
        assert_eq!((numbers(&page), page.total), (expected, 5), "after {after} skip {skip} limit {limit}");
    }
}

/// A search is for a part of address, user name or full name, in any case; no character of it is special.
pub(super) async fn identity_users_are_searched_literally(probe: Probe) {
    let named = |number, email: &str, full_name: &str| UserRecord {
        full_name: full_name.into(),
        username: (number == 3).then(|| "under_score".into()),
        ..user_record(number, email)
    };
    probe
        .put(vec![
            put_user(named(1, "ada@mail.example", "Ada 100% Lovelace")),
            put_user(named(2, "bob@other.example", "Bob \\ O'Neil")),
            put_user(named(3, "cy@mail.example", "Underscore")),
        ])
        .await;
    for (search, expected) in [
        ("MAIL.example", vec![1, 3]),
        ("lovelace", vec![1]),
        ("100%", vec![1]),
        ("%", vec![1]),
        ("_", vec![3]),
        ("UNDER_", vec![3]),
        ("o'n", vec![2]),
        ("\\", vec![2]),
        ("a", vec![1, 2, 3]),
        ("zz", vec![]),
    ] {
        let page = find(&probe, Some(search), 0, 9).await;
        assert_eq!((numbers(&page), page.total), (expected.clone(), expected.len()), "{search}");
    }
}

/// Tenants come by ascending id, page after page, each once.
pub(super) async fn identity_tenants_are_paged(probe: Probe) {
    let mut expected = vec![probe.tenant];
    for _ in 0..4 {
        expected.push(probe.stranger().await.tenant);
    }
    expected.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = probe.store.tenants(after, 2).await.expect("tenants succeeds");
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        found.extend(page.iter().map(|tenant| tenant.id));
    }
    assert_eq!(found, expected);
}

/// The audit log comes newest first, page after page, each entry once.
pub(super) async fn identity_audit_is_newest_first(probe: Probe) {
    let entries =
        [(1_000, 1), (1_000, 2), (2_000, 1), (3_000, 1)].map(|(millis, number)| audit_record(millis, number));
    probe.put(entries.iter().rev().cloned().map(IdentityWrite::Audit).collect()).await;
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = probe
            .store
            .audit_log(probe.tenant, &AuditQuery { before, limit: 3 })
            .await
            .expect("audit_log succeeds");
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        found.extend(page);
    }
    assert!(found.iter().eq(entries.iter().rev()), "{found:?}");
}

/// No list and no look-up shows another tenant's records.
pub(super) async fn identity_foreign_user_is_absent(probe: Probe) {
    let stranger = probe.stranger().await;
    stranger
        .put(vec![
            put_user(user_record(1, "ada@mail.example")),
            IdentityWrite::PutSession(Box::new(session_record(2, 1))),
            IdentityWrite::PutApiKey(Box::new(api_key_record(3))),
            IdentityWrite::Audit(audit_record(1_000, 4)),
        ])
        .await;
    let lookups = [
        UserLookup::Id(UserId::from_u128(1)),
        UserLookup::Email("ada@mail.example".into()),
        UserLookup::Username("user.1".into()),
    ];
    assert_eq!(probe.store.users(probe.tenant, &lookups).await.expect("succeeds"), [None, None, None]);
    assert_eq!(find(&probe, None, 0, 9).await, UserPage::default());
    assert_eq!(find(&probe, Some("ada"), 0, 9).await, UserPage::default());
    assert_eq!(probe.store.sessions_of(probe.tenant, UserId::from_u128(1)).await.expect("succeeds"), []);
    assert_eq!(probe.store.api_keys(probe.tenant).await.expect("succeeds"), []);
    let query = AuditQuery { before: None, limit: 9 };
    assert_eq!(probe.store.audit_log(probe.tenant, &query).await.expect("succeeds"), []);
}
