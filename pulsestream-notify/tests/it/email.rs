//! E-mail against a server that speaks STARTTLS and AUTH.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pulsestream_core::ErrorKind;
use pulsestream_core::alerting::{ChannelConfig, NotificationContent};
use pulsestream_core::auth::Secret;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_notify::{EmailConfig, EmailCredentials, EmailNotifier, EmailSecurity};
use pulsestream_testtools::HungReceiver;
use pulsestream_testtools::smtp::{Mail, SmtpRules, SmtpServer, TestTls};

use crate::support::capture::logged;
use crate::support::{closed_port, content, env, notification, notification_of};

const LOGIN: (&str, &str) = ("alerts", "canary-password");

fn to(addresses: &[&str]) -> ChannelConfig {
    ChannelConfig::Email { to: addresses.iter().map(|address| (*address).into()).collect() }
}

fn message() -> Notification {
    notification(to(&["ann@example.com"]))
}

fn config(server: &SmtpServer, security: EmailSecurity) -> EmailConfig {
    let mut config = EmailConfig::new("localhost", "PulseStream <alerts@example.com>");
    config.port = Some(server.address.port());
    config.security = security;
    config
}

fn with_login(mut config: EmailConfig, tls: &TestTls) -> EmailConfig {
    config.credentials = Some(EmailCredentials { username: LOGIN.0.into(), password: Secret::new(LOGIN.1) });
    config.extra_root_certificates = vec![tls.authority_pem.clone()];
    config
}

async fn deliver(config: EmailConfig, message: &Notification) -> DeliveryReport {
    EmailNotifier::new(config, env().0).unwrap().deliver(message).await
}

/// Delivers over clear text to a server with these rules.
async fn deliver_plain(rules: SmtpRules, message: &Notification) -> (DeliveryReport, Vec<Mail>) {
    let server = SmtpServer::start(rules).await;
    let report = deliver(config(&server, EmailSecurity::Plain), message).await;
    (report, server.mails())
}

fn error(report: &DeliveryReport) -> &str {
    report.outcome.error().expect("it failed")
}

fn is_retried(report: &DeliveryReport) -> bool {
    matches!(report.outcome, DeliveryOutcome::RetryAfter { .. })
}

