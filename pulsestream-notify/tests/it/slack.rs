//! Slack against a receiver that answers as Slack does.

use std::time::Duration;

use pulsestream_core::alerting::ChannelConfig;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_notify::egress::{EgressGuard, EgressPolicy};
use pulsestream_notify::{HttpConfig, SlackNotifier};

use crate::support::capture::logged;
use crate::support::http_sink::{Act, HttpSink};
use crate::support::{content, env, notification, notification_of, open_policy, secret, webhook};

const PATH: &str = "services/T0CANARY/B0CANARY/canarytoken";

fn notifier(policy: EgressPolicy) -> SlackNotifier {
    SlackNotifier::new(EgressGuard::new(policy), HttpConfig::default(), env().0).unwrap()
}

fn channel(sink: &HttpSink) -> ChannelConfig {
    ChannelConfig::Slack { url: secret(&format!("http://{}/{PATH}", sink.address)) }
}

async fn answered(status: u16, headers: &str, body: &str) -> DeliveryReport {
    let sink = HttpSink::start([Act::answer(status, headers, body)]).await;
    notifier(open_policy()).deliver(&notification(channel(&sink))).await
}

async fn sent(message: impl FnOnce(ChannelConfig) -> Notification) -> serde_json::Value {
    let sink = HttpSink::start([Act::answer(200, "", "ok")]).await;
    let report = notifier(open_policy()).deliver(&message(channel(&sink))).await;
    assert_eq!(report.outcome, DeliveryOutcome::Delivered);
    let request = sink.requests().remove(0);
    assert_eq!(request.header("content-type"), Some("application/json"));
    serde_json::from_slice(&request.body).unwrap()
}

#[tokio::test]
async fn a_message_says_what_happened() {
    insta::assert_json_snapshot!(sent(notification).await);
}

#[tokio::test]
async fn no_text_of_an_event_commands_slack() {
    const HOSTILE: &str = "<!channel> <!here|x> <@U1> <http://evil.example|Click> & </script>";
    let body = sent(|config| {
        let mut hostile = content();
        hostile.title = HOSTILE.into();
        hostile.message = HOSTILE.into();
        let alert = &mut hostile.alerts[0];
        alert.rule_name = HOSTILE.into();
        alert.summary = HOSTILE.into();
        alert.labels = [(HOSTILE.into(), HOSTILE.into())].into();
        alert.annotations = [(HOSTILE.into(), HOSTILE.into())].into();
        notification_of(config, hostile)
    })
    .await;
    let text = body.to_string();
    assert!(!text.contains(['<', '>']), "{text}");
    assert!(text.contains("&lt;!channel&gt;"), "{text}");
    assert!(!text.contains("\"verbatim\":false"), "{text}");
}

#[tokio::test]
async fn long_messages_stay_within_the_limits_of_slack() {
    let body = sent(|config| {
        let mut long = content();
        long.title = "&".repeat(10_000).into();
        long.message = "<".repeat(100_000).into();
        let mut alert = long.alerts[0].clone();
        alert.summary = "\u{1f525}".repeat(5_000).into();
        alert.labels =
            (0..100).map(|index| (format!("label{index}").into(), "&".repeat(500).into())).collect();
        long.alerts = vec![alert; 60];
        long.omitted = 7;
        notification_of(config, long)
    })
    .await;
    let blocks = body["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    for block in blocks {
        assert!(block["text"]["text"].as_str().is_none_or(|text| text.len() <= 3_000));
    }
    assert_eq!(blocks.last().unwrap()["elements"][0]["text"], "47 more alerts");
}

#[tokio::test]
async fn answers_of_slack_are_classified() {
    for (status, body) in [
        (404, "no_service"),
        (404, "no_team"),
        (404, "channel_not_found"),
        (403, "team_disabled"),
        (410, "channel_is_archived"),
    ] {
        let report = answered(status, "", body).await;
        assert!(matches!(report.outcome, DeliveryOutcome::Disable { .. }), "{status} {body}: {report:?}");
    }
    let report = answered(400, "", "invalid_payload").await;
    assert!(matches!(report.outcome, DeliveryOutcome::Permanent { .. }), "{report:?}");
    for (status, headers, body, seconds) in [
        (429, "retry-after: 30\r\n", "", Some(30)),
        (403, "", "action_prohibited", None),
        (404, "", "not found", None),
        (500, "", "rollup_error", None),
    ] {
        let report = answered(status, headers, body).await;
        let DeliveryOutcome::RetryAfter { after, .. } = report.outcome else { panic!("{status} {report:?}") };
        assert_eq!(after, seconds.map(Duration::from_secs), "{status}");
    }
}

#[tokio::test]
async fn the_url_is_in_no_report_log_or_debug_form() {
    for act in [Act::Echo(500), Act::Echo(403), Act::Reset, Act::answer(200, "", "ok")] {
        let sink = HttpSink::start([act]).await;
        let (message, notifier) = (notification(channel(&sink)), notifier(open_policy()));
        let (report, log) = logged(notifier.deliver(&message)).await;
        assert!(sink.requests()[0].head.contains(PATH), "it was called");
        for text in [serde_json::to_string(&report).unwrap(), log, format!("{notifier:?} {message:?}")] {
            assert!(!text.to_lowercase().contains("canary"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_guard_stands_before_slack_too() {
    let sink = HttpSink::start([]).await;
    let guarded = notifier(EgressPolicy::new());
    let message = notification(channel(&sink));
    let report = guarded.deliver(&message).await;
    assert!(matches!(report.outcome, DeliveryOutcome::Permanent { .. }), "{report:?}");
    assert_eq!(sink.counts().connections, 0);
    let error = guarded.validate(&message.channel).unwrap_err();
    assert!(!format!("{error:?}").to_lowercase().contains("canary"));
    assert!(guarded.validate(&notification(webhook("https://example.com")).channel).is_err());
    let real = ChannelConfig::Slack { url: secret("https://hooks.slack.com/services/T/B/x") };
    guarded.validate(&notification(real).channel).unwrap();
}
