//! When keys are fetched, and from where not.

use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{ErrorKind, Retry};
use pulsestream_core::time::Timestamp;
use pulsestream_jwks::{JwksAuth, TenantsByName};
use pulsestream_notify::egress::{EgressGuard, EgressPolicy};
use serde_json::json;

use crate::support::{Answer, Application, NOW, Provider, Signer, claims, config, open_guard, with};

const SECOND: Duration = Duration::from_secs(1);

/// Claims that last for the whole test.
fn lasting() -> serde_json::Value {
    with(claims(), "exp", NOW + 86_000)
}

#[tokio::test]
async fn unknown_keys_make_one_fetch_in_an_interval() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let provider = Provider::start(vec![old.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    assert!(application.show(&old.token(&claims())).await.is_ok());
    provider.publish(vec![old.jwk(), new.jwk()]);
    for id in 0..200 {
        let header = with(new.header(), "kid", format!("made-up-{id}")).to_string();
        let refused = application.show(&new.sign(&header, &claims().to_string())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    }
    assert!(application.show(&new.token(&claims())).await.is_err(), "not fetched yet");
    assert_eq!(provider.requests(), 1);
    application.clock.advance(30 * SECOND);
    assert!(application.show(&new.token(&claims())).await.is_ok());
    assert!(application.show(&old.token(&claims())).await.is_ok());
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn many_callers_make_one_fetch() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Arc::new(Application::new(&provider));
    let token: Arc<str> = signer.token(&claims()).into();
    let callers = (0..64).map(|_| {
        let (application, token) = (Arc::clone(&application), Arc::clone(&token));
        tokio::spawn(async move { application.show(&token).await.is_ok() })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert!(caller.await.unwrap());
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_withdrawn_key_ends_with_the_age_of_the_set() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let provider = Provider::start(vec![old.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    assert!(application.show(&old.token(&lasting())).await.is_ok());
    provider.publish(vec![new.jwk()]);
    application.clock.advance(599 * SECOND);
    assert!(application.show(&old.token(&lasting())).await.is_ok());
    application.clock.advance(SECOND);
    assert!(application.show(&old.token(&lasting())).await.is_err());
    assert!(application.show(&new.token(&lasting())).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_is_down_is_outlived_for_a_while() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let token = signer.token(&lasting());
    assert!(application.show(&token).await.is_ok());
    let faults = [
        Answer::Status(503),
        Answer::Document("<html>".to_owned()),
        Answer::Document(json!({"keys": []}).to_string()),
        Answer::Status(204),
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        provider.answer(fault);
        application.clock.advance(600 * SECOND);
        assert!(application.show(&token).await.is_ok(), "fault {index}");
        assert!(application.show(&token).await.is_ok(), "fault {index}");
        assert_eq!(provider.requests(), index + 2, "it is left in peace for the interval");
    }
    application.clock.advance(1_199 * SECOND);
    assert!(application.show(&token).await.is_ok(), "an hour less a second");
    application.clock.advance(SECOND);
    let gone = application.show(&token).await.unwrap_err();
    assert_eq!((gone.kind(), gone.retry()), (ErrorKind::Unavailable, Retry::After(30 * SECOND)));
    provider.publish(vec![signer.jwk()]);
    assert!(application.show(&token).await.is_err(), "the interval holds");
    application.clock.advance(30 * SECOND);
    assert!(application.show(&token).await.is_ok());
}

#[tokio::test]
async fn documents_come_whole_in_time_and_from_the_configured_place() {
    let signer = Signer::ed25519("e");
    let elsewhere = Provider::start(vec![signer.jwk()]).await.unwrap();
    let good = json!({"keys": [signer.jwk()], "padding": "x".repeat(256 * 1_024)}).to_string();
    let provider = Provider::start(Vec::new()).await.unwrap();
    for answer in [Answer::Redirect(elsewhere.url()), Answer::Document(good), Answer::Silence] {
        provider.answer(answer.clone());
        let application = Application::with(&provider, |config| {
            config.fetch_deadline =
                Duration::from_millis(if matches!(answer, Answer::Silence) { 50 } else { 5_000 });
            config.extra_root_certificates.push(elsewhere.authority_pem());
        });
        let error = application.show(&signer.token(&claims())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn the_outbound_guard_stands_before_the_fetch() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let open = |url: Option<&str>, guard: EgressGuard| {
        let mut config = config(&provider);
        if let Some(url) = url {
            config.url = url.to_owned();
        }
        let (env, clock) = Env::manual(Timestamp::from_seconds(NOW), 3);
        JwksAuth::new(config, Arc::new(TenantsByName), guard, env).map(|auth| Application { auth, clock })
    };
    let closed = || EgressGuard::new(EgressPolicy::new());
    let refused = [
        ("http://id.example/keys", ErrorKind::Invalid),
        ("https://ann:secret@id.example/keys", ErrorKind::Invalid),
        ("file:///etc/passwd", ErrorKind::Invalid),
        ("https://169.254.169.254/latest/meta-data", ErrorKind::Forbidden),
        ("https://[::1]/keys", ErrorKind::Forbidden),
        ("https://id.example:6379/keys", ErrorKind::Forbidden),
    ];
    for (url, kind) in refused {
        assert_eq!(open(Some(url), closed()).map(|_| ()).unwrap_err().kind(), kind, "{url}");
    }
    // The name of this machine is looked up, and leads to a place that is closed.
    let application = open(None, closed()).unwrap();
    assert_eq!(application.show(&signer.token(&claims())).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(provider.requests(), 0);
    let application = open(None, open_guard()).unwrap();
    assert!(application.show(&signer.token(&claims())).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::with(&provider, |config| config.extra_root_certificates.clear());
    assert_eq!(application.show(&signer.token(&claims())).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_keys_behind() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let token = signer.token(&claims());
    {
        let mut first = std::pin::pin!(application.show(&token));
        let once =
            std::future::poll_fn(|context| std::task::Poll::Ready(first.as_mut().poll(context).is_pending()));
        assert!(once.await, "it waits for the fetch");
    }
    assert!(application.show(&token).await.is_ok());
    assert_eq!(provider.requests(), 1);
}
