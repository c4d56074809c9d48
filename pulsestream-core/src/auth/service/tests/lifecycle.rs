//! The audit log and housekeeping.

use super::passwords::{change, confirm, reset_token};
use super::*;
use crate::auth::{ProfileUpdate, TenantUpdate};
use crate::ports::identity::{AuditRecord, UserQuery};

#[tokio::test]
async fn what_happened_is_in_the_audit_log_with_who_and_from_where() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, _, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let origin = Origin { address: Some([192, 0, 2, 44].into()), user_agent: Some("curl/8".into()) };
    let wrong = sign_in("shop", &profile.email, OTHER_PASSWORD);
    world.service.login(&wrong, &origin).await.unwrap_err();
    world.service.logout(&principal, &origin).await.unwrap();
    world.service.regenerate_api_key(&shop.owner, &origin).await.unwrap();
    world.service.change_role(&shop.owner, profile.id, Role::Admin, &origin).await.unwrap();
    world.service.set_user_active(&shop.owner, profile.id, false, &origin).await.unwrap();
    let query = AuditQuery { before: None, limit: 100 };
    let log = world.service.audit_log(&shop.owner, &query, &Origin::default()).await.unwrap();
    let expected = [
        AuditAction::UserDeactivated,
        AuditAction::RoleChanged,
        AuditAction::ApiKeyRotated,
        AuditAction::SignedOut,
        AuditAction::SignInFailed,
        AuditAction::SignedIn,
        AuditAction::UserCreated,
        AuditAction::SignedIn,
        AuditAction::TenantCreated,
    ];
    assert_eq!(log.iter().map(|entry| entry.action).collect::<Vec<_>>(), expected);
    let role_changed: &AuditRecord = &log[1];
    assert_eq!(role_changed.actor, shop.owner.subject.to_string());
    assert_eq!(role_changed.target.as_deref(), Some(&*format!("user:{}", profile.id)));
    assert_eq!(role_changed.address.as_deref(), Some("192.0.2.44"));
    assert_eq!(role_changed.detail.as_deref(), Some("viewer to admin"));
    assert_eq!(log[4].actor, "anonymous");
    let page = AuditQuery { before: Some(log[2].id), limit: 2 };
    let page = world.service.audit_log(&shop.owner, &page, &Origin::default()).await.unwrap();
    assert_eq!(page, log[3..5]);
    let mall = world.shop("mall").await;
    assert_eq!(world.audit_actions(&mall.owner).await.len(), 2, "of its own tenant only");
}

#[tokio::test]
async fn every_kind_of_event_is_in_the_audit_log() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (service, owner, here) = (&world.service, &shop.owner, &Origin::default());
    let (ada, tokens, adas) = world.user(&shop, "ada", Role::Viewer).await;
    service.update_tenant(owner, &TenantUpdate::default(), here).await.unwrap();
    service.update_profile(&adas, &ProfileUpdate::default(), here).await.unwrap();
    service.list_users(&adas, &UserQuery { limit: 1, ..UserQuery::default() }, here).await.unwrap_err();
    world.login("shop", &ada.email, OTHER_PASSWORD).await.unwrap_err();
    service.change_password(&adas, &change(OTHER_PASSWORD, "yet-Another-1x"), here).await.unwrap_err();
    world.clock.advance(seconds(3_600));
    service.change_password(&adas, &change(PASSWORD, OTHER_PASSWORD), here).await.unwrap();
    let token = reset_token(&world, &ada.email).await;
    service.confirm_password_reset(&confirm(&token, PASSWORD), here).await.unwrap();
    service.confirm_password_reset(&confirm(&token, OTHER_PASSWORD), here).await.unwrap_err();
    service.change_role(owner, ada.id, Role::Admin, here).await.unwrap();
    service.set_user_active(owner, ada.id, false, here).await.unwrap();
    service.set_user_active(owner, ada.id, true, here).await.unwrap();
    let key = world.key(owner, Scopes::ADMIN).await.info.id;
    service.rotate_api_key(owner, key, seconds(60), here).await.unwrap();
    service.revoke_api_key(owner, key, here).await.unwrap();
    let again = world.login("shop", &ada.email, PASSWORD).await.unwrap();
    world.refresh(&again).await.unwrap();
    world.clock.advance(seconds(11));
    world.refresh(&again).await.unwrap_err();
    assert!(world.refresh(&tokens).await.is_err(), "the reset ended it");
    service.delete_user(owner, ada.id, here).await.unwrap();
    service.logout(owner, here).await.unwrap();
    let back = registration("shop").contact_email;
    let back = world.login("shop", &back, shop.registered.temporary_password.expose()).await.unwrap();
    let seen = world.audit_actions(&world.principal(&back).await.unwrap()).await;
    // The log of a tenant goes with the tenant.
    let missing: Vec<_> = AuditAction::ALL
        .iter()
        .filter(|action| **action != AuditAction::TenantDeleted && !seen.contains(action))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not in the log");
}

#[tokio::test]
async fn a_password_typed_as_an_address_is_not_written_down() {
    let world = World::new().await;
    world.shop("shop").await;
    world.login("shop", PASSWORD, PASSWORD).await.unwrap_err();
    assert!(!world.dump().await.contains(PASSWORD));
}

#[tokio::test]
async fn housekeeping_takes_what_has_expired_and_nothing_else() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    world.clock.advance(seconds(6 * 86_400));
    let live = world.login("shop", &profile.email, PASSWORD).await.unwrap();
    world.clock.advance(seconds(86_400));
    let tenant = shop.owner.tenant;
    assert_eq!(
        world.service.purge(tenant, 1_000).await.unwrap(),
        0,
        "a session is kept through its last instant"
    );
    world.clock.advance(seconds(1));
    assert_eq!(world.service.purge(tenant, 1).await.unwrap(), 1, "no more than asked");
    assert_eq!(world.service.purge(tenant, 1_000).await.unwrap(), 1);
    assert_eq!(world.service.purge(tenant, 1_000).await.unwrap(), 0);
    assert!(world.refresh(&live).await.is_ok());
    let entries = world.audit_actions(&shop.owner).await.len();
    world.clock.advance(seconds(359 * 86_400));
    assert!(world.service.purge(tenant, 1_000).await.unwrap() > 0);
    let left = world.audit_actions(&shop.owner).await.len();
    assert!(left > 0 && left < entries, "{left} of {entries}");
}
