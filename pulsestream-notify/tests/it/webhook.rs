//! Webhooks against a receiver that lies.

use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::alerting::ChannelConfig;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_notify::egress::EgressGuard;
use pulsestream_notify::{HttpConfig, SignatureHeaders, WebhookNotifier, WebhookSecret, verify};
use pulsestream_testtools::HungReceiver;
use pulsestream_testtools::smtp::{SmtpRules, SmtpServer, TestTls};
use reqwest::header::HeaderMap;

use crate::support::http_sink::{Act, HttpSink, Request};
use crate::support::{
    FakeResolver, NOW, closed_port, env, notification, open_policy, secret, webhook, webhook_notifier,
    webhook_notifier_with,
};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn deliver_to(act: Act) -> DeliveryReport {
    let sink = HttpSink::start([act]).await;
    let report = webhook_notifier().deliver(&notification(webhook(&sink.url()))).await;
    assert_eq!(sink.counts().connections, 1, "one attempt makes one request");
    report
}

fn after(report: &DeliveryReport) -> Option<Duration> {
    match report.outcome {
        DeliveryOutcome::RetryAfter { after, .. } => after,
        ref other => panic!("{other:?}"),
    }
}

fn error(report: &DeliveryReport) -> &str {
    report.outcome.error().expect("it failed")
}

#[tokio::test]
async fn every_status_is_classified() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(
            deliver_to(Act::answer(status, "", "")).await.outcome,
            DeliveryOutcome::Delivered,
            "{status}"
        );
    }
    for status in
        [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 599]
    {
        let report = deliver_to(Act::answer(status, "location: http://127.0.0.1:1/\r\n", "no")).await;
        assert_eq!(after(&report), None, "{status}");
        assert_eq!(report.status_code, Some(status));
        assert!(error(&report).contains(&status.to_string()), "{report:?}");
    }
    let gone = deliver_to(Act::answer(410, "retry-after: 5\r\n", "")).await;
    assert!(matches!(gone.outcome, DeliveryOutcome::Disable { .. }), "{gone:?}");
}

#[tokio::test]
async fn retry_after_is_honoured() {
    for (status, value, seconds) in [
        (429, "7", Some(7)),
        (503, "120", Some(120)),
        (500, "60", Some(60)),
        (503, "Sat, 31 Jan 2026 09:31:00 GMT", Some(60)),
        (503, "Sat, 31 Jan 2026 09:29:00 GMT", Some(0)),
        (429, "1000000", Some(86_400)),
        (429, "soon", None),
    ] {
        let report = deliver_to(Act::answer(status, &format!("retry-after: {value}\r\n"), "")).await;
        assert_eq!(after(&report), seconds.map(Duration::from_secs), "{status} {value}");
    }
}

