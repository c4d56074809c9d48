//! API keys from their making to their end.

use super::*;
use crate::auth::{CreateApiKey, Scope};

fn request(scopes: Scopes, expires_at: Option<Timestamp>) -> CreateApiKey {
    CreateApiKey { name: "browser".to_owned(), scopes, expires_at }
}

#[tokio::test]
async fn an_ingest_only_key_sends_and_reads_nothing() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let key = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    let principal = world.key_principal(&key.key).await.unwrap();
    assert_eq!((principal.tenant, principal.role), (shop.owner.tenant, None));
    let allowed: Vec<_> = Action::ALL.iter().filter(|action| principal.allows(**action)).collect();
    assert_eq!(allowed, [&Action::WriteEvents]);
}

#[tokio::test]
async fn the_first_key_of_a_tenant_opens_its_tenant_calls() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let principal = world.key_principal(&shop.registered.api_key).await.unwrap();
    let profile = world.service.tenant_profile(&principal, &Origin::default()).await.unwrap();
    let shown = profile.api_key.unwrap();
    assert!(shown.starts_with("ps_live_") && shown.ends_with("********"));
    assert!(shop.registered.api_key.expose().starts_with(shown.trim_end_matches('*')));
}

#[tokio::test]
async fn expiry_is_to_the_microsecond_and_in_the_future() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (service, origin, now) = (&world.service, &Origin::default(), world.env.now());
    let past =
        service.create_api_key(&shop.owner, &request(Scopes::ADMIN, Some(now)), origin).await.unwrap_err();
    assert_eq!(past.fields()[0].code, "in_the_past");
    let none = service.create_api_key(&shop.owner, &request(Scopes::NONE, None), origin).await.unwrap_err();
    assert_eq!(none.fields()[0].pointer, "/scopes");
    let expires_at = now.plus(seconds(100));
    let key =
        service.create_api_key(&shop.owner, &request(Scopes::ADMIN, Some(expires_at)), origin).await.unwrap();
    assert_eq!(world.key_principal(&key.key).await.unwrap().expires_at, Some(expires_at));
    world.clock.advance(Duration::from_micros(99_999_999));
    assert!(world.key_principal(&key.key).await.is_ok());
    world.clock.advance(Duration::from_micros(1));
    assert!(world.key_principal(&key.key).await.is_err(), "also when it is remembered");
}

#[tokio::test]
async fn rotation_overlaps_for_as_long_as_asked() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let old = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    assert!(world.key_principal(&old.key).await.is_ok());
    let new = world
        .service
        .rotate_api_key(&shop.owner, old.info.id, seconds(3_600), &Origin::default())
        .await
        .unwrap();
    assert_eq!((new.info.name.as_str(), new.info.scopes), ("test", Scopes::INGEST_ONLY));
    assert!(world.key_principal(&old.key).await.is_ok());
    assert!(world.key_principal(&new.key).await.is_ok());
    world.clock.advance(seconds(3_600));
    assert!(world.key_principal(&old.key).await.is_err());
    assert!(world.key_principal(&new.key).await.is_ok());
    let again = world.service.rotate_api_key(&shop.owner, old.info.id, seconds(1), &Origin::default()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    let long = world
        .service
        .rotate_api_key(&shop.owner, new.info.id, seconds(90 * 86_400 + 1), &Origin::default())
        .await;
    assert_eq!(long.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn the_successor_of_a_key_that_expires_expires_too() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (service, origin) = (&world.service, &Origin::default());
    let expires_at = Some(world.env.now().plus(seconds(100)));
    let request = CreateApiKey { name: "short".into(), scopes: Scopes::INGEST_ONLY, expires_at };
    let old = service.create_api_key(&shop.owner, &request, origin).await.unwrap();
    world.clock.advance(seconds(90));
    let new = service.rotate_api_key(&shop.owner, old.info.id, seconds(3_600), origin).await.unwrap();
    assert_eq!(new.info.expires_at, Some(world.env.now().plus(seconds(100))));
    world.clock.advance(seconds(10));
    assert!(world.key_principal(&old.key).await.is_err(), "the overlap does not make it live longer");
    assert!(world.key_principal(&new.key).await.is_ok());
    world.clock.advance(seconds(90));
    assert!(world.key_principal(&new.key).await.is_err());
}

#[tokio::test]
async fn revocation_and_regeneration_are_at_once() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (service, origin) = (&world.service, &Origin::default());
    let key = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    assert!(world.key_principal(&key.key).await.is_ok());
    service.revoke_api_key(&shop.owner, key.info.id, origin).await.unwrap();
    assert!(world.key_principal(&key.key).await.is_err());
    service.revoke_api_key(&shop.owner, key.info.id, origin).await.unwrap();
    let first = shop.registered.api_key.clone();
    let actor = world.key_principal(&first).await.unwrap();
    let second = service.regenerate_api_key(&actor, origin).await.unwrap();
    assert!(world.key_principal(&first).await.is_err());
    let actor = world.key_principal(&second.key).await.unwrap();
    let profile = service.tenant_profile(&actor, origin).await.unwrap();
    assert_eq!(profile.api_key, Some(second.info.masked_key.clone()));
    service.revoke_api_key(&shop.owner, second.info.id, origin).await.unwrap();
    assert_eq!(service.tenant_profile(&shop.owner, origin).await.unwrap().api_key, None);
    let third = service.regenerate_api_key(&shop.owner, origin).await.unwrap();
    assert!(world.key_principal(&third.key).await.is_ok());
}

