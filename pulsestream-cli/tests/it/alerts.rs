//! An alert as the program sends it: by e-mail through a server with STARTTLS and a password, and to a webhook that checks signatures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pulsestream_testtools::eventually;
use pulsestream_testtools::smtp::{SmtpRules, SmtpServer, TestTls};

use crate::program::{command, path, succeed};

const LIMIT: Duration = Duration::from_secs(30);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Ends with the test, however that ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the head, by lower-case names, and the body of a message of HTTP.
fn read_message(stream: &TcpStream) -> (HeaderMap, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut headers = HeaderMap::new();
    for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ") {
            let name: axum::http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
    }
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (headers, body)
}

/// Accepts webhooks.
fn receiver() -> (String, Receiver<(HeaderMap, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let message = read_message(&stream);
            let answer = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer);
            let _ = sender.send(message);
        }
    });
    (url, received)
}

/// Posts to the program, which must accept it.
fn post(address: &str, key: &str, path: &str, body: &serde_json::Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((200..300).contains(&status), "{path}: {answer}");
}

/// Returns the decoded texts of a message.
fn texts(data: &str) -> Vec<String> {
    let parts = data.split("Content-Transfer-Encoding: base64\r\n\r\n").skip(1);
    let decoded = parts.map(|part| {
        let encoded: String = part.split("\r\n--").next().unwrap().split_whitespace().collect();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    });
    decoded.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_goes_out_by_mail_and_by_webhook() {
    let tls = TestTls::new("localhost");
    let rules = SmtpRules {
        starttls: Some(tls.acceptor()),
        login: Some(("alerts", "correct horse")),
        ..SmtpRules::default()
    };
    let mail_server = SmtpServer::start(rules).await;
    let (hook, hooks) = receiver();
    let place = tempfile::tempdir().unwrap();
    let (folder, authority) = (place.path().join("store"), place.path().join("authority.pem"));
    std::fs::write(&authority, &tls.authority_pem).unwrap();

    tokio::task::spawn_blocking(move || {
        let created = ["--tenant", "shop", "--email", "owner@example.com"];
        let printed = succeed(&[&["admin", "create", "--store", path(&folder)][..], &created].concat());
        let key = printed.split_whitespace().find(|word| word.starts_with("ps_live_")).unwrap().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let smtp = format!("smtp://alerts@localhost:{}", mail_server.address.port());
        let serve = ["serve", "--store", path(&folder), "--listen", &address, "--allow-egress", "127.0.0.0/8"];
        let mail = ["--smtp-url", &smtp, "--smtp-from", "PulseStream <alerts@example.com>"];
        let trust = ["--smtp-ca", path(&authority)];
        let mut program = command(&[&serve[..], &mail, &trust].concat());
        program.env("PULSESTREAM_SMTP_PASSWORD", "correct horse");
        let mut program = Program(program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("health")), "it says where it listens");

        let channels = [
            serde_json::json!({"name": "mail", "config": {"type": "email", "to": ["ann@example.com"]}}),
            serde_json::json!({"name": "hook", "config": {"type": "webhook", "url": hook, "secrets": [SECRET]}}),
        ];
        for channel in channels {
            post(&address, &key, "/api/v2/channels", &channel);
        }
        let rule = serde_json::json!({
            "name": "Failing orders", "expression": "count >= 2 over 5m where event_type = 'order_failed'",
            "channels": ["mail", "hook"], "notify_at_once": true, "severity": "critical",
            "annotations": {"message": "{{ value|int }} orders failed"}
        });
        post(&address, &key, "/api/v2/rules", &rule);
        for _ in 0..2 {
            post(&address, &key, "/api/v2/events", &serde_json::json!({"event_type": "order_failed"}));
        }

        let (headers, body) = hooks.recv_timeout(LIMIT).unwrap();
        standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &headers).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(told.to_string().contains("2 orders failed"), "{told}");

        eventually("the mail", || !mail_server.mails().is_empty());
        let mail = mail_server.mails().remove(0);
        assert!(mail.over_tls, "the password and the message went over TLS");
        assert_eq!(mail.user.as_deref(), Some("alerts"));
        assert_eq!(mail.to, ["ann@example.com"]);
        assert!(mail.from.contains("alerts@example.com"), "{}", mail.from);
        assert!(mail.data.contains("text/plain") && mail.data.contains("text/html"));
        let texts = texts(&mail.data);
        assert!(texts.len() == 2 && texts.iter().all(|text| text.contains("2 orders failed")), "{texts:?}");
        drop(program);
    })
    .await
    .unwrap();
}
