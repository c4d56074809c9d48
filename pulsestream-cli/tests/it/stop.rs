//! SIGTERM while requests come in.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream_core::env::{Clock, Env, SystemClock};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::block_on;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::program::{path, succeed};
use crate::server::{Server, try_request};

const CLIENTS: u64 = 4;
/// The program must have come to its end by then.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends one event and returns the status, `None` when the connection broke.
fn send(address: &str, key: &str, id: u64) -> Option<u16> {
    let body = format!(r#"{{"id":"stop-{id}","event_type":"order"}}"#);
    try_request(address, "POST", "/api/v2/events", key, &body).map(|(status, _)| status)
}

#[test]
fn what_was_acknowledged_is_there_after_sigterm() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let created = ["--tenant", "shop", "--email", "owner@example.com"];
    let printed = succeed(&[&["admin", "create", "--store", path(&folder)][..], &created].concat());
    let key = printed.split_whitespace().find(|word| word.starts_with("ps_live_")).unwrap().to_owned();
    let mut server = Server::start(&folder, &[]);

    let acknowledged = AtomicU64::new(0);
    let stored: BTreeSet<u64> = std::thread::scope(|scope| {
        let (acknowledged, address, key) = (&acknowledged, server.address(), &key);
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
        let terminated =
            std::process::Command::new("kill").arg(server.process.id().to_string()).status().unwrap();
        assert!(terminated.success());
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let clock = SystemClock::new();
    let status = loop {
        match server.process.try_wait().unwrap() {
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
