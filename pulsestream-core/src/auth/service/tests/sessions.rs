//! Sign-in, refresh, sign-out.

use super::*;

#[tokio::test]
async fn signs_in_refreshes_and_signs_out() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, principal) = world.user(&shop, "ada", Role::Viewer).await;
    assert_eq!((tokens.expires_in, tokens.refresh_expires_in), (seconds(1_800), seconds(604_800)));
    assert_eq!(
        (tokens.user_id, tokens.tenant_id, tokens.role),
        (profile.id, shop.owner.tenant, Role::Viewer)
    );
    assert_eq!(
        (principal.tenant, principal.role, principal.scopes),
        (shop.owner.tenant, Some(Role::Viewer), None)
    );
    world.clock.advance(seconds(1_806));
    let expired = world.principal(&tokens).await.unwrap_err();
    assert!(expired.message().contains("expired"));
    let fresh = world.refresh(&tokens).await.unwrap();
    let principal = world.principal(&fresh).await.unwrap();
    world.service.logout(&principal, &Origin::default()).await.unwrap();
    assert_eq!(world.principal(&fresh).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(world.refresh(&fresh).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    world.service.logout(&principal, &Origin::default()).await.unwrap();
}

#[tokio::test]
async fn remember_me_lives_longer_and_no_session_lives_forever() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let request = Login {
        remember_me: true,
        ..sign_in("SHOP ", " Owner@Shop.example", shop.registered.temporary_password.expose())
    };
    let mut tokens = world.service.login(&request, &Origin::default()).await.unwrap();
    assert_eq!(tokens.refresh_expires_in, seconds(30 * 86_400));
    for _ in 0..4 {
        world.clock.advance(seconds(20 * 86_400));
        tokens = world.refresh(&tokens).await.unwrap();
    }
    assert_eq!(tokens.refresh_expires_in, seconds(10 * 86_400), "90 days in all");
    world.clock.advance(seconds(10 * 86_400));
    assert!(world.refresh(&tokens).await.is_err());
}

#[tokio::test]
async fn an_unused_refresh_token_expires() {
    let world = World::new().await;
    world.shop("shop").await;
    let shop = world.shop("other").await;
    let (_, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    world.clock.advance(seconds(604_800));
    assert!(world.refresh(&tokens).await.is_err());
}

#[tokio::test]
async fn a_lost_reply_gets_the_same_successor_and_later_reuse_ends_the_session() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, first, _) = world.user(&shop, "ada", Role::Viewer).await;
    let (_, bystander, _) = world.user(&shop, "bob", Role::Viewer).await;
    let second = world.refresh(&first).await.unwrap();
    assert_ne!(first.refresh_token, second.refresh_token);
    world.clock.advance(Duration::from_millis(9_999));
    let again = world.refresh(&first).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token);
    assert!(world.principal(&again).await.is_ok());
    world.clock.advance(Duration::from_millis(1));
    assert!(world.refresh(&first).await.is_err(), "after 10 s it is a theft");
    assert!(world.refresh(&second).await.is_err(), "the family is revoked");
    assert!(world.principal(&second).await.is_err(), "so are its access tokens");
    assert!(world.principal(&bystander).await.is_ok());
    assert!(world.audit_actions(&shop.owner).await.contains(&AuditAction::RefreshReused));
}

#[tokio::test]
async fn a_token_two_generations_old_is_reuse_within_the_grace_too() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, first, _) = world.user(&shop, "ada", Role::Viewer).await;
    let second = world.refresh(&first).await.unwrap();
    let third = world.refresh(&second).await.unwrap();
    assert!(world.refresh(&first).await.is_err());
    assert!(world.refresh(&third).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_parallel_refreshes_have_one_successor() {
    let world = Arc::new(World::new().await);
    let shop = world.shop("shop").await;
    let (_, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (world, tokens) = (world.clone(), tokens.clone());
            tokio::spawn(async move { world.refresh(&tokens).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.refresh_token == answers[0].refresh_token));
    for answer in &answers {
        assert!(world.principal(answer).await.is_ok());
    }
    assert!(world.refresh(&answers[0]).await.is_ok(), "the session lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_sign_ins_of_one_user_all_succeed_and_count() {
    let world = Arc::new(World::new().await);
    let shop = world.shop("shop").await;
    let (profile, ..) = world.user(&shop, "ada", Role::Viewer).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (world, email) = (world.clone(), profile.email.clone());
            tokio::spawn(async move { world.login("shop", &email, PASSWORD).await.unwrap() })
        })
        .collect();
    for task in tasks {
        let tokens = task.await.unwrap();
        assert!(world.principal(&tokens).await.is_ok());
    }
    let user = world.service.user_of(shop.owner.tenant, profile.id, "test").await.unwrap();
    assert_eq!(user.activity.login_count, 17);
}

#[tokio::test]
async fn one_session_too_many_ends_the_oldest() {
    let world = World::with(AuthSettings { sessions_per_user: 3, ..AuthSettings::default() }, false).await;
    let shop = world.shop("shop").await;
    let (profile, first, _) = world.user(&shop, "ada", Role::Viewer).await;
    let mut later = Vec::new();
    for _ in 0..3 {
        world.clock.advance(seconds(1));
        later.push(world.login("shop", &profile.email, PASSWORD).await.unwrap());
    }
    assert!(world.principal(&first).await.is_err());
    for tokens in &later {
        assert!(world.principal(tokens).await.is_ok());
    }
}

#[tokio::test]
async fn what_one_node_ends_has_ended_on_the_other() {
    let world = World::with(AuthSettings::default(), true).await;
    let other = world.another_node().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let bearer = || Credential::Bearer(tokens.access_token.clone());
    assert!(authenticate(&other, bearer()).await.is_ok());
    world.service.logout(&principal, &Origin::default()).await.unwrap();
    assert!(authenticate(&other, bearer()).await.is_err());
    let again = world.login("shop", &profile.email, PASSWORD).await.unwrap();
    let bearer = || Credential::Bearer(again.access_token.clone());
    assert!(authenticate(&other, bearer()).await.is_ok());
    world.service.set_user_active(&shop.owner, profile.id, false, &Origin::default()).await.unwrap();
    assert!(authenticate(&other, bearer()).await.is_err());
}

#[tokio::test]
async fn activity_is_noted_once_per_resolution() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (profile, tokens, _) = world.user(&shop, "ada", Role::Viewer).await;
    let active_at = || async {
        world
            .service
            .user_of(shop.owner.tenant, profile.id, "test")
            .await
            .unwrap()
            .activity
            .last_active_at
            .unwrap()
    };
    let start = active_at().await;
    world.clock.advance(seconds(299));
    world.principal(&tokens).await.unwrap();
    assert_eq!(active_at().await, start);
    world.clock.advance(seconds(1));
    world.principal(&tokens).await.unwrap();
    assert_eq!(active_at().await, start.plus(seconds(300)));
}

