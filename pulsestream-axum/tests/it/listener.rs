//! The listener: what it takes from strangers, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use pulsestream::core::settings::Settings;
use pulsestream_axum::{Served, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::Server;

/// A server on a real socket.
pub(crate) struct Listening {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<Served>,
}

impl Listening {
    /// Listens with settings of the section `http`.
    pub(crate) async fn start(http: &str) -> Self {
        let settings = format!(r#"{{"http": {http}}}"#);
        let server = Server::with_settings(&settings).await;
        let http = Settings::from_json(&settings).unwrap().http;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let app = server.router.clone();
        let served = tokio::spawn(async move {
            serve(listener, app, &http, async {
                let _ = stopped.await;
            })
            .await
        });
        Self { server, address, stop, served }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and returns all that is answered until the server closes.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }
}

/// Reads until the server closes, which it must do.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    // A reset is a close too.
    let _ = read.expect("the server must close the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the statuses of all answers.
pub(crate) fn statuses(answer: &str) -> Vec<u16> {
    let starts = answer.match_indices("HTTP/1.1 ");
    starts.map(|(at, start)| answer[at + start.len()..][..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn requests_that_two_parsers_could_read_differently_are_refused() {
    let listening = Listening::start("{}").await;
    let shop = listening.server.tenant("shop").await;
    let key = shop.key.strip_prefix("key:").unwrap();
    let smuggled = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let refused: [(&str, &str); 15] = [
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4"),
        ("a list of lengths", "Content-Length: 3, 4"),
        ("a signed length", "Content-Length: +3"),
        ("a negative length", "Content-Length: -3"),
        ("a hexadecimal length", "Content-Length: 0x3"),
        ("a length beyond 64 bits", "Content-Length: 99999999999999999999"),
        ("chunked is not last", "Transfer-Encoding: chunked, identity"),
        ("an unknown coding", "Transfer-Encoding: xchunked"),
        ("a folded header", "X-A: 1\r\n two\r\nContent-Length: 0"),
        ("a space before the colon", "Content-Length : 0"),
        ("a space in a name", "X A: 1\r\nContent-Length: 0"),
        ("a NUL in a value", "X-A: \0\r\nContent-Length: 0"),
        ("a return in a value", "X-A: 1\rX-B: 2\r\nContent-Length: 0"),
        ("no colon", "X-A\r\nContent-Length: 0"),
        ("a name that is empty", ": 1\r\nContent-Length: 0"),
    ];
    for (name, headers) in refused {
        let head =
            format!("POST /api/v2/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n{headers}\r\n\r\n");
        let answer = listening.exchange(format!("{head}0\r\n\r\n{smuggled}").as_bytes()).await;
        assert_eq!(statuses(&answer), [400], "{name}: {answer}");
    }
    // A length beside a coding: the coding counts, and nothing after the end of the chunks is a second request with another
    // body than a proxy saw.
    let head = format!(
        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let answer = listening.exchange(format!("{head}0\r\n\r\n{smuggled}").as_bytes()).await;
    assert!(!statuses(&answer).contains(&200), "{answer}");
    for (name, bytes) in [
        ("HTTP/0.9", "GET /health\r\n\r\n"),
        ("another version", "GET /health HTTP/3.7\r\n\r\n"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03"),
        ("no request", "\0\0\0\0\r\n\r\n"),
    ] {
        let answer = listening.exchange(bytes.as_bytes()).await;
        assert!(matches!(statuses(&answer)[..], [] | [400] | [505]), "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_request_says_once_which_host_it_is_for() {
    let listening = Listening::start("{}").await;
    for (name, version, hosts, expected) in [
        ("a name", "1.1", "Host: pulse.example\r\n", 200),
        ("an address and a port", "1.1", "Host: [::1]:8600\r\n", 200),
        ("an empty one", "1.1", "Host:\r\n", 200),
        ("none", "1.1", "", 400),
        ("two", "1.1", "Host: a\r\nHost: a\r\n", 400),
        ("with a user", "1.1", "Host: user@pulse.example\r\n", 400),
        ("with a path", "1.1", "Host: pulse.example/x\r\n", 400),
        ("none, which HTTP/1.0 may", "1.0", "", 200),
    ] {
        let request = format!("GET /health HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let mut stream = listening.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert_eq!(status, Some(expected), "{name}: {answer}");
    }
}

#[tokio::test]
async fn chunks_that_lie_about_their_size_end_the_connection() {
    let listening = Listening::start(r#"{"max_body_bytes": 1000}"#).await;
    let shop = listening.server.tenant("shop").await;
    let key = shop.key.strip_prefix("key:").unwrap();
    let head = format!(
        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for (name, chunks, expected) in [
        ("no number", "zz\r\n{}\r\n0\r\n\r\n".to_owned(), 400),
        ("a size beyond 64 bits", "fffffffffffffffff\r\n".to_owned(), 400),
        ("more than it says", "1\r\n{}\r\n0\r\n\r\n".to_owned(), 400),
        ("a long extension", format!("1;{}\r\n", "x".repeat(100_000)), 400),
        ("more than may be", format!("3e9\r\n{}\r\n0\r\n\r\n", " ".repeat(1_001)), 413),
    ] {
        let answer = listening.exchange(format!("{head}{chunks}").as_bytes()).await;
        assert_eq!(statuses(&answer), [expected], "{name}: {answer}");
    }
}

#[tokio::test]
async fn heads_have_limits_in_number_and_size() {
    let listening = Listening::start(r#"{"max_headers": 20, "max_header_bytes": 8192}"#).await;
    let get = |headers: usize, bytes: usize| {
        let mut head = String::from("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for number in 2..headers {
            head.push_str(&format!("X-{number}: 1\r\n"));
        }
        let filler = bytes.saturating_sub(head.len() + 2);
        if filler > 10 {
            head.push_str(&format!("X-F: {}\r\n", "f".repeat(filler - 7)));
        }
        head + "\r\n"
    };
    for (headers, bytes, expected) in
        [(20, 0, 200), (21, 0, 431), (4, 8_192, 200), (4, 8_193 + 8_192, 431), (4, 1 << 20, 431)]
    {
        let answer = listening.exchange(get(headers, bytes).as_bytes()).await;
        assert_eq!(statuses(&answer), [expected], "{headers} headers, {bytes} bytes: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000));
    let answer = listening.exchange(long.as_bytes()).await;
    assert!(matches!(statuses(&answer)[..], [414] | [431]), "{answer}");
}

#[tokio::test]
async fn slow_heads_idle_connections_and_slow_bodies_end() {
    let listening = Listening::start(r#"{"header_timeout": "50ms", "body_timeout": "50ms"}"#).await;
    let mut slow = listening.connect().await;
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: ").await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(matches!(statuses(&answer)[..], [] | [408]), "{answer}");
    assert_eq!(rest(&mut listening.connect().await).await, "", "a connection without a request ends");
    let mut idle = listening.connect().await;
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&rest(&mut idle).await), [200], "a connection that sends no further request ends");
    let shop = listening.server.tenant("shop").await;
    let key = shop.key.strip_prefix("key:").unwrap();
    let mut body = listening.connect().await;
    let head = format!(
        "POST /api/v2/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 100\r\n\r\n{{"
    );
    body.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(statuses(&rest(&mut body).await), [408]);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let listening = Listening::start(r#"{"max_connections": 2}"#).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = listening.connect().await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 12]).await.unwrap() > 0);
        held.push(stream);
    }
    let refused = listening.exchange(b"").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    drop(held.pop());
    // The place is free as soon as the server has seen the end.
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    while statuses(&listening.exchange(request).await) != [200] {
        tokio::task::yield_now().await;
    }
    listening.stop.send(()).unwrap();
    assert!(listening.served.await.unwrap().refused >= 1);
}
