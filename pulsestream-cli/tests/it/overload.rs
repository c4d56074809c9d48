//! More than the program can do, for as long as it takes to see whether it keeps any of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::program::path;
use crate::server::{Server, exchange, request};

const CLIENTS: usize = 32;
const EVENTS: u64 = 50;
/// Batches after which memory is what it stays, and after which the test ends.
const WARM: u64 = 100;
const ENOUGH: u64 = 400;
/// How much more memory than when it was warm the program may take; what is offered meanwhile is many times that.
const MAX_GROWTH_MIB: u64 = 24;
const LOGIN: &str =
    r#"{"email": "ann@shop.example", "password": "a long enough secret", "tenant_slug": "shop"}"#;

/// Memory of the program in MiB, from the second number of `statm`, which counts pages of 4 KiB.
fn resident_mib(server: &Server) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", server.process.id())).ok()?;
    Some((text.split(' ').nth(1)?.parse::<u64>().ok()? * 4_096) >> 20)
}

fn batch() -> String {
    let event = r#"{"event_type": "api_call", "title": "POST /checkout", "severity": "error", "message": "the payment was refused",
        "source": {"service": "shop", "endpoint": "/checkout", "method": "POST"}, "metrics": {"status_code": 502},
        "payload": {"order": 4711, "amount": 129.9, "note": "it stands for what applications put into their events"}}"#;
    format!("[{}]", vec![event; usize::try_from(EVENTS).unwrap()].join(","))
}

#[test]
fn under_overload_memory_is_flat_and_everything_is_accepted_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    // Little is held in memory, so that what is kept by mistake shows soon.
    let written = r#"{"http": {"max_concurrent_requests": 2}, "embedded": {"seal_bytes": 1048576, "cache_bytes": 1048576}}"#;
    std::fs::write(&settings, written).unwrap();
    let flags = ["--config", path(&settings), "--admin-tenant", "shop", "--admin-email", "ann@shop.example"];
    let flags = [&flags[..], &["--admin-password", "a long enough secret"]].concat();
    let server = Server::start(&folder.path().join("store"), &flags);
    let (status, answer) = request(server.address(), "POST", "/api/v1/auth/login", "", LOGIN);
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let token = answer["access_token"].as_str().unwrap();

    let body = batch();
    let (accepted, refused, offered) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let send_on = || {
        while !stop.load(Ordering::Relaxed) {
            offered.fetch_add(1, Ordering::Relaxed);
            let (status, head, answer) =
                exchange(server.address(), "POST", "/api/v2/events", token, &body).expect("an answer");
            match status {
                200 => accepted.fetch_add(1, Ordering::Relaxed),
                503 => {
                    assert!(head.lines().any(|line| line.starts_with("retry-after: ")), "{head}");
                    refused.fetch_add(1, Ordering::Relaxed)
                }
                _ => panic!("{status}: {answer}"),
            };
        }
    };
    let (mut warm, mut most) = (None, None);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send_on)).collect();
        while accepted.load(Ordering::Relaxed) < ENOUGH && !clients.iter().any(|client| client.is_finished())
        {
            std::thread::sleep(Duration::from_millis(20));
            if accepted.load(Ordering::Relaxed) >= WARM {
                most = most.max(resident_mib(&server));
                warm = warm.or(most);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (accepted, refused, offered) = (read(&accepted), read(&refused), read(&offered));
    assert_eq!(accepted + refused, offered);
    assert!(refused > accepted, "{accepted} accepted, {refused} refused: that is no overload");
    let path = "/api/v2/events?count=true&limit=1";
    let (status, found) = request(server.address(), "GET", path, token, "");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((status, found["total"].as_u64()), (200, Some(accepted * EVENTS)), "{found}");
    if let (Some(warm), Some(most)) = (warm, most) {
        let offered_mib = (offered * body.len() as u64) >> 20;
        assert!(most <= warm + MAX_GROWTH_MIB, "{warm} MiB grew to {most} while {offered_mib} MiB came in");
        assert!(offered_mib > 2 * MAX_GROWTH_MIB, "only {offered_mib} MiB came in");
    }
}