/// Returns the header lines of a message, unfolded.
fn head(mail: &Mail) -> Vec<String> {
    let (head, _) = mail.data.split_once("\r\n\r\n").unwrap();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

/// Returns the decoded texts of a message.
fn texts(mail: &Mail) -> Vec<String> {
    let parts = mail.data.split("Content-Transfer-Encoding: base64\r\n\r\n").skip(1);
    parts
        .map(|part| {
            let encoded: String = part.split("\r\n--").next().unwrap().split_whitespace().collect();
            String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn starttls_tls_and_both_ways_to_log_in() {
    let tls = TestTls::new("localhost");
    for (security, mechanism) in [
        (EmailSecurity::StartTls, "PLAIN"),
        (EmailSecurity::StartTls, "LOGIN"),
        (EmailSecurity::Tls, "PLAIN LOGIN"),
    ] {
        let mut rules = SmtpRules { login: Some(LOGIN), mechanism: Some(mechanism), ..SmtpRules::default() };
        match security {
            EmailSecurity::Tls => rules.tls = Some(tls.acceptor()),
            _ => rules.starttls = Some(tls.acceptor()),
        }
        let server = SmtpServer::start(rules).await;
        let report = deliver(with_login(config(&server, security), &tls), &message()).await;
        assert_eq!(report.outcome, DeliveryOutcome::Delivered, "{report:?}");
        assert_eq!(report.status_code, Some(250));
        assert_eq!(report.response.as_deref(), Some("250 2.0.0 queued as 42"));
        let mail = server.mails().remove(0);
        assert!(mail.over_tls);
        assert_eq!(mail.user.as_deref(), Some(LOGIN.0));
        assert_eq!(mail.to, ["ann@example.com"]);
        assert!(mail.from.starts_with("MAIL FROM:<alerts@example.com>"), "{}", mail.from);
    }
}

#[tokio::test]
async fn nothing_is_sent_without_the_protection_that_was_asked_for() {
    let (tls, stranger) = (TestTls::new("localhost"), TestTls::new("localhost"));
    let other_name = TestTls::new("mail.example.com");
    let starttls = |tls: Option<&TestTls>| SmtpRules {
        starttls: tls.map(TestTls::acceptor),
        login: Some(LOGIN),
        ..SmtpRules::default()
    };
    for (what, rules, trusted) in [
        ("no STARTTLS is offered", starttls(None), &tls),
        ("the authority is unknown", starttls(Some(&stranger)), &tls),
        ("the certificate has another name", starttls(Some(&other_name)), &other_name),
    ] {
        let server = SmtpServer::start(rules).await;
        let report = deliver(with_login(config(&server, EmailSecurity::StartTls), trusted), &message()).await;
        assert!(is_retried(&report), "{what}: {report:?}");
        assert!(server.mails().is_empty(), "{what}");
        assert!(
            !server.commands().iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")),
            "{what}"
        );
    }
    let mut insecure = EmailConfig::new("localhost", "a@example.com");
    insecure.security = EmailSecurity::Plain;
    let error = EmailNotifier::new(with_login(insecure, &tls), env().0).unwrap_err();
    assert_eq!(error.fields()[0].pointer, "/credentials");
}

#[tokio::test]
async fn a_message_has_text_html_and_the_id_of_the_delivery() {
    let mut second = message();
    second.attempt = 2;
    let (_, mails) = deliver_plain(SmtpRules::default(), &message()).await;
    let (_, again) = deliver_plain(SmtpRules::default(), &second).await;
    let (mail, again) = (&mails[0], &again[0]);
    let head = head(mail);
    let has = |mail: &[String], line: &str| mail.iter().any(|other| other == line);
    assert!(has(&head, "From: PulseStream <alerts@example.com>"), "{head:?}");
    assert!(has(&head, "To: ann@example.com"), "{head:?}");
    assert!(has(&head, "Subject: [firing] checkout errors: shop"), "{head:?}");
    assert!(has(&head, "Date: Sat, 31 Jan 2026 09:30:00 +0000"), "{head:?}");
    assert!(has(&head, "Auto-Submitted: auto-generated"), "{head:?}");
    let id = format!("Message-ID: <{}@example.com>", message().delivery.id);
    assert!(has(&head, &id) && has(&self::head(again), &id), "{head:?}");
    let [text, html] = <[String; 2]>::try_from(texts(mail)).unwrap();
    insta::assert_snapshot!("text", text.replace("\r\n", "\n"));
    insta::assert_snapshot!("html", html.replace("\r\n", "\n"));
}

fn hostile(title: &str, message: &str) -> NotificationContent {
    let mut hostile = content();
    hostile.title = title.into();
    hostile.message = message.into();
    hostile.alerts[0].rule_name = title.into();
    hostile
}

#[tokio::test]
async fn titles_cannot_add_headers_lines_or_receivers() {
    for title in [
        "x\r\nBcc: eve@example.com",
        "x\nBcc: eve@example.com\n\nbody",
        "x\rBcc: eve@example.com",
        "x\r\n\r\n.\r\nMAIL FROM:<eve@example.com>",
        "x\u{2028}Bcc: eve@example.com",
        "x\0Bcc: eve@example.com",
        &format!("{}\r\nBcc: eve@example.com", "\u{e4}".repeat(90)),
        "=?utf-8?q?x=0D=0ABcc:_eve@example.com?=",
    ] {
        let mail_content =
            hostile(title, "a\r\n.\r\nQUIT\r\n--pulsestream\r\nContent-Type: text/html\r\n\r\n<b>");
        let message = notification_of(to(&["ann@example.com"]), mail_content);
        let (report, mails) = deliver_plain(SmtpRules::default(), &message).await;
        assert_eq!(report.outcome, DeliveryOutcome::Delivered, "{title:?}");
        assert_eq!(mails.len(), 1, "{title:?}");
        assert_eq!(mails[0].to, ["ann@example.com"]);
        let names: Vec<String> =
            head(&mails[0]).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
        let expected =
            ["From", "Subject", "Date", "Message-ID", "Auto-Submitted", "To", "MIME-Version", "Content-Type"];
        assert_eq!(names, expected, "{title:?}");
        let texts = texts(&mails[0]);
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("\r\n.\r\nQUIT\r\n"), "the text arrives as it was");
    }
}

#[tokio::test]
async fn markup_in_texts_is_shown_not_obeyed() {
    let title = "<img src=x onerror=alert(1)> & \"quotes\"";
    let message =
        notification_of(to(&["ann@example.com"]), hostile(title, "<a href='http://evil.example'>x</a>"));
    let (_, mails) = deliver_plain(SmtpRules::default(), &message).await;
    let html = texts(&mails[0]).remove(1);
    assert!(!html.contains("<img") && !html.contains("<a ") && html.contains("&lt;img src=x"), "{html}");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    let server = SmtpServer::start(SmtpRules::default()).await;
    let notifier = EmailNotifier::new(config(&server, EmailSecurity::Plain), env().0).unwrap();
    for address in [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@example.com\r\nBcc: eve@example.com",
        "ann@example.com\nRCPT TO:<eve@example.com>",
        "<ann@example.com>",
        "ann@example.com, eve@example.com",
        "ann@example.com> SIZE=1",
        "Ann <ann@example.com>",
        "ann @example.com",
        "ann@exam\u{0}ple.com",
        "ann@[127.0.0.1\r\n]",
    ] {
        let message = notification(to(&["bob@example.com", address]));
        assert!(notifier.validate(&message.channel).is_err(), "{address:?}");
        let report = notifier.deliver(&message).await;
        assert!(matches!(report.outcome, DeliveryOutcome::Permanent { .. }), "{address:?}");
        assert!(!report.request.contains(['\r', '\n', '\0']), "{address:?}");
        let error = notifier.send_mail(address, "x", "y").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{address:?}");
    }
    assert!(server.commands().is_empty());
    notifier.validate(&notification(to(&["ann@example.com", "\u{e4}nn@ex\u{e4}mple.com"])).channel).unwrap();
}

#[tokio::test]
async fn answers_of_the_server_are_classified() {
    for (command, answer, is_retried_later) in [
        ("greeting", "421 4.3.2 closing", true),
        ("greeting", "554 5.3.2 no service", false),
        ("MAIL", "451 4.3.0 try later", true),
        ("MAIL", "552 5.3.4 too big", false),
        ("RCPT", "450 4.2.1 greylisted", true),
        ("RCPT", "550 5.1.1 no such user", false),
        ("DATA", "530 5.7.0 log in first", true),
        ("end of data", "451 4.7.1 wait", true),
        ("end of data", "554 5.7.1 spam", false),
    ] {
        let rules = SmtpRules { answers: vec![(command, answer)], ..SmtpRules::default() };
        let (report, mails) = deliver_plain(rules, &message()).await;
        assert_eq!(is_retried(&report), is_retried_later, "{command} {answer}: {report:?}");
        assert!(error(&report).contains(&answer[..3]), "{report:?}");
        assert_eq!(report.status_code, answer[..3].parse().ok(), "{report:?}");
        assert!(mails.is_empty());
    }
    let (report, _) = deliver_plain(
        SmtpRules { answers: vec![("greeting", "HTTP/1.1 400 Bad Request")], ..SmtpRules::default() },
        &message(),
    )
    .await;
    assert!(is_retried(&report), "{report:?}");
}

#[tokio::test]
async fn one_wrong_address_does_not_silence_the_others() {
    let everybody =
        notification(to(&["ann@example.com", "gone@example.com", "bob@example.com", "ann@example.com"]));
    let rules =
        SmtpRules { answers: vec![("RCPT TO:<gone@", "550 5.1.1 no such user")], ..SmtpRules::default() };
    let (report, mails) = deliver_plain(rules, &everybody).await;
    assert_eq!(report.outcome, DeliveryOutcome::Delivered);
    assert!(report.response.unwrap().contains("not taken for gone@example.com"));
    let receivers: Vec<String> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(receivers, ["ann@example.com", "bob@example.com"], "everybody else gets it once");

    let rules = SmtpRules { answers: vec![("RCPT", "550 5.1.1 no such user")], ..SmtpRules::default() };
    let (report, _) = deliver_plain(rules, &everybody).await;
    assert!(matches!(report.outcome, DeliveryOutcome::Permanent { .. }), "{report:?}");
}

/// Delivers to a server that is about to fall silent, and returns what came of it once time has passed as fast as it can.
async fn deliver_in_vain(config: EmailConfig, is_silent: impl Future<Output = ()>) -> DeliveryReport {
    let deadline = config.deadline + Duration::from_secs(1);
    let notifier = EmailNotifier::new(config, env().0).unwrap();
    let delivery = tokio::spawn(async move { notifier.deliver(&message()).await });
    is_silent.await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let report = delivery.await.unwrap();
    assert!(is_retried(&report) && start.elapsed() <= deadline, "{:?}: {report:?}", start.elapsed());
    tokio::time::resume();
    report
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_deadline() {
    for command in ["EHLO", "MAIL", "DATA"] {
        let rules = SmtpRules { silent_after: Some(command), ..SmtpRules::default() };
        let server = SmtpServer::start(rules).await;
        deliver_in_vain(config(&server, EmailSecurity::Plain), server.silenced()).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_on_the_way_to_tls_is_left_at_the_deadline() {
    let tls = TestTls::new("localhost");
    let starttls = SmtpRules { starttls: Some(tls.acceptor()), login: Some(LOGIN), ..SmtpRules::default() };
    for rules in [
        SmtpRules { silent_after: Some("STARTTLS"), ..starttls.clone() },
        SmtpRules { is_silent_in_handshake: true, ..starttls },
    ] {
        let server = SmtpServer::start(rules).await;
        let config = with_login(config(&server, EmailSecurity::StartTls), &tls);
        deliver_in_vain(config, server.silenced()).await;
        let commands = server.commands();
        assert!(
            !commands.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")),
            "{commands:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_never_comes_to_the_point_is_left_at_the_deadline() {
    let greets_for_ever = HungReceiver::dripping(b"220-", b'a').await;
    let record_of_hours = HungReceiver::dripping(b"\x16\x03\x03\x40\x00", 0).await;
    let silent = HungReceiver::silent().await;
    for (security, receiver) in [
        (EmailSecurity::Plain, &greets_for_ever),
        (EmailSecurity::Tls, &record_of_hours),
        (EmailSecurity::Tls, &silent),
    ] {
        let mut config = EmailConfig::new("localhost", "alerts@example.com");
        config.port = Some(receiver.address.port());
        config.security = security;
        let report = deliver_in_vain(config, receiver.holds(1)).await;
        assert_eq!(receiver.clients(), 1, "one attempt is one connection: {report:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let mut config = EmailConfig::new("localhost", "alerts@example.com");
    let (_reserved, closed) = closed_port();
    config.port = Some(closed.port());
    config.security = EmailSecurity::Plain;
    let report = deliver(config, &message()).await;
    assert_eq!(error(&report), "no connection to the mail server");
    assert!(is_retried(&report));
}

#[tokio::test]
async fn the_password_is_in_no_report_log_or_debug_form() {
    let tls = TestTls::new("localhost");
    // The server repeats what it was given, because the password is another one.
    let rules = SmtpRules {
        starttls: Some(tls.acceptor()),
        login: Some(("alerts", "another")),
        ..SmtpRules::default()
    };
    let server = SmtpServer::start(rules).await;
    let config = with_login(config(&server, EmailSecurity::StartTls), &tls);
    let notifier = EmailNotifier::new(config.clone(), env().0).unwrap();
    let (report, log) = logged(notifier.deliver(&message())).await;
    assert!(is_retried(&report), "the operator can correct it: {report:?}");
    assert!(server.commands().iter().any(|line| line.starts_with("AUTH")), "it was sent");
    let texts = [serde_json::to_string(&report).unwrap(), log, format!("{notifier:?} {config:?}")];
    for text in texts {
        assert!(!text.contains(LOGIN.1) && !text.contains(&STANDARD.encode(LOGIN.1)), "{text}");
    }
}

#[tokio::test]
async fn plain_messages_are_sent_and_their_texts_kept_out_of_logs() {
    let server = SmtpServer::start(SmtpRules::default()).await;
    let notifier = EmailNotifier::new(config(&server, EmailSecurity::Plain), env().0).unwrap();
    let sending =
        notifier.send_mail("ann@example.com", "Reset\r\nBcc: eve@example.com", "Token: canary-token");
    let (result, log) = logged(sending).await;
    result.unwrap();
    assert!(!log.contains("canary-token") && !log.contains(&STANDARD.encode("Token: canary-token")), "{log}");
    let mail = server.mails().remove(0);
    assert_eq!(texts(&mail), ["Token: canary-token"]);
    assert!(head(&mail).contains(&"Subject: Reset Bcc: eve@example.com".to_owned()), "{:?}", head(&mail));

    let full =
        SmtpServer::start(SmtpRules { answers: vec![("MAIL", "452 4.3.1 full")], ..SmtpRules::default() })
            .await;
    let notifier = EmailNotifier::new(config(&full, EmailSecurity::Plain), env().0).unwrap();
    let error = notifier.send_mail("ann@example.com", "x", "canary-token").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error:?}").contains("canary-token"));
}

#[test]
fn settings_are_checked() {
    let refused = |change: fn(&mut EmailConfig)| {
        let mut config = EmailConfig::new("mail.example.com", "alerts@example.com");
        change(&mut config);
        EmailNotifier::new(config, env().0).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|config| config.host = String::new()));
    assert!(refused(|config| config.port = Some(0)));
    assert!(refused(|config| config.from = "nobody".into()));
    assert!(refused(|config| config.from = "a@example.com\r\nBcc: b@example.com".into()));
    assert!(refused(|config| config.reply_to = Some("nobody".into())));
    assert!(refused(|config| config.hello_name = Some("a b".into())));
    assert!(refused(|config| config.deadline = Duration::from_secs(51)));
    assert!(refused(|config| config.max_concurrency = 0));
    assert!(refused(|config| config.extra_root_certificates = vec![b"-----BEGIN nonsense".to_vec()]));
}
