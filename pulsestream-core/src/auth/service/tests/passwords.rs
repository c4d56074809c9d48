//! Changing and resetting passwords.

use super::*;
use crate::auth::{ChangePassword, ConfirmReset};

pub(super) fn change(from: &str, to: &str) -> ChangePassword {
    ChangePassword { current_password: from.into(), new_password: to.into(), confirm_new_password: to.into() }
}

pub(super) fn confirm(token: &Secret, to: &str) -> ConfirmReset {
    ConfirmReset { token: token.clone(), new_password: to.into(), confirm_new_password: to.into() }
}

fn codes(error: &Error) -> Vec<(String, String)> {
    error.fields().iter().map(|field| (field.pointer.clone(), field.code.clone().into_owned())).collect()
}

pub(super) async fn reset_token(world: &World, email: &str) -> Secret {
    world.service.request_password_reset(email, "shop", &Origin::default()).await.unwrap();
    world.mailbox.take().pop().unwrap().token
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_and_keeps_this_one() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, here, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let there = world.login("shop", &profile.email, PASSWORD).await.unwrap();
    assert!(world.principal(&there).await.is_ok());
    world
        .service
        .change_password(&principal, &change(PASSWORD, OTHER_PASSWORD), &Origin::default())
        .await
        .unwrap();
    assert!(world.principal(&there).await.is_err());
    assert!(world.refresh(&there).await.is_err());
    assert!(world.principal(&here).await.is_ok());
    assert!(world.refresh(&here).await.is_ok());
    assert!(world.login("shop", &profile.email, PASSWORD).await.is_err());
    assert!(world.login("shop", &profile.email, OTHER_PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_refused_change_says_which_field() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, _, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let mut mismatch = change(PASSWORD, OTHER_PASSWORD);
    mismatch.confirm_new_password = "something else".into();
    for (request, expected) in [
        (change(OTHER_PASSWORD, "yet-Another-1x"), ("/current_password", "wrong_password")),
        (change(PASSWORD, "short"), ("/new_password", "too_short")),
        (change(PASSWORD, "password123"), ("/new_password", "common")),
        (change(PASSWORD, "ada-shop-example-1"), ("/new_password", "context")),
        (change(PASSWORD, PASSWORD), ("/new_password", "unchanged")),
        (mismatch, ("/confirm_new_password", "mismatch")),
    ] {
        let error =
            world.service.change_password(&principal, &request, &Origin::default()).await.unwrap_err();
        assert_eq!(codes(&error), [(expected.0.to_owned(), expected.1.to_owned())]);
    }
    assert!(world.audit_actions(&shop.owner).await.contains(&AuditAction::PasswordChangeFailed));
}

#[tokio::test]
async fn guessing_the_current_password_of_an_open_session_is_delayed() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, _, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let request = change("wrong-Guess-55", OTHER_PASSWORD);
        kinds.push(
            world.service.change_password(&principal, &request, &Origin::default()).await.unwrap_err().kind(),
        );
    }
    assert_eq!(kinds, [ErrorKind::Invalid, ErrorKind::Invalid, ErrorKind::Invalid, ErrorKind::RateLimited]);
}

#[tokio::test]
async fn the_temporary_password_of_an_owner_is_to_be_changed() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let profile = world.service.profile(&shop.owner, &Origin::default()).await.unwrap();
    assert!(profile.must_change_password);
    let request = change(shop.registered.temporary_password.expose(), OTHER_PASSWORD);
    world.service.change_password(&shop.owner, &request, &Origin::default()).await.unwrap();
    world.clock.advance(seconds(8 * 86_400));
    let tokens = world.login("shop", "owner@shop.example", OTHER_PASSWORD).await.unwrap();
    let owner = world.principal(&tokens).await.unwrap();
    assert!(!world.service.profile(&owner, &Origin::default()).await.unwrap().must_change_password);
}

