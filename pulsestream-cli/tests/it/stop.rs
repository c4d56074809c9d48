//! SIGTERM while requests come in.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream_core::env::{Clock, Env, SystemClock};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::block_on;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::program::{command, path, succeed};

const CLIENTS: u64 = 4;
/// The program must have come to its end by then.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends one event and returns the status, `None` when the connection broke.
fn send(address: &str, key: &str, id: u64) -> Option<u16> {
    let body = format!(r#"{{"id":"stop-{id}","event_type":"order"}}"#);
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let request = format!(
        "POST /api/v2/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn what_was_acknowledged_is_there_after_sigterm() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let created = ["--tenant", "shop", "--email", "owner@example.com"];
    let printed = succeed(&[&["admin", "create", "--store", path(&folder)][..], &created].concat());
    let key = printed.split_whitespace().find(|word| word.starts_with("ps_live_")).unwrap().to_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let serve = ["serve", "--store", path(&folder), "--listen", &address, "--rate-limit", "off"];
    let mut server = command(&serve).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("health")), "it says where it listens");

    let acknowledged = AtomicU64::new(0);
    let stored: BTreeSet<u64> = std::thread::scope(|scope| {
        let (acknowledged, address, key) = (&acknowledged, &address, &key);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut own = Vec::new();
                    for id in (client..).step_by(CLIENTS as usize) {
                        match send(address, key, id) {
                            Some(200..=299) => {
                                own.push(id);
                                acknowledged.fetch_add(1, Ordering::SeqCst);
                            }
                            // Refused, or nobody is there any more: not acknowledged.
                            Some(503) | None => return own,
                            Some(status) => panic!("status {status}"),
                        }
                    }
                    own
                })
            })
            .collect();
        while acknowledged.load(Ordering::SeqCst) < 40 && !clients.iter().any(|client| client.is_finished()) {
            std::thread::yield_now();
        }
        let terminated = std::process::Command::new("kill").arg(server.id().to_string()).status().unwrap();
        assert!(terminated.success());
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let clock = SystemClock::new();
    let status = loop {
        match server.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(clock.monotonic() < DEADLINE, "it does not end"),
        }
        std::thread::yield_now();
    };
    assert!(status.success(), "{status}");
    assert!(stored.len() >= 40, "{}", stored.len());
    assert!(!folder.join("control").exists(), "the socket is gone");

    let store = EmbeddedStore::open(&folder, EmbeddedConfig::default(), Env::system()).unwrap();
    assert_eq!(store.recovered_truncated_bytes(), 0, "the log was closed properly");
    let ids: Vec<EventId> = stored.iter().map(|id| EventId::new(format!("stop-{id}")).unwrap()).collect();
    let id = printed.split(['(', ')']).nth(1).unwrap();
    let tenant: TenantId = id.parse().unwrap();
    let found = block_on(store.get(tenant, &ids)).unwrap();
    let lost: Vec<_> =
        found.iter().zip(&ids).filter(|(event, _)| event.is_none()).map(|(_, id)| id).collect();
    assert_eq!(lost, Vec::<&EventId>::new());
}
