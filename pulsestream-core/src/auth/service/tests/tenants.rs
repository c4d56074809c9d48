//! Tenants, users and their profiles.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::auth::{EnsureAdmin, EnsuredAdmin, ProfileUpdate, TenantUpdate};
use crate::event::JsonObject;
use crate::ports::identity::{TenantStatus, UserQuery};

#[tokio::test]
async fn a_registration_is_checked_field_by_field() {
    let world = World::new().await;
    let request = RegisterTenant {
        name: "x".into(),
        slug: "Not a slug".into(),
        contact_email: "nobody".into(),
        billing_email: Some("@".into()),
        subscription_tier: None,
        timezone: Some("Mars/Olympus".into()),
    };
    let error = world.service.register_tenant(&request, &Origin::default()).await.unwrap_err();
    let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/name", "/slug", "/contact_email", "/billing_email", "/timezone"]);
}

#[tokio::test]
async fn a_slug_is_taken_in_any_case_and_names_are_per_tenant() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let again = world.service.register_tenant(&registration("SHOP"), &Origin::default()).await.unwrap_err();
    assert_eq!((again.kind(), again.message()), (ErrorKind::Conflict, "the slug is taken"));
    let mall = world.shop("mall").await;
    let mut request = new_user("ada@mail.example", Role::Viewer);
    request.username = Some("ada.l".into());
    for shop in [&shop, &mall] {
        world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap();
    }
    request.username = None;
    request.email = "ADA@mail.example".into();
    let error = world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "the e-mail address is taken"));
    request.email = "other@mail.example".into();
    request.username = Some("ADA.L".into());
    let error = world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "the user name is taken"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_parallel_registrations_of_a_slug_one_wins() {
    let world = Arc::new(World::new().await);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                world.service.register_tenant(&registration("shop"), &Origin::default()).await.is_ok()
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn registration_can_be_closed_and_is_delayed_per_address() {
    let closed =
        World::with(AuthSettings { open_registration: false, ..AuthSettings::default() }, false).await;
    let refused =
        closed.service.register_tenant(&registration("shop"), &Origin::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    let world = World::new().await;
    let origin = Origin { address: Some([198, 51, 100, 7].into()), user_agent: None };
    let mut made = 0;
    for number in 0..40 {
        made += usize::from(
            world.service.register_tenant(&registration(&format!("shop{number}")), &origin).await.is_ok(),
        );
    }
    assert_eq!(made, 30);
}

#[tokio::test]
async fn users_are_listed_by_page_and_searched() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    for number in 0..7 {
        let request = new_user(&format!("user{number}@shop.example"), Role::Viewer);
        world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap();
    }
    let list = |skip, limit, search: Option<&str>| {
        let query = UserQuery { search: search.map(str::to_owned), skip, limit, ..UserQuery::default() };
        let (service, owner) = (world.service.clone(), shop.owner.clone());
        async move { service.list_users(&owner, &query, &Origin::default()).await }
    };
    let page = list(3, 3, None).await.unwrap();
    assert_eq!((page.total, page.page, page.size, page.pages), (8, 2, 3, 3));
    assert_eq!(page.users[0].email, "user2@shop.example");
    assert_eq!(list(6, 3, None).await.unwrap().users.len(), 2);
    let found = list(0, 10, Some(" USER3@ ")).await.unwrap();
    assert_eq!((found.total, found.users[0].email.as_str()), (1, "user3@shop.example"));
    assert_eq!(list(0, 10, Some("nobody")).await.unwrap().pages, 0);
    assert_eq!(list(0, 10, Some("")).await.unwrap().total, 8);
    assert!(list(0, 0, None).await.is_err());
    assert!(list(0, 1_001, None).await.is_err());
}

#[tokio::test]
async fn users_are_limited() {
    let world = World::with(AuthSettings { users_per_tenant: 2, ..AuthSettings::default() }, false).await;
    let shop = world.shop("shop").await;
    world.user(&shop, "ada", Role::Viewer).await;
    let request = new_user("bob@shop.example", Role::Viewer);
    let error = world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn profiles_change_only_where_asked() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (before, _, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let update = ProfileUpdate {
        full_name: Some("  Ada Lovelace ".into()),
        preferences: Some(JsonObject::parse(r#"{"theme":"dark"}"#).unwrap()),
        ..ProfileUpdate::default()
    };
    world.clock.advance(seconds(5));
    let after = world.service.update_profile(&principal, &update, &Origin::default()).await.unwrap();
    assert_eq!(
        (after.full_name.as_str(), after.preferences.as_str()),
        ("Ada Lovelace", r#"{"theme":"dark"}"#)
    );
    assert_eq!(
        (after.id, &after.email, after.role, after.created_at),
        (before.id, &before.email, before.role, before.created_at)
    );
    assert_eq!(after.updated_at, before.updated_at.plus(seconds(5)));
    assert_eq!(
        world.service.profile(&principal, &Origin::default()).await.unwrap().full_name,
        "Ada Lovelace"
    );
    let taken = ProfileUpdate { username: Some("ab".into()), ..ProfileUpdate::default() };
    assert_eq!(
        world.service.update_profile(&principal, &taken, &Origin::default()).await.unwrap_err().fields()[0]
            .pointer,
        "/username"
    );
    let big = format!(r#"{{"x":"{}"}}"#, "y".repeat(16_384));
    let big =
        ProfileUpdate { preferences: Some(JsonObject::parse(&big).unwrap()), ..ProfileUpdate::default() };
    assert!(world.service.update_profile(&principal, &big, &Origin::default()).await.is_err());
}

#[tokio::test]
async fn a_user_name_given_up_can_be_taken() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, _, ada) = world.user(&shop, "ada", Role::Viewer).await;
    let (_, _, bob) = world.user(&shop, "bob", Role::Viewer).await;
    let named = |name: &str| ProfileUpdate { username: Some(name.to_owned()), ..ProfileUpdate::default() };
    let origin = &Origin::default();
    world.service.update_profile(&ada, &named("first"), origin).await.unwrap();
    assert_eq!(
        world.service.update_profile(&bob, &named("First"), origin).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    world.service.update_profile(&ada, &named("second"), origin).await.unwrap();
    world.service.update_profile(&bob, &named("First"), origin).await.unwrap();
}

#[tokio::test]
async fn the_tenant_profile_changes_only_where_asked() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let update = TenantUpdate { timezone: Some("Europe/Berlin".into()), ..TenantUpdate::default() };
    let profile = world.service.update_tenant(&shop.owner, &update, &Origin::default()).await.unwrap();
    assert_eq!((profile.timezone.as_str(), profile.slug.as_str()), ("Europe/Berlin", "shop"));
    assert_eq!((profile.rate_limit_per_minute, profile.subscription_tier.as_str()), (100, "free"));
    let bad = TenantUpdate { contact_email: Some("x".into()), ..TenantUpdate::default() };
    assert!(world.service.update_tenant(&shop.owner, &bad, &Origin::default()).await.is_err());
    let limits = world.service.set_tenant_limits(profile.id, 500, 9, TenantStatus::Active).await.unwrap();
    assert_eq!((limits.rate_limit_per_minute, limits.max_events_per_month), (500, 9));
}

#[tokio::test]
async fn a_suspended_tenant_opens_nothing_until_it_is_back() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let key = &shop.registered.api_key;
    assert!(world.key_principal(key).await.is_ok());
    let tenant = shop.owner.tenant;
    world.service.set_tenant_limits(tenant, 100, 100, TenantStatus::Suspended).await.unwrap();
    assert!(world.principal(&tokens).await.is_err());
    assert!(world.refresh(&tokens).await.is_err());
    assert!(world.key_principal(key).await.is_err());
    assert!(world.login("shop", &profile.email, PASSWORD).await.is_err());
    world.service.set_tenant_limits(tenant, 100, 100, TenantStatus::Active).await.unwrap();
    assert!(world.principal(&tokens).await.is_ok());
    assert!(world.key_principal(key).await.is_ok());
    assert!(world.service.set_tenant_limits(tenant, 1, 1, TenantStatus::Deleting).await.is_err());
}

/// Fails until it is told not to.
#[derive(Debug, Default)]
struct Elsewhere {
    works: AtomicBool,
    deleted: Mutex<Vec<TenantId>>,
}

#[async_trait]
impl TenantDeletionHook for Elsewhere {
    async fn delete_tenant_data(&self, tenant: TenantId) -> Result<()> {
        if !self.works.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "not now"));
        }
        self.deleted.lock().unwrap().push(tenant);
        Ok(())
    }
}

