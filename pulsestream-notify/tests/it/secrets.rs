//! Secrets stay where they belong.

use pulsestream_core::alerting::ChannelConfig;
use pulsestream_core::ports::notifier::{Notification, Notifier};

use crate::support::capture::logged;
use crate::support::http_sink::{Act, HttpSink};
use crate::support::{notification, secret, webhook_notifier};

const CANARIES: [&str; 5] =
    ["Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZ", "canary-header", "canary-basic", "canary-query", "Bearer"];

fn loaded(url: &str) -> Notification {
    notification(ChannelConfig::Webhook {
        url: format!("{url}?token=canary-query&x=1").into(),
        secrets: vec![secret("whsec_Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZ")],
        headers: vec![
            ("authorization".into(), secret("Bearer canary-header")),
            ("x-other".into(), secret("canary-basic")),
        ],
    })
}

fn assert_clean(place: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} is in {place}: {text}");
    }
}

#[tokio::test]
async fn no_secret_is_in_reports_logs_or_debug_forms() {
    for act in [
        Act::answer(200, "", ""),
        Act::Echo(500),
        Act::Echo(410),
        Act::answer(302, "location: http://127.0.0.1:1/?token=canary-query\r\n", "canary-basic"),
        Act::answer(500, "content-type: canary-header\r\n", "canary-query"),
        Act::Reset,
    ] {
        let sink = HttpSink::start([act]).await;
        let (message, notifier) = (loaded(&sink.url()), webhook_notifier());
        let (report, log) = logged(notifier.deliver(&message)).await;
        assert_eq!(sink.requests()[0].header("x-other"), Some("canary-basic"), "the secret was sent");
        assert_clean("the report", &serde_json::to_string(&report).unwrap());
        assert_clean("the log", &log);
        assert_clean("the notifier", &format!("{notifier:?}"));
    }
}

#[tokio::test]
async fn refusals_name_no_secret() {
    for (url, header) in [
        ("http://10.0.0.1:8080/", "ok"),
        ("http://[/", "ok"),
        ("http://10.0.0.1/", "canary-header\r\nx: canary-basic"),
    ] {
        let mut message = loaded(url);
        if let ChannelConfig::Webhook { headers, .. } = &mut message.channel.config {
            headers.push(("x-more".into(), secret(header)));
        }
        let (report, log) = logged(webhook_notifier().deliver(&message)).await;
        assert_clean("the report", &serde_json::to_string(&report).unwrap());
        assert_clean("the log", &log);
        let error = webhook_notifier().validate(&message.channel).unwrap_err();
        assert_clean("the error", &format!("{error} {error:?}"));
    }
}
