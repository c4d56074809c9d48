//! The first administrator.

use super::*;
use crate::auth::{CompleteSetup, EnsuredAdmin, Secret, SetupToken};
use crate::ports::auth::Origin;

fn request(setup: &SetupToken, slug: &str) -> CompleteSetup {
    CompleteSetup {
        token: setup.token.clone(),
        tenant_name: "Shop".to_owned(),
        tenant_slug: slug.to_owned(),
        email: "ann@shop.example".to_owned(),
        full_name: "Ann Example".to_owned(),
        password: Secret::new(PASSWORD),
    }
}

async fn complete(service: &AuthService, request: &CompleteSetup) -> Result<EnsuredAdmin> {
    service.complete_setup(request, &Origin::default()).await
}

#[tokio::test]
async fn a_link_makes_the_first_administrator_once() {
    let world = World::new().await;
    assert!(!world.service.is_setup_open().await.unwrap());
    let setup = world.service.open_setup().await.unwrap().unwrap();
    assert!(world.service.is_setup_open().await.unwrap());
    let made = complete(&world.service, &request(&setup, "shop")).await.unwrap();
    let EnsuredAdmin::Created { temporary_password: None, api_key: Some(_), owner, .. } = made else {
        panic!("{made:?}")
    };
    assert_eq!((owner.email.as_str(), owner.role), ("ann@shop.example", Role::Owner));
    assert!(!world.service.is_setup_open().await.unwrap());
    assert!(world.service.open_setup().await.unwrap().is_none(), "nobody needs one any more");
    let again = complete(&world.service, &request(&setup, "other")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    let login = Login {
        tenant_slug: "shop".to_owned(),
        email: "ann@shop.example".to_owned(),
        password: Secret::new(PASSWORD),
        remember_me: false,
    };
    world.service.login(&login, &Origin::default()).await.unwrap();
}

#[tokio::test]
async fn a_refused_request_leaves_the_link_and_a_wrong_link_nothing() {
    let world = World::new().await;
    let setup = world.service.open_setup().await.unwrap().unwrap();
    let weak = CompleteSetup { password: Secret::new("password"), ..request(&setup, "Not A Slug!") };
    let refused = complete(&world.service, &weak).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = setup.token.expose();
    let last = if text.ends_with('A') { "Q" } else { "A" };
    for wrong in [
        String::new(),
        "pss_".to_owned(),
        text.replace("pss_", "psp_"),
        format!("{}{last}", &text[..text.len() - 1]),
        format!("{text}A"),
    ] {
        let wrong = CompleteSetup { token: Secret::new(wrong), ..request(&setup, "shop") };
        assert_eq!(complete(&world.service, &wrong).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }
    assert!(complete(&world.service, &request(&setup, "shop")).await.is_ok());
}

#[tokio::test]
async fn links_of_all_nodes_and_starts_work_until_one_is_used() {
    let world = World::new().await;
    let first = world.service.open_setup().await.unwrap().unwrap();
    let other = world.another_node().await;
    let second = other.open_setup().await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(3_599));
    complete(&other, &request(&first, "shop")).await.unwrap();
    for service in [&world.service, &other] {
        assert_eq!(
            complete(service, &request(&second, "other")).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn a_link_ends_after_an_hour() {
    let world = World::new().await;
    let old = world.service.open_setup().await.unwrap().unwrap();
    assert_eq!(old.expires_at, world.env.now().plus(Duration::from_secs(3_600)));
    world.clock.advance(Duration::from_secs(3_600));
    assert!(!world.service.is_setup_open().await.unwrap());
    assert_eq!(
        complete(&world.service, &request(&old, "shop")).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let new = world.service.open_setup().await.unwrap().unwrap();
    assert_eq!(
        complete(&world.service, &request(&old, "shop")).await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    complete(&world.service, &request(&new, "shop")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_becomes_the_administrator() {
    let world = Arc::new(World::new().await);
    let setup = Arc::new(world.service.open_setup().await.unwrap().unwrap());
    let tries = (0..8).map(|number| {
        let (world, setup) = (Arc::clone(&world), Arc::clone(&setup));
        tokio::spawn(async move {
            complete(&world.service, &request(&setup, &format!("shop-{number}"))).await.is_ok()
        })
    });
    let mut made = 0;
    for outcome in tries.collect::<Vec<_>>() {
        made += usize::from(outcome.await.unwrap());
    }
    assert_eq!(made, 1);
    assert_eq!(world.service.0.store.tenants(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_the_digest_of_a_link_is_stored_and_many_starts_leave_few() {
    let world = World::new().await;
    let mut last = None;
    for _ in 0..40 {
        last = world.service.open_setup().await.unwrap();
    }
    let setup = last.unwrap();
    assert!(!format!("{setup:?}").contains(setup.token.expose()));
    let record = world.service.0.store.keyring().await.unwrap().unwrap();
    assert_eq!(record.setups.len(), 16);
    let stored = serde_json::to_string(&record).unwrap();
    assert!(!stored.contains(setup.token.expose().trim_start_matches("pss_")));
    complete(&world.service, &request(&setup, "shop")).await.unwrap();
    assert!(world.service.0.store.keyring().await.unwrap().unwrap().setups.is_empty());
}
