//! A mail server in the settings: e-mail channels and password resets work.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use pulsestream::core::alerting::{Channel, ChannelConfig};
use pulsestream::core::auth::RegisterTenant;
use pulsestream::core::id::ChannelId;
use pulsestream::core::ports::auth::Origin;
use pulsestream::notify::EmailConfig;
use pulsestream::prelude::*;

/// Takes every mail, and passes on to whom it went and its text.
fn mail_server() -> (u16, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mails) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(std::io::Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || converse(&stream, &sender));
        }
    });
    (port, mails)
}

fn converse(mut stream: &TcpStream, mails: &Sender<(String, String)>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(std::io::Result::ok);
    let mut to = String::new();
    stream.write_all(b"220 mail.test\r\n").ok()?;
    while let Some(line) = lines.next() {
        let answer = match line.split([' ', ':']).next()?.to_ascii_uppercase().as_str() {
            "RCPT" => {
                to = line;
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                let text: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
                mails.send((to.clone(), text.join("\n"))).ok()?;
                "250 taken"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n").ok(),
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).ok()?;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_password_resets_are_mailed() {
    let (port, mails) = mail_server();
    let next = move || mails.recv_timeout(Duration::from_secs(30)).unwrap();
    let url = format!("smtp://127.0.0.1:{port}?security=plain");
    let ps = PulseStream::builder()
        .with_email(EmailConfig::from_url(&url, "PulseStream <alerts@example.com>").unwrap())
        .with_reset_link("https://shop.example/reset?code={token}")
        .open("memory:")
        .await
        .unwrap();
    let request = RegisterTenant {
        name: "Shop".to_owned(),
        slug: "shop".to_owned(),
        contact_email: "ann@shop.example".to_owned(),
        billing_email: None,
        subscription_tier: None,
        timezone: None,
    };
    let registered = ps.accounts().register_tenant(&request, &Origin::default()).await.unwrap();
    ps.accounts().request_password_reset("ann@shop.example", "shop", &Origin::default()).await.unwrap();
    let (to, text) = next();
    assert!(to.contains("<ann@shop.example>"), "{to}");
    assert!(text.contains("Subject: Reset your password for Shop"), "{text}");

    let shop = ps.tenant(registered.tenant.id);
    let config = ChannelConfig::Email { to: vec!["bob@shop.example".into()] };
    ps.alerting()
        .put_channel(shop.id(), Channel::new(ChannelId::from_u128(1), "mail", config), None)
        .await
        .unwrap();
    shop.rules().create("too many", "count >= 1 over 1m", &["mail"]).await.unwrap();
    shop.ingest(Event::new(EventId::new("e").unwrap(), "call", ps.env().now())).await.unwrap();
    let (to, text) = next();
    assert!(to.contains("<bob@shop.example>"), "{to}");
    assert!(text.contains("too many"), "{text}");
    ps.close().await.unwrap();
}

#[tokio::test]
async fn a_reset_link_without_a_place_for_the_token_is_refused() {
    let opened = PulseStream::builder().with_reset_link("https://shop.example/reset").open("memory:").await;
    assert_eq!(opened.unwrap_err().fields()[0].pointer, "/reset_link");
}
