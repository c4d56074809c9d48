//! The log notifier.

use pulsestream_core::alerting::{ChannelConfig, NotificationKind};
use pulsestream_core::ports::notifier::{DeliveryOutcome, Notifier};
use pulsestream_notify::LogNotifier;

use crate::support::{capture::logged, content, notification, notification_of, webhook};

#[tokio::test]
async fn a_notification_is_one_line_at_the_level_of_its_severity() {
    let (report, log) = logged(LogNotifier::new().deliver(&notification(ChannelConfig::Log {}))).await;
    assert_eq!(report.outcome, DeliveryOutcome::Delivered);
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("ERROR") && log.contains("checkout errors: shop"), "{log}");

    let mut resolved = content();
    resolved.kind = NotificationKind::Resolved;
    let (_, log) =
        logged(LogNotifier::new().deliver(&notification_of(ChannelConfig::Log {}, resolved))).await;
    assert!(log.contains("INFO"), "{log}");
}

#[tokio::test]
async fn texts_cannot_forge_lines_nor_flood_the_log() {
    let mut forged = content();
    forged.title = "disk\n2026-01-31 ERROR root logged in\u{1b}[2J\u{202e}\u{2028}".into();
    forged.message = "x".repeat(1_000_000).into();
    let (_, log) = logged(LogNotifier::new().deliver(&notification_of(ChannelConfig::Log {}, forged))).await;
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(!log.contains(['\u{1b}', '\u{202e}', '\u{2028}']) && log.len() < 8_192, "{}", log.len());
}

#[test]
fn other_channels_are_refused() {
    assert!(LogNotifier::new().validate(&notification(webhook("https://example.com")).channel).is_err());
    LogNotifier::new().validate(&notification(ChannelConfig::Log {}).channel).unwrap();
}