#[tokio::test]
async fn a_reset_works_once_and_ends_every_session() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let token = reset_token(&world, " ADA@shop.example").await;
    world.service.confirm_password_reset(&confirm(&token, OTHER_PASSWORD), &Origin::default()).await.unwrap();
    assert!(world.principal(&tokens).await.is_err());
    assert!(world.refresh(&tokens).await.is_err());
    assert!(world.login("shop", &profile.email, PASSWORD).await.is_err());
    let again = world.login("shop", &profile.email, OTHER_PASSWORD).await.unwrap();
    let principal = world.principal(&again).await.unwrap();
    assert!(!profile.is_verified);
    assert!(
        world.service.profile(&principal, &Origin::default()).await.unwrap().is_verified,
        "who reads the mailbox owns it"
    );
    let used = world
        .service
        .confirm_password_reset(&confirm(&token, PASSWORD), &Origin::default())
        .await
        .unwrap_err();
    assert_eq!(codes(&used), [("/token".to_owned(), "invalid_reset_token".to_owned())]);
}

#[tokio::test]
async fn bad_replaced_old_and_foreign_reset_tokens_are_refused_alike() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let replaced = reset_token(&world, &profile.email).await;
    let expired = reset_token(&world, &profile.email).await;
    let mut refusals = Vec::new();
    for token in [&replaced, &Secret::from("psp_nonsense"), &tokens.refresh_token, &tokens.access_token] {
        let request = confirm(token, OTHER_PASSWORD);
        refusals.push(
            world.service.confirm_password_reset(&request, &Origin::default()).await.unwrap_err().to_string(),
        );
    }
    world.clock.advance(world.service.settings().reset_ttl);
    let request = confirm(&expired, OTHER_PASSWORD);
    refusals.push(
        world.service.confirm_password_reset(&request, &Origin::default()).await.unwrap_err().to_string(),
    );
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(world.login("shop", &profile.email, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_refused_new_password_does_not_use_the_token_up() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    let token = reset_token(&world, &profile.email).await;
    let error = world
        .service
        .confirm_password_reset(&confirm(&token, "12345678"), &Origin::default())
        .await
        .unwrap_err();
    assert_eq!(codes(&error)[0].1, "common");
    world.service.confirm_password_reset(&confirm(&token, OTHER_PASSWORD), &Origin::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_parallel_confirmations_one_wins() {
    let world = Arc::new(World::new().await);
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    let token = reset_token(&world, &profile.email).await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (world, request) = (world.clone(), confirm(&token, &format!("canary-Pw-{number}-umber")));
            tokio::spawn(async move {
                world.service.confirm_password_reset(&request, &Origin::default()).await.is_ok()
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
async fn a_reset_frees_a_locked_out_owner_and_a_flooded_mailbox_is_spared() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    for _ in 0..10 {
        let _ = world.login("shop", &profile.email, OTHER_PASSWORD).await;
    }
    assert_eq!(
        world.login("shop", &profile.email, PASSWORD).await.unwrap_err().kind(),
        ErrorKind::RateLimited
    );
    let token = reset_token(&world, &profile.email).await;
    world.service.confirm_password_reset(&confirm(&token, OTHER_PASSWORD), &Origin::default()).await.unwrap();
    world.login("shop", &profile.email, OTHER_PASSWORD).await.unwrap();
    let mut sent = 0;
    for _ in 0..10 {
        sent += usize::from(
            world.service.request_password_reset(&profile.email, "shop", &Origin::default()).await.is_ok(),
        );
    }
    assert_eq!((sent, world.mailbox.take().len()), (3, 3));
}

#[tokio::test]
async fn a_dearer_hash_setting_takes_effect_at_the_next_sign_in() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    let hash = |service: &AuthService| {
        let (service, tenant, id) = (service.clone(), shop.owner.tenant, profile.id);
        async move { service.user_of(tenant, id, "test").await.unwrap().password_hash.expose().to_owned() }
    };
    let before = hash(&world.service).await;
    world.login("shop", &profile.email, PASSWORD).await.unwrap();
    assert_eq!(hash(&world.service).await, before, "nothing to do");
    let store = Arc::new(KeyValueIdentityStore::new(world.key_value.clone(), true));
    let mut builder = AuthService::builder(world.env.clone(), store).with_cheap_hashing();
    builder = builder.with_settings({
        let mut settings = AuthSettings::default();
        settings.password.memory_kib = 64;
        settings.password.iterations = 1;
        settings
    });
    let dearer = builder.open().await.unwrap();
    dearer.login(&sign_in("shop", &profile.email, PASSWORD), &Origin::default()).await.unwrap();
    assert!(hash(&dearer).await.starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
    world.login("shop", &profile.email, PASSWORD).await.unwrap();
    assert!(hash(&dearer).await.starts_with("$argon2id$v=19$m=64,"), "a cheaper node does not undo it");
}