#[tokio::test]
async fn uses_are_kept_apart() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, tokens, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let key = shop.registered.api_key.clone();
    let ticket = world.service.issue_ticket(&principal).await.unwrap().ticket;
    let good = |credential| authenticate(&world.service, credential);
    assert!(good(Credential::Bearer(key.clone())).await.is_ok(), "a key may come as a bearer token");
    assert!(good(Credential::Ticket(ticket.clone())).await.is_ok());
    let mut refusals = Vec::new();
    for credential in [
        Credential::Bearer(tokens.refresh_token.clone()),
        Credential::Bearer(ticket.clone()),
        Credential::Bearer("".into()),
        Credential::ApiKey(tokens.access_token.clone()),
        Credential::ApiKey(tokens.refresh_token.clone()),
        Credential::ApiKey(ticket),
        Credential::Ticket(tokens.access_token.clone()),
        Credential::Ticket(key.clone()),
        Credential::Ticket(tokens.refresh_token.clone()),
    ] {
        refusals.push(good(credential).await.unwrap_err().to_string());
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    for token in [tokens.access_token, key] {
        assert!(world.service.refresh(&token, &Origin::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_ticket_lives_for_seconds_and_ends_with_its_session() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, _, principal) = world.user(&shop, "ada", Role::Viewer).await;
    let key = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    let key_principal = world.key_principal(&key.key).await.unwrap();
    let of_user = world.service.issue_ticket(&principal).await.unwrap();
    let of_key = world.service.issue_ticket(&key_principal).await.unwrap();
    let shown = |ticket: &crate::auth::Ticket| {
        authenticate(&world.service, Credential::Ticket(ticket.ticket.clone()))
    };
    assert_eq!(shown(&of_user).await.unwrap().subject, principal.subject);
    assert_eq!(shown(&of_key).await.unwrap().scopes, Some(Scopes::INGEST_ONLY));
    world.service.logout(&principal, &Origin::default()).await.unwrap();
    assert!(shown(&of_user).await.is_err());
    world.service.revoke_api_key(&shop.owner, key.info.id, &Origin::default()).await.unwrap();
    assert!(shown(&of_key).await.is_err());
    let of_owner = world.service.issue_ticket(&shop.owner).await.unwrap();
    world.clock.advance(seconds(35));
    assert!(shown(&of_owner).await.is_err());
}

#[tokio::test]
async fn a_rotated_signing_key_verifies_in_its_grace_and_a_leaked_one_not_at_all() {
    let settings = AuthSettings {
        access_ttl: seconds(86_400),
        signing_key_grace: seconds(86_400),
        ..AuthSettings::default()
    };
    let world = World::with(settings, true).await;
    let other = world.another_node().await;
    let shop = world.shop("shop").await;
    let (_, old, _) = world.user(&shop, "ada", Role::Viewer).await;
    world.service.rotate_signing_key(KeyRotation::Graceful).await.unwrap();
    let new = world.refresh(&old).await.unwrap();
    assert!(world.principal(&old).await.is_ok());
    // The other node has not seen the new key, and looks for it when it meets it.
    world.clock.advance(seconds(1));
    assert!(authenticate(&other, Credential::Bearer(new.access_token.clone())).await.is_ok());
    world.service.rotate_signing_key(KeyRotation::Immediate).await.unwrap();
    assert!(world.principal(&old).await.is_err());
    assert!(world.principal(&new).await.is_err());
    world.clock.advance(seconds(10));
    assert!(authenticate(&other, Credential::Bearer(new.access_token.clone())).await.is_err());
    assert!(world.refresh(&new).await.is_ok(), "sessions live on");
    assert!(world.key_principal(&shop.registered.api_key).await.is_ok(), "and so do API keys");
}
