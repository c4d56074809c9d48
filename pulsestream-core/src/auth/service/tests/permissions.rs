//! Who may do what: the whole matrix, spelled out a second time.

use super::*;
use crate::auth::Scope;
use crate::id::{ApiKeyId, UserId};
use crate::ports::auth::Subject;
use crate::ports::identity::UserQuery;

/// Action, then viewer, admin, owner, then each scope in the order of `Scope::ALL`: `x` is allowed.
const MATRIX: &str = "
    events.write     -xx  x---x
    events.read      xxx  -x--x
    events.manage    -xx  ----x
    alerts.read      xxx  --x-x
    alerts.handle    -xx  ---xx
    rules.write      -xx  ---xx
    dashboard.read   xxx  -x--x
    dashboard.write  -xx  ----x
    tenant.read      xxx  -x--x
    tenant.write     -xx  ----x
    tenant.delete    --x  -----
    usage.read       xxx  -x--x
    api_keys.read    -xx  ----x
    api_keys.write   -xx  ----x
    users.read       -xx  ----x
    users.write      -xx  -----
    audit.read       -xx  ----x
    profile.read     xxx  -----
    profile.write    xxx  -----
";

fn principal(role: Option<Role>, scopes: Option<Scopes>) -> Principal {
    Principal {
        tenant: TenantId::from_u128(1),
        subject: match role {
            Some(_) => Subject::User(UserId::from_u128(2)),
            None => Subject::ApiKey(ApiKeyId::from_u128(3)),
        },
        role,
        scopes,
        session: None,
        expires_at: None,
    }
}

#[test]
fn the_matrix_is_the_one_that_was_agreed() {
    let rows: Vec<Vec<&str>> = MATRIX.trim().lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let actions: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(names, actions, "every action is in the matrix, and nothing else");
    for (row, action) in rows.iter().zip(Action::ALL) {
        let mut found = String::new();
        for role in Role::ALL {
            found.push(if principal(Some(role), None).allows(*action) { 'x' } else { '-' });
        }
        assert_eq!(found, row[1], "{action}");
        let mut found = String::new();
        for scope in Scope::ALL {
            found.push(if principal(None, Some(Scopes::of(*scope))).allows(*action) { 'x' } else { '-' });
        }
        assert_eq!(found, row[2], "{action}");
    }
}

#[test]
fn nothing_is_allowed_to_nobody_and_limits_add_up() {
    for action in Action::ALL {
        assert!(!principal(None, None).allows(*action), "{action}");
        assert!(!principal(None, Some(Scopes::NONE)).allows(*action), "{action}");
        assert!(!principal(Some(Role::Owner), Some(Scopes::NONE)).allows(*action), "{action}");
        let limited = principal(Some(Role::Viewer), Some(Scopes::ADMIN));
        assert!(!limited.allows(*action) || principal(Some(Role::Viewer), None).allows(*action), "{action}");
    }
    let error = principal(None, Some(Scopes::INGEST_ONLY)).require(Action::ReadEvents).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert!(error.context().contains(&("needs_scope", "events:read".to_owned())));
}

#[test]
fn scopes_have_wildcards_and_list_the_valid_names() {
    let alerts = Scopes::parse(["alerts:*"]).unwrap();
    assert_eq!(alerts, Scopes::of(Scope::AlertsRead).with(Scope::AlertsWrite));
    assert_eq!(Scopes::parse(["events:*", "events:read"]).unwrap().iter().count(), 2);
    for name in ["alert:*", "*", ":*", "", "events", "EVENTS:READ", "events:read ", "adm*", "events:re*"] {
        let error = Scopes::parse(["admin", name]).unwrap_err();
        assert_eq!(error.fields()[0].pointer, "/scopes/1", "{name}");
        assert!(error.message().contains("alerts:write"), "{error}");
    }
    let json = serde_json::to_string(&alerts).unwrap();
    assert_eq!(json, r#"["alerts:read","alerts:write"]"#);
    assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), alerts);
}

#[test]
fn roles_grant_up_to_themselves() {
    let granted: Vec<_> = Role::ALL
        .iter()
        .flat_map(|own| {
            Role::ALL.iter().filter(|other| own.may_grant(**other)).map(move |other| (*own, *other))
        })
        .collect();
    assert_eq!(
        granted,
        [
            (Role::Admin, Role::Viewer),
            (Role::Admin, Role::Admin),
            (Role::Owner, Role::Viewer),
            (Role::Owner, Role::Admin),
            (Role::Owner, Role::Owner)
        ]
    );
}