#[tokio::test]
async fn a_key_makes_no_key_that_may_do_more() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let weak = world.key(&shop.owner, Scopes::of(Scope::AlertsWrite).with(Scope::EventsRead)).await;
    let weak = world.key_principal(&weak.key).await.unwrap();
    let refused =
        world.service.create_api_key(&weak, &request(Scopes::INGEST_ONLY, None), &Origin::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    let strong = world.key_principal(&shop.registered.api_key).await.unwrap();
    world.service.create_api_key(&strong, &request(Scopes::ADMIN, None), &Origin::default()).await.unwrap();
}

#[tokio::test]
async fn the_last_use_is_noted_coarsely() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let key = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    let used_at = || async {
        let keys = world.service.list_api_keys(&shop.owner, &Origin::default()).await.unwrap();
        keys.into_iter().find(|info| info.id == key.info.id).unwrap().last_used_at
    };
    assert_eq!(used_at().await, None);
    let start = world.env.now();
    for (advance, expected) in [(0, 0), (10, 0), (289, 0), (1, 300), (100, 300)] {
        world.clock.advance(seconds(advance));
        world.key_principal(&key.key).await.unwrap();
        assert_eq!(used_at().await, Some(start.plus(seconds(expected))));
    }
}

#[tokio::test]
async fn live_keys_are_limited_and_dead_ones_make_room() {
    let world = World::with(AuthSettings { api_keys_per_tenant: 2, ..AuthSettings::default() }, false).await;
    let shop = world.shop("shop").await;
    let key = world.key(&shop.owner, Scopes::INGEST_ONLY).await;
    let create = || async {
        world
            .service
            .create_api_key(&shop.owner, &request(Scopes::INGEST_ONLY, None), &Origin::default())
            .await
    };
    assert_eq!(create().await.unwrap_err().kind(), ErrorKind::TooLarge);
    world.service.revoke_api_key(&shop.owner, key.info.id, &Origin::default()).await.unwrap();
    create().await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_deployment_is_not_valid_here() {
    let (here, there) = (World::new().await, World::new().await);
    let shop = here.shop("shop").await;
    // The same ids by the same seed, but another pepper after one more draw.
    there.env.random_bytes::<8>().unwrap();
    let foreign = there.shop("shop").await;
    assert!(here.key_principal(&foreign.registered.api_key).await.is_err());
    assert!(here.key_principal(&shop.registered.api_key).await.is_ok());
}