#[tokio::test]
async fn the_request_is_a_standard_webhook() {
    let sink = HttpSink::start([]).await;
    let mut message = notification(ChannelConfig::Webhook {
        url: sink.url().into(),
        secrets: vec![secret(NEW), secret(OLD)],
        headers: vec![("Authorization".into(), secret("Bearer canary"))],
    });
    webhook_notifier().validate(&message.channel).unwrap();
    webhook_notifier().deliver(&message).await;
    message.attempt = 2;
    message.at = NOW.plus(Duration::from_secs(5));
    webhook_notifier().deliver(&message).await;

    let [first, second] = <[Request; 2]>::try_from(sink.requests()).unwrap();
    assert!(first.head.starts_with("POST /hook HTTP/1.1"), "{}", first.head);
    assert_eq!(first.header("webhook-id"), Some(&*message.delivery.id.to_string()));
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body, "a repeated attempt says the same");
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("authorization"), Some("Bearer canary"));
    assert_eq!(first.header("user-agent"), Some(concat!("PulseStream/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(first.header("accept-encoding"), None);
    assert_eq!(first.header("webhook-signature").unwrap().split(' ').count(), 2);
    let body: serde_json::Value = serde_json::from_slice(&first.body).unwrap();
    insta::assert_json_snapshot!(body);
}

#[tokio::test]
async fn the_reference_library_verifies_our_signatures() {
    let sink = HttpSink::start([]).await;
    let config = ChannelConfig::Webhook {
        url: sink.url().into(),
        secrets: vec![secret(NEW), secret(OLD)],
        headers: Vec::new(),
    };
    // The reference library compares with the clock of the system.
    let mut message = notification(config);
    message.at = pulsestream_core::env::Env::system().now();
    message.delivery.content.title = "\u{fc}nic\u{f6}de \u{1f525} \"quoted\"".into();
    webhook_notifier().deliver(&message).await;

    let request = sink.requests().remove(0);
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).unwrap().parse().unwrap());
    }
    for text in [OLD, NEW] {
        standardwebhooks::Webhook::new(text).unwrap().verify(&request.body, &headers).unwrap();
        let ours = SignatureHeaders {
            id: request.header("webhook-id").unwrap(),
            timestamp: request.header("webhook-timestamp").unwrap(),
            signature: request.header("webhook-signature").unwrap(),
        };
        verify(&[WebhookSecret::parse(text).unwrap()], ours, &request.body, message.at).unwrap();
    }
    let stranger = standardwebhooks::Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    assert!(stranger.verify(&request.body, &headers).is_err());
}

#[tokio::test]
async fn we_verify_what_the_reference_library_signs() {
    let body = br#"{"type":"x"}"#;
    let signature =
        standardwebhooks::Webhook::new(OLD).unwrap().sign("msg_1", NOW.as_seconds(), body).unwrap();
    let timestamp = NOW.as_seconds().to_string();
    let headers = SignatureHeaders { id: "msg_1", timestamp: &timestamp, signature: &signature };
    verify(&[WebhookSecret::parse(OLD).unwrap()], headers, body, NOW).unwrap();
}

#[tokio::test]
async fn an_unsigned_channel_sends_no_signature() {
    let sink = HttpSink::start([]).await;
    webhook_notifier().deliver(&notification(webhook(&sink.url()))).await;
    let request = sink.requests().remove(0);
    assert_eq!(request.header("webhook-signature"), None);
    assert!(request.header("webhook-id").is_some());
}

/// Runs a delivery until the receiver has acted, and then lets time pass as fast as it can.
async fn deliver_and_wait(act: Act) -> (DeliveryReport, Duration) {
    let sink = HttpSink::start([act]).await;
    let message = notification(webhook(&sink.url()));
    let delivery = tokio::spawn(async move { webhook_notifier().deliver(&message).await });
    sink.reached(|counts| counts.acted == 1).await;
    pass_until(delivery).await
}

/// Lets time pass as fast as it can until a delivery has ended.
async fn pass_until(delivery: tokio::task::JoinHandle<DeliveryReport>) -> (DeliveryReport, Duration) {
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let report = delivery.await.unwrap();
    let waited = start.elapsed();
    tokio::time::resume();
    (report, waited)
}