#[tokio::test]
async fn nobody_climbs() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (viewer, _, viewer_principal) = world.user(&shop, "vi", Role::Viewer).await;
    let (admin, _, admin_principal) = world.user(&shop, "ad", Role::Admin).await;
    let key = world.key_principal(&shop.registered.api_key).await.unwrap();
    let (service, origin) = (&world.service, &Origin::default());
    let owner = shop.registered.owner.id;
    for (actor, role) in [
        (&viewer_principal, Role::Viewer),
        (&viewer_principal, Role::Owner),
        (&admin_principal, Role::Owner),
        (&key, Role::Viewer),
    ] {
        let request = new_user("new@shop.example", role);
        let error = service.register_user(actor, &request, origin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{:?} {role}", actor.role);
    }
    for (actor, user, role) in [
        (&viewer_principal, viewer.id, Role::Owner),
        (&admin_principal, admin.id, Role::Owner),
        (&admin_principal, admin.id, Role::Viewer),
        (&admin_principal, viewer.id, Role::Owner),
        (&admin_principal, owner, Role::Viewer),
        (&shop.owner, owner, Role::Viewer),
        (&key, viewer.id, Role::Admin),
    ] {
        let error = service.change_role(actor, user, role, origin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{:?} {role}", actor.role);
    }
    for (actor, user) in [
        (&viewer_principal, admin.id),
        (&admin_principal, owner),
        (&admin_principal, admin.id),
        (&key, viewer.id),
    ] {
        let error = service.set_user_active(actor, user, false, origin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
    }
    for actor in [&viewer_principal, &admin_principal, &key] {
        assert_eq!(service.delete_tenant(actor, origin).await.unwrap_err().kind(), ErrorKind::Forbidden);
    }
    let query = UserQuery { limit: 10, ..UserQuery::default() };
    assert_eq!(
        service.list_users(&viewer_principal, &query, origin).await.unwrap_err().kind(),
        ErrorKind::Forbidden
    );
    assert_eq!(
        service.regenerate_api_key(&viewer_principal, origin).await.unwrap_err().kind(),
        ErrorKind::Forbidden
    );
    assert_eq!(service.profile(&key, origin).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(world.audit_actions(&shop.owner).await.contains(&AuditAction::AccessDenied));
}

#[tokio::test]
async fn denials_are_written_once_a_minute() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, _, viewer) = world.user(&shop, "vi", Role::Viewer).await;
    let denials = || async {
        let actions = world.audit_actions(&shop.owner).await;
        actions.into_iter().filter(|action| *action == AuditAction::AccessDenied).count()
    };
    for _ in 0..20 {
        assert!(world.service.require(&viewer, Action::WriteRules, &Origin::default()).await.is_err());
    }
    assert_eq!(denials().await, 1);
    assert!(world.service.require(&viewer, Action::WriteTenant, &Origin::default()).await.is_err());
    assert_eq!(denials().await, 2);
    world.clock.advance(seconds(60));
    assert!(world.service.require(&viewer, Action::WriteRules, &Origin::default()).await.is_err());
    assert_eq!(denials().await, 3);
}

#[tokio::test]
async fn a_changed_role_counts_with_the_old_token() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Admin).await;
    world.service.change_role(&shop.owner, profile.id, Role::Viewer, &Origin::default()).await.unwrap();
    assert_eq!(world.principal(&tokens).await.unwrap().role, Some(Role::Viewer));
    assert_eq!(world.refresh(&tokens).await.unwrap().role, Role::Viewer);
}

