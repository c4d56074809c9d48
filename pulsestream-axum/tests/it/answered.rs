//! Every request that was taken is answered: also one that is refused before its body was read, and also when the server stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsestream_axum::Served;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listener::{Listening, rest, statuses};

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_takes_nothing_new() {
    let listening = Listening::start(r#"{"drain_timeout": "10s"}"#).await;
    let shop = listening.server.tenant("shop").await;
    let key = shop.key.strip_prefix("key:").unwrap();
    let event = r#"{"id": "under-way", "event_type": "x"}"#;
    let head = format!(
        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        event.len()
    );
    let mut under_way = listening.connect().await;
    under_way.write_all(head.as_bytes()).await.unwrap();
    // The handler reads the body: the request is under way.
    let mut interim = [0; 25];
    under_way.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 "));
    let idle = listening.connect().await;
    listening.stop.send(()).unwrap();
    while TcpStream::connect(listening.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    under_way.write_all(event.as_bytes()).await.unwrap();
    let answer = rest(&mut under_way).await;
    assert_eq!(statuses(&answer), [200], "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(listening.served.await.unwrap(), Served { refused: 0, cut: 0 });
    drop(idle);
    let found = listening.server.call("GET", "/api/v2/events/under-way", &shop.key, None).await;
    assert_eq!(found.status, 200);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_streams_that_have_no_end() {
    let listening = Listening::start(r#"{"drain_timeout": "20ms"}"#).await;
    let shop = listening.server.tenant("shop").await;
    let key = shop.key.strip_prefix("key:").unwrap();
    let mut stream = listening.connect().await;
    let head = format!("GET /api/v2/events/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 12]).await.unwrap() > 0);
    listening.stop.send(()).unwrap();
    assert_eq!(listening.served.await.unwrap(), Served { refused: 0, cut: 1 });
    rest(&mut stream).await;
}

/// Sends a request in pieces, one after the other was taken, and returns the status of its answer.
async fn in_pieces(stream: &mut TcpStream, head: &str, body: &[u8]) -> u16 {
    stream.set_nodelay(true).unwrap();
    let head = format!("POST {head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in body.chunks(body.len().div_ceil(5)) {
        tokio::task::yield_now().await;
        stream.write_all(piece).await.unwrap();
    }
    answer(stream).await
}

/// Reads one answer to its end, and returns its status.
async fn answer(stream: &mut TcpStream) -> u16 {
    next_answer(stream).await.expect("the connection ended before an answer")
}

/// Reads one answer to its end; `None` when the connection ended before it began.
async fn next_answer(stream: &mut TcpStream) -> Option<u16> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(statuses(&text)[0]);
            }
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            assert!(read.is_empty(), "the connection ended within {text:?}");
            return None;
        }
    }
}

#[tokio::test]
async fn what_is_refused_before_its_body_is_read_is_answered_and_the_connection_goes_on() {
    let settings = r#"{"max_body_bytes": 3000000, "max_concurrent_requests": 1, "body_timeout": "20s"}"#;
    let listening = Listening::start(settings).await;
    let shop = listening.server.tenant("shop").await;
    let key = format!("\r\nX-API-Key: {}", shop.key.strip_prefix("key:").unwrap());
    let body = vec![b'x'; 2_000_000];
    let mut stream = listening.connect().await;
    for (path, headers, expected) in [
        ("/api/v2/events", "", 401),
        ("/api/v1/ingestion/events", "\r\nX-API-Key: ps_live_x", 401),
        ("/api/v2/users", &*key, 403),
        ("/api/v2/events", &format!("{key}\r\nContent-Type: text/plain"), 415),
        ("/api/v2/events", &format!("{key}\r\nContent-Encoding: br"), 415),
        ("/api/v2/events", &format!("{key}\r\nIdempotency-Key: "), 400),
        ("/api/v2/nothing", &key, 404),
        ("/api/v2/tenant", &key, 405),
        ("/api/v2/events", &key, 422),
    ] {
        let status = in_pieces(&mut stream, &format!("{path} HTTP/1.1{headers}"), &body).await;
        assert_eq!(status, expected, "{path}");
    }
    // One request holds the only place: others are refused at once, and read to their end all the same.
    let head = format!("POST /api/v2/events HTTP/1.1\r\nHost: x{key}\r\nContent-Length: 19\r\n\r\n");
    let mut holder = listening.connect().await;
    holder.write_all(head.as_bytes()).await.unwrap();
    let busy = async || listening.server.get("/metrics").await.text().contains("http_in_flight_requests 2\n");
    while !busy().await {
        tokio::task::yield_now().await;
    }
    let refused = in_pieces(&mut stream, &format!("/api/v2/events HTTP/1.1{key}"), &body).await;
    assert_eq!(refused, 503);
    holder.write_all(br#"{"event_type": "x"}"#).await.unwrap();
    assert_eq!(answer(&mut holder).await, 200);
    assert_eq!(
        in_pieces(&mut stream, &format!("/api/v2/events HTTP/1.1{key}"), br#"{"event_type": "x"}"#).await,
        200
    );
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_too_much_reads_why() {
    let listening = Listening::start(r#"{"max_body_bytes": 1000}"#).await;
    for (length, chunked) in [(5_000_000, false), (5_000_000, true)] {
        let mut stream = listening.connect().await;
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {length}")
        };
        let head = format!("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let body = vec![b' '; length];
        if chunked {
            stream.write_all(format!("{length:x}\r\n").as_bytes()).await.unwrap();
        }
        // Whoever sends everything before it reads must be able to.
        stream.write_all(&body).await.unwrap();
        assert_eq!(answer(&mut stream).await, 413, "chunked: {chunked}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_without_its_body() {
    let listening = Listening::start("{}").await;
    let head =
        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n";
    let answer = listening.exchange(head.as_bytes()).await;
    assert_eq!(statuses(&answer), [401], "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_what_it_took_and_loses_nothing() {
    let settings = r#"{"drain_timeout": "20s"}"#;
    let listening = Listening::start(settings).await;
    let shop = listening.server.tenant("shop").await;
    let id = shop.id.parse().unwrap();
    let active = pulsestream::core::ports::identity::TenantStatus::Active;
    listening.server.ps.accounts().set_tenant_limits(id, 1_000_000, 1_000_000, active).await.unwrap();
    let key = shop.key.strip_prefix("key:").unwrap().to_owned();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (address, key, answered) = (listening.address, key.clone(), answered.clone());
            tokio::spawn(async move {
                let mut stored = Vec::new();
                let mut stream = TcpStream::connect(address).await.unwrap();
                for number in 0.. {
                    let id = format!("{client}-{number}");
                    let event = format!(r#"{{"id": "{id}", "event_type": "x"}}"#);
                    let request = format!(
                        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {}\r\n\r\n{event}",
                        event.len()
                    );
                    // Where the server has ended the connection there is nothing to write to.
                    let _ = stream.write_all(request.as_bytes()).await;
                    let Some(status) = next_answer(&mut stream).await else { break };
                    assert_eq!(status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                    stored.push(id);
                }
                stored
            })
        })
        .collect();
    while answered.load(Ordering::Relaxed) < 500 {
        tokio::task::yield_now().await;
    }
    listening.stop.send(()).unwrap();
    assert_eq!(listening.served.await.unwrap(), Served { refused: 0, cut: 0 });
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    let mut found = BTreeSet::new();
    let mut path = "/api/v2/events?limit=1000".to_owned();
    loop {
        let page = listening.server.call("GET", &path, &shop.key, None).await.json();
        for event in page["events"].as_array().unwrap() {
            assert!(found.insert(event["id"].as_str().unwrap().to_owned()), "{event} is there twice");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v2/events?limit=1000&cursor={cursor}");
    }
    assert!(acknowledged.len() >= 500);
    assert_eq!(found, acknowledged, "what was taken was answered, and what was answered is stored");
}