#[tokio::test]
async fn a_silent_receiver_is_left_at_the_deadline() {
    for bytes in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nx-slow: 1\r\n"] {
        let (report, waited) = deliver_and_wait(Act::SendAndHang(bytes.into())).await;
        assert_eq!(after(&report), None);
        assert!(error(&report).contains("deadline"), "{report:?}");
        assert!(waited <= HttpConfig::default().deadline + Duration::from_millis(10), "{waited:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_comes_to_the_point_is_left_at_the_deadline() {
    let silent = HungReceiver::silent().await;
    // A record of TLS that takes four hours and a half.
    let record_of_hours = HungReceiver::dripping(b"\x16\x03\x03\x40\x00", 0).await;
    let head_without_end = HungReceiver::dripping(b"HTTP/1.1 200 OK\r\nx-slow: ", b'a').await;
    for (scheme, receiver) in
        [("https", &silent), ("http", &silent), ("https", &record_of_hours), ("http", &head_without_end)]
    {
        let message = notification(webhook(&format!("{scheme}://{}/", receiver.address)));
        let before = receiver.clients();
        let delivery = tokio::spawn(async move { webhook_notifier().deliver(&message).await });
        receiver.holds(before + 1).await;
        let (report, waited) = pass_until(delivery).await;
        assert_eq!(after(&report), None, "{scheme}");
        assert_eq!(report.status_code, None, "{report:?}");
        assert!(waited <= HttpConfig::default().deadline + Duration::from_millis(10), "{scheme}: {waited:?}");
        assert_eq!(receiver.clients(), before + 1, "one attempt is one connection");
    }
}

#[tokio::test]
async fn the_head_of_the_answer_decides_however_slow_its_text_is() {
    for (status, is_delivered) in [(200, true), (500, false)] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nfirst");
        let (report, waited) = deliver_and_wait(Act::SendAndHang(head.into())).await;
        assert_eq!(report.outcome == DeliveryOutcome::Delivered, is_delivered);
        assert_eq!(report.response.unwrap().contains("first"), !is_delivered);
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let head = "HTTP/1.1 500 X\r\ncontent-type: text/plain\r\n\r\n";
    let report = deliver_to(Act::SendEndlessly(head.into())).await;
    assert_eq!(report.status_code, Some(500));
    assert!(report.response.unwrap().len() <= 1_024);
}

#[tokio::test]
async fn endless_and_many_headers_end_the_attempt() {
    let report = deliver_to(Act::SendEndlessly("HTTP/1.1 200 OK\r\nx: ".into())).await;
    assert_eq!(after(&report), None);
    let many: String = (0..200).map(|index| format!("x-{index}: y\r\n")).collect();
    assert_eq!(after(&deliver_to(Act::answer(200, &many, "")).await), None);
}

#[tokio::test]
async fn broken_answers_are_tried_again() {
    for act in [
        Act::Reset,
        Act::Send(Vec::new()),
        Act::Send("220 mail.example.com ESMTP\r\n".into()),
        Act::Send("\0\u{1}\u{2}".into()),
        Act::Send("HTTP/1.1 99999 X\r\n\r\n".into()),
        Act::Send("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".into()),
    ] {
        let report = deliver_to(act).await;
        assert_eq!(after(&report), None);
        assert_eq!(report.status_code, None);
    }
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let (_reserved, closed) = closed_port();
    // A server that greets in clear text, where TLS is expected.
    let mail = SmtpServer::start(SmtpRules::default()).await;
    for url in [format!("http://{closed}/"), format!("https://{}/", mail.address)] {
        let report = webhook_notifier().deliver(&notification(webhook(&url))).await;
        assert_eq!(error(&report), "no connection to the receiver", "{url}");
        assert_eq!(after(&report), None, "{url}");
    }
}

#[tokio::test]
async fn a_slow_receiver_takes_only_its_share_of_connections() {
    let slow = HttpSink::start(vec![Act::Hold; 10]).await;
    let fast = HttpSink::start([]).await;
    let config = HttpConfig { max_per_host: 3, max_per_host_and_tenant: 2, ..HttpConfig::default() };
    // Two names for one machine, so that the receivers are two hosts.
    let resolver = FakeResolver::default()
        .with("slow.example", &[&["127.0.0.1"]])
        .with("fast.example", &[&["127.0.0.1"]]);
    let guard = EgressGuard::new(open_policy()).with_resolver(Arc::new(resolver));
    let notifier = Arc::new(webhook_notifier_with(guard, config));
    let send = |notifier: &Arc<WebhookNotifier>, message: Notification| {
        let notifier = notifier.clone();
        tokio::spawn(async move { notifier.deliver(&message).await.outcome })
    };
    let to_slow = |tenant: u128| {
        let url = format!("http://slow.example:{}/", slow.address.port());
        let mut message = notification(webhook(&url));
        message.tenant = pulsestream_core::id::TenantId::from_u128(tenant);
        message
    };
    let mut held: Vec<_> = (0..5).map(|_| send(&notifier, to_slow(1))).collect();
    slow.reached(|counts| counts.requests == 2).await;
    held.extend((0..3).map(|_| send(&notifier, to_slow(2))));
    slow.reached(|counts| counts.requests == 3).await;
    let url = format!("http://fast.example:{}/", fast.address.port());
    let outcome = send(&notifier, notification(webhook(&url))).await.unwrap();
    assert_eq!(outcome, DeliveryOutcome::Delivered);
    assert_eq!(slow.counts().connections, 3, "the limit of the host holds");
    slow.release(8);
    for delivery in held {
        assert_eq!(delivery.await.unwrap(), DeliveryOutcome::Delivered);
    }
    assert_eq!(slow.counts().requests, 8);
}

#[test]
fn channels_are_checked_field_by_field() {
    let notifier = webhook_notifier();
    let pointers = |url: &str, secrets: &[&str], headers: &[(&str, &str)]| {
        let config = ChannelConfig::Webhook {
            url: url.into(),
            secrets: secrets.iter().copied().map(secret).collect(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), secret(value))).collect(),
        };
        match notifier.validate(&notification(config).channel) {
            Ok(()) => Vec::new(),
            Err(error) => error.fields().iter().map(|field| field.pointer.clone()).collect(),
        }
    };
    assert!(pointers("https://example.com/x", &[OLD, NEW], &[("x-team", "ops")]).is_empty());
    assert_eq!(
        pointers("http://10.0.0.1/", &[OLD, "whsec_c2hvcnQ="], &[("host", "x"), ("Webhook-Id", "x")]),
        ["/config/url", "/config/secrets/1", "/config/headers/0", "/config/headers/1"]
    );
    assert_eq!(pointers("https://example.com:22/", &[], &[]), ["/config/url"]);
    assert!(notifier.validate(&notification(ChannelConfig::Log {}).channel).is_err());
}

