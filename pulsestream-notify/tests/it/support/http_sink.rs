//! An HTTP receiver that lies.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// What the receiver does after it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends these bytes and then nothing, and keeps the connection.
    SendAndHang(Vec<u8>),
    /// Sends these bytes, then `x` for ever.
    SendEndlessly(Vec<u8>),
    /// Closes the connection with a reset.
    Reset,
    /// Sends the request back as the text of an answer with this status.
    Echo(u16),
    /// Waits until it is released, then answers 200.
    Hold,
}

impl Act {
    /// An answer with a status and headers, each with its line end.
    pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Send(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Debug)]
struct State {
    script: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<Request>>,
    counts: watch::Sender<Counts>,
    release: Semaphore,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) acted: usize,
}

/// A receiver on 127.0.0.1. It follows its script, one act for each request, and answers 204 afterwards.
#[derive(Debug)]
pub(crate) struct HttpSink {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl HttpSink {
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        Self::start_on("127.0.0.1:0", script).await
    }

    /// Starts a receiver that speaks TLS.
    pub(crate) async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::start_with("127.0.0.1:0", [], Some(tls)).await
    }

    pub(crate) async fn start_on(address: &str, script: impl IntoIterator<Item = Act>) -> Self {
        Self::start_with(address, script, None).await
    }

    async fn start_with(
        address: &str,
        script: impl IntoIterator<Item = Act>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Mutex::new(script.into_iter().collect()),
            requests: Mutex::default(),
            counts: watch::channel(Counts::default()).0,
            release: Semaphore::new(0),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.counts.send_modify(|counts| counts.connections += 1);
                match tls.clone() {
                    Some(tls) => tokio::spawn(serve_tls(stream, tls, shared.clone())),
                    None => tokio::spawn(serve(stream, shared.clone())),
                };
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts.borrow()
    }

    /// Waits until the receiver has come this far.
    pub(crate) async fn reached(&self, is_there: impl FnMut(&Counts) -> bool) {
        self.state.counts.subscribe().wait_for(is_there).await.unwrap();
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn release(&self, held: usize) {
        self.state.release.add_permits(held);
    }
}

async fn serve_tls(stream: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    let Ok(mut stream) = tls.accept(stream).await else { return };
    let Some(request) = read(&mut stream).await else { return };
    state.requests.lock().unwrap().push(request);
    state.counts.send_modify(|counts| counts.requests += 1);
    let _ = stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let Some(request) = read(&mut stream).await else { return };
    let echo = format!("{}\r\n\r\n{}", request.head, String::from_utf8_lossy(&request.body));
    state.requests.lock().unwrap().push(request);
    state.counts.send_modify(|counts| counts.requests += 1);
    let act = state.script.lock().unwrap().pop_front().unwrap_or_else(|| Act::answer(204, "", ""));
    let acted = || state.counts.send_modify(|counts| counts.acted += 1);
    match act {
        Act::Send(bytes) => {
            let _ = stream.write_all(&bytes).await;
            acted();
        }
        Act::SendAndHang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            acted();
            // Nothing more is sent; the connection ends when the client goes.
            let _ = stream.read(&mut [0; 1]).await;
        }
        Act::SendEndlessly(bytes) => {
            acted();
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
        }
        Act::Reset => {
            let _ = stream.set_zero_linger();
            acted();
        }
        Act::Echo(status) => {
            let Act::Send(bytes) = Act::answer(status, "content-type: text/plain\r\n", &echo) else { return };
            let _ = stream.write_all(&bytes).await;
            acted();
        }
        Act::Hold => {
            state.release.acquire().await.unwrap().forget();
            let Act::Send(bytes) = Act::answer(200, "", "") else { return };
            let _ = stream.write_all(&bytes).await;
            acted();
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            let request = Request { head: head.trim_end().to_owned(), body: Vec::new() };
            let length: usize = request.header("content-length").unwrap_or("0").parse().unwrap();
            break (request.head, length);
        }
    };
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { head, body: bytes })
}