#[tokio::test]
async fn a_deleted_tenant_is_gone_everywhere_also_after_a_failure_in_the_middle() {
    let mut world = World::new().await;
    let elsewhere = Arc::new(Elsewhere::default());
    world.service = AuthService::builder(
        world.env.clone(),
        Arc::new(KeyValueIdentityStore::new(world.key_value.clone(), false)),
    )
    .with_deletion_hook(elsewhere.clone())
    .with_cheap_hashing()
    .open()
    .await
    .unwrap();
    let (shop, mall) = (world.shop("shop").await, world.shop("mall").await);
    let (_, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let key = world.key(&shop.owner, Scopes::ADMIN).await;
    let failed = world.service.delete_tenant(&shop.owner, &Origin::default()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(world.principal(&tokens).await.is_err(), "nothing opens while it is half deleted");
    assert!(world.key_principal(&key.key).await.is_err());
    assert!(world.service.register_tenant(&registration("shop"), &Origin::default()).await.is_err());
    elsewhere.works.store(true, Ordering::SeqCst);
    assert_eq!(world.service.resume_deletions().await.unwrap(), 1);
    assert_eq!(world.service.resume_deletions().await.unwrap(), 0);
    assert_eq!(*elsewhere.deleted.lock().unwrap(), [shop.owner.tenant]);
    let dump = world.dump().await;
    assert!(!dump.contains("ada@shop.example") && !dump.contains(&shop.owner.tenant.to_string()));
    assert!(dump.contains(&mall.owner.tenant.to_string()));
    assert!(world.key_principal(&key.key).await.is_err());
    world.shop("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_administrator_is_made_once_whoever_starts_first() {
    let world = Arc::new(World::new().await);
    let request = EnsureAdmin {
        tenant_name: "Main".into(),
        tenant_slug: "main".into(),
        email: "root@localhost".into(),
        full_name: "Root".into(),
        password: Some(PASSWORD.into()),
    };
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (world, request) = (world.clone(), request.clone());
            tokio::spawn(async move { world.service.ensure_admin(&request).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        created += usize::from(matches!(task.await.unwrap(), EnsuredAdmin::Created { .. }));
    }
    assert_eq!(created, 1);
    let tokens = world.login("main", "root@localhost", PASSWORD).await.unwrap();
    assert_eq!(tokens.role, Role::Owner);
    let other = EnsureAdmin { password: Some(OTHER_PASSWORD.into()), ..request.clone() };
    assert!(matches!(world.service.ensure_admin(&other).await.unwrap(), EnsuredAdmin::Exists { .. }));
    assert!(world.login("main", "root@localhost", PASSWORD).await.is_ok(), "the password stays");
    let second = EnsureAdmin { email: "second@localhost".into(), password: None, ..request.clone() };
    let EnsuredAdmin::Created { temporary_password: Some(made_up), api_key: None, .. } =
        world.service.ensure_admin(&second).await.unwrap()
    else {
        panic!("a second owner of the same tenant")
    };
    assert!(world.login("main", "second@localhost", made_up.expose()).await.is_ok());
    let weak = EnsureAdmin { email: "third@localhost".into(), password: Some("password1".into()), ..request };
    assert_eq!(world.service.ensure_admin(&weak).await.unwrap_err().fields()[0].code, "common");
}
