//! Nobody learns who has an account, and guesses are slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::auth::service::even::STEP;
use crate::auth::{BlockingPool, Job, OwnThreads, PasswordSettings};
use crate::error::Retry;
use crate::testkit::TestTimer;

/// Counts the jobs; with more lanes than jobs each hash is one.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl BlockingPool for Counting {
    fn run(&self, job: Job) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        OwnThreads.run(job)
    }
}

#[tokio::test]
async fn every_failed_sign_in_has_the_same_answer_and_the_same_cost() {
    let (env, clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 7);
    let (key_value, pool) = (Arc::new(MemoryKeyValue::new()), Arc::new(Counting::default()));
    let (timer, mailbox) = (Arc::new(TestTimer::instant()), Arc::new(Mailbox::default()));
    let password = PasswordSettings { max_parallel: 1_000, ..PasswordSettings::default() };
    let service =
        AuthService::builder(env.clone(), Arc::new(KeyValueIdentityStore::new(key_value.clone(), false)))
            .with_settings(AuthSettings { password, ..AuthSettings::default() })
            .with_blocking_pool(pool.clone())
            .with_timer(timer.clone())
            .with_reset_mailer(mailbox.clone())
            .with_cheap_hashing()
            .open()
            .await
            .unwrap();
    let world = World { service, clock, env, key_value, mailbox };
    let shop = world.shop("shop").await;
    let (known, ..) = world.user(&shop, "ada", Role::Viewer).await;
    let (disabled, ..) = world.user(&shop, "bob", Role::Viewer).await;
    world.service.set_user_active(&shop.owner, disabled.id, false, &Origin::default()).await.unwrap();
    let stale = world.service.register_tenant(&registration("stale"), &Origin::default()).await.unwrap();
    let suspended = world.service.register_tenant(&registration("asleep"), &Origin::default()).await.unwrap();
    world
        .service
        .set_tenant_limits(suspended.tenant.id, 1, 1, crate::ports::identity::TenantStatus::Suspended)
        .await
        .unwrap();
    world.clock.advance(world.service.settings().temporary_password_ttl);
    let mut answers = Vec::new();
    for (slug, email, password) in [
        ("shop", &*known.email, OTHER_PASSWORD),
        ("shop", "nobody@shop.example", PASSWORD),
        ("shop", "", PASSWORD),
        ("nowhere", &*known.email, PASSWORD),
        ("shop", &*disabled.email, PASSWORD),
        ("stale", &*stale.owner.email, stale.temporary_password.expose()),
        ("asleep", &*suspended.owner.email, suspended.temporary_password.expose()),
        ("shop", &*known.email, ""),
    ] {
        let before = (pool.0.load(Ordering::SeqCst), timer.slept());
        let error = world.login(slug, email, password).await.unwrap_err();
        let hashes = pool.0.load(Ordering::SeqCst) - before.0;
        assert_eq!(timer.slept() - before.1, STEP, "no time passes but that of the answer: {slug} {email}");
        answers.push((error.kind(), error.to_string(), format!("{:?}", error.fields()), hashes));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert_eq!((answers[0].0, answers[0].3), (ErrorKind::Unauthenticated, 1));
    let slept = timer.slept();
    world.login("shop", &known.email, PASSWORD).await.unwrap();
    assert_eq!(timer.slept(), slept, "who may come in does not wait");
    for (email, slug) in
        [(&*known.email, "shop"), ("nobody@shop.example", "shop"), (&*known.email, "nowhere")]
    {
        let before = timer.slept();
        world.service.request_password_reset(email, slug, &Origin::default()).await.unwrap();
        assert_eq!(timer.slept() - before, STEP, "{email} {slug}");
    }
}

#[tokio::test]
async fn guesses_are_delayed_alike_for_known_and_unknown_accounts() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (known, ..) = world.user(&shop, "ada", Role::Viewer).await;
    for email in [&*known.email, "nobody@shop.example"] {
        let mut waits = Vec::new();
        for _ in 0..8 {
            let error = world.login("shop", email, OTHER_PASSWORD).await.unwrap_err();
            if let Retry::After(wait) = error.retry() {
                assert_eq!(error.kind(), ErrorKind::RateLimited);
                waits.push(wait.as_secs());
                world.clock.advance(wait);
                assert_eq!(
                    world.login("shop", email, OTHER_PASSWORD).await.unwrap_err().kind(),
                    ErrorKind::Unauthenticated
                );
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16]);
    }
    let refused = world.login("shop", &known.email, PASSWORD).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RateLimited, "also the right password waits");
    world.clock.advance(refused.retry_after().unwrap());
    world.login("shop", &known.email, PASSWORD).await.unwrap();
    assert_eq!(
        world.login("shop", &known.email, OTHER_PASSWORD).await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
}

#[tokio::test]
async fn the_same_address_in_another_tenant_is_not_delayed() {
    let world = World::new().await;
    let (shop, mall) = (world.shop("shop").await, world.shop("mall").await);
    for shop in [&shop, &mall] {
        let request = new_user("same@mail.example", Role::Viewer);
        world.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap();
    }
    for _ in 0..5 {
        let _ = world.login("shop", "same@mail.example", OTHER_PASSWORD).await;
    }
    let tokens = world.login("mall", "same@mail.example", PASSWORD).await.unwrap();
    assert_eq!(tokens.tenant_id, mall.owner.tenant);
}

#[tokio::test]
async fn one_address_guessing_at_many_accounts_is_delayed() {
    let world = World::new().await;
    world.shop("shop").await;
    let origin = Origin { address: Some([203, 0, 113, 5].into()), user_agent: None };
    let mut refused = None;
    for number in 0..40 {
        let request = sign_in("shop", &format!("user{number}@shop.example"), PASSWORD);
        let error = world.service.login(&request, &origin).await.unwrap_err();
        if error.kind() == ErrorKind::RateLimited {
            refused = Some(number);
            break;
        }
    }
    assert_eq!(refused, Some(30));
    world.login("shop", "owner@shop.example", OTHER_PASSWORD).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_guesses_get_no_further_than_those_at_the_start() {
    let world = Arc::new(World::new().await);
    world.shop("shop").await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                world.login("shop", "owner@shop.example", OTHER_PASSWORD).await.unwrap_err().kind()
            })
        })
        .collect();
    let mut checked = 0;
    for task in tasks {
        checked += usize::from(task.await.unwrap() == ErrorKind::Unauthenticated);
    }
    // Those under way at the start, and no more.
    assert!((3..=16 + 3).contains(&checked), "{checked}");
}

#[tokio::test]
async fn an_overlong_password_is_refused_without_work_and_like_any_wrong_one() {
    let world = World::new().await;
    world.shop("shop").await;
    let wrong = world.login("shop", "owner@shop.example", OTHER_PASSWORD).await.unwrap_err().to_string();
    let long =
        world.login("shop", "owner@shop.example", &"x".repeat(10_000_000)).await.unwrap_err().to_string();
    assert_eq!(wrong, long);
}

#[tokio::test]
async fn asking_for_a_reset_tells_nothing() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (disabled, ..) = world.user(&shop, "bob", Role::Viewer).await;
    world.service.set_user_active(&shop.owner, disabled.id, false, &Origin::default()).await.unwrap();
    for (email, slug) in [
        ("owner@shop.example", "shop"),
        ("nobody@shop.example", "shop"),
        (&disabled.email, "shop"),
        ("a@b.c", "nowhere"),
    ] {
        world.service.request_password_reset(email, slug, &Origin::default()).await.unwrap();
    }
    let mails = world.mailbox.take();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].email, "owner@shop.example");
}