#[tokio::test]
async fn certificates_are_checked() {
    let (tls, stranger) = (TestTls::new("hooks.example"), TestTls::new("hooks.example"));
    let other_name = TestTls::new("other.example");
    for (served, trusted, is_delivered) in
        [(&tls, &tls, true), (&stranger, &tls, false), (&other_name, &other_name, false)]
    {
        let sink = HttpSink::start_tls(served.acceptor()).await;
        let resolver = FakeResolver::default().with("hooks.example", &[&["127.0.0.1"]]);
        let guard = EgressGuard::new(open_policy()).with_resolver(Arc::new(resolver));
        let config = HttpConfig {
            extra_root_certificates: vec![trusted.authority_pem.clone()],
            ..HttpConfig::default()
        };
        let url = format!("https://hooks.example:{}/", sink.address.port());
        let report = webhook_notifier_with(guard, config).deliver(&notification(webhook(&url))).await;
        assert_eq!(report.outcome == DeliveryOutcome::Delivered, is_delivered, "{report:?}");
        assert_eq!(sink.counts().requests, usize::from(is_delivered), "nothing is said before the check");
    }
}

#[test]
fn settings_are_limited() {
    let refused =
        |config: HttpConfig| WebhookNotifier::new(EgressGuard::new(open_policy()), config, env().0).is_err();
    let with = HttpConfig::default;
    assert!(!refused(HttpConfig { deadline: Duration::from_secs(50), ..with() }));
    assert!(refused(HttpConfig { deadline: Duration::from_secs(51), ..with() }));
    assert!(refused(HttpConfig { connect_timeout: Duration::ZERO, ..with() }));
    assert!(refused(HttpConfig { max_per_host: 0, ..with() }));
    assert!(refused(HttpConfig { max_per_host_and_tenant: 0, ..with() }));
    assert!(refused(HttpConfig { max_response_bytes: 1_048_577, ..with() }));
    assert!(refused(HttpConfig { extra_root_certificates: vec![b"-----BEGIN nonsense".to_vec()], ..with() }));
}