#[tokio::test]
async fn deactivation_is_at_once_and_reactivation_brings_no_session_back() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Admin).await;
    let (service, origin) = (&world.service, &Origin::default());
    assert!(!service.set_user_active(&shop.owner, profile.id, false, origin).await.unwrap().is_active);
    assert!(world.principal(&tokens).await.is_err());
    assert!(world.refresh(&tokens).await.is_err());
    service.set_user_active(&shop.owner, profile.id, true, origin).await.unwrap();
    assert!(world.principal(&tokens).await.is_err());
    assert!(world.refresh(&tokens).await.is_err());
    assert!(world.login("shop", &profile.email, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_user_deactivated_in_the_store_itself_is_out() {
    let world = World::with(AuthSettings::default(), true).await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Admin).await;
    let mut user = world.service.user_of(shop.owner.tenant, profile.id, "test").await.unwrap();
    user.is_active = false;
    world
        .service
        .commit("test", shop.owner.tenant, vec![IdentityWrite::PutUser(Box::new(user))])
        .await
        .unwrap();
    assert!(world.principal(&tokens).await.is_err());
    assert!(world.refresh(&tokens).await.is_err());
}

#[tokio::test]
async fn a_tenant_keeps_an_owner() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (second, _, second_owner) = world.user(&shop, "bo", Role::Owner).await;
    let (service, origin, first) = (&world.service, &Origin::default(), shop.registered.owner.id);
    service.set_user_active(&second_owner, first, false, origin).await.unwrap();
    let (_, _, third_owner) = {
        let request = new_user("cy@shop.example", Role::Owner);
        let profile = service.register_user(&second_owner, &request, origin).await.unwrap();
        let tokens = world.login("shop", &profile.email, PASSWORD).await.unwrap();
        let principal = world.principal(&tokens).await.unwrap();
        (profile, tokens, principal)
    };
    service.change_role(&third_owner, second.id, Role::Admin, origin).await.unwrap();
    // The last one is left alone by everybody, itself included.
    let last = third_owner.user().unwrap();
    assert!(service.change_role(&third_owner, last, Role::Admin, origin).await.is_err());
    let stale_owner = Principal { role: Some(Role::Owner), ..shop.owner.clone() };
    assert_eq!(
        service.change_role(&stale_owner, last, Role::Admin, origin).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        service.set_user_active(&stale_owner, last, false, origin).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_that_end_each_other_at_once_one_stays() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let here = Origin::default();
    let owners = [shop.registered.owner.id, world.user(&shop, "bo", Role::Owner).await.0.id];
    let principal = |id| Principal { subject: Subject::User(id), ..shop.owner.clone() };
    let active = async || {
        let query = UserQuery { limit: 100, ..UserQuery::default() };
        let users = world.service.list_users(&shop.owner, &query, &here).await.unwrap().users;
        users.into_iter().filter(|user| user.role == Role::Owner && user.is_active).collect::<Vec<_>>()
    };
    for round in 0..200 {
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let end = |actor: UserId, other: UserId| {
            let (service, actor, here, barrier) =
                (world.service.clone(), principal(actor), here.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait();
                if round % 2 == 0 {
                    service.set_user_active(&actor, other, false, &here).await.map(drop)
                } else {
                    service.change_role(&actor, other, Role::Admin, &here).await.map(drop)
                }
            })
        };
        let (left, right) = (end(owners[0], owners[1]), end(owners[1], owners[0]));
        let outcomes = [left.await.unwrap(), right.await.unwrap()];
        let left = active().await;
        assert_eq!(left.len(), 1, "round {round}: {outcomes:?}");
        // The other comes back for the next round.
        let other = owners.into_iter().find(|id| *id != left[0].id).unwrap();
        let actor = principal(left[0].id);
        world.service.set_user_active(&actor, other, true, &here).await.unwrap();
        world.service.change_role(&actor, other, Role::Owner, &here).await.unwrap();
    }
}

#[tokio::test]
async fn another_tenants_ids_are_those_of_nobody() {
    let world = World::new().await;
    let (shop, mall) = (world.shop("shop").await, world.shop("mall").await);
    let (foreign, ..) = world.user(&mall, "ada", Role::Viewer).await;
    let foreign_key = world.key(&mall.owner, Scopes::INGEST_ONLY).await.info.id;
    let (service, origin) = (&world.service, &Origin::default());
    let mut answers = Vec::new();
    for user in [foreign.id, mall.registered.owner.id, UserId::from_u128(77)] {
        answers
            .push(service.set_user_active(&shop.owner, user, false, origin).await.unwrap_err().to_string());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let mut answers = Vec::new();
    for key in [foreign_key, ApiKeyId::from_u128(77)] {
        answers.push(service.revoke_api_key(&shop.owner, key, origin).await.unwrap_err().to_string());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(service.list_api_keys(&shop.owner, origin).await.unwrap().len(), 1);
    let query = UserQuery { limit: 10, ..UserQuery::default() };
    assert_eq!(service.list_users(&shop.owner, &query, origin).await.unwrap().total, 1);
}

#[tokio::test]
async fn a_deleted_user_is_gone_at_once_and_its_names_are_free() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let here = Origin::default();
    let (ada, tokens, principal) = world.user(&shop, "ada", Role::Admin).await;
    let (boss, ..) = world.user(&shop, "boss", Role::Owner).await;
    let delete = async |actor: &Principal, user| world.service.delete_user(actor, user, &here).await;
    let owner = shop.owner.user().unwrap();
    for (actor, user, expected) in [
        (&principal, boss.id, ErrorKind::Forbidden),
        (&principal, ada.id, ErrorKind::Forbidden),
        (&shop.owner, owner, ErrorKind::Forbidden),
        (&shop.owner, UserId::from_u128(7), ErrorKind::NotFound),
    ] {
        assert_eq!(delete(actor, user).await.unwrap_err().kind(), expected);
    }
    let mall = world.shop("mall").await;
    assert_eq!(delete(&mall.owner, ada.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    delete(&shop.owner, ada.id).await.unwrap();
    assert_eq!(delete(&shop.owner, ada.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.principal(&tokens).await.is_err() && world.refresh(&tokens).await.is_err());
    assert!(world.login("shop", &ada.email, PASSWORD).await.is_err());
    assert!(!world.dump().await.contains(&ada.email), "nothing names it but by its id");
    let (again, ..) = world.user(&shop, "ada", Role::Viewer).await;
    assert_eq!(again.email, ada.email);
    assert_ne!(again.id, ada.id);
    delete(&shop.owner, boss.id).await.unwrap();
}
