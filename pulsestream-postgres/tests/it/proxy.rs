//! A TCP proxy before the server that breaks connections on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Forwards everything until it is told to cut.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    /// Bytes from the server that still pass; negative: no limit.
    server_bytes_left: Arc<AtomicI64>,
}

impl Proxy {
    /// Starts before the server at `url`.
    pub(crate) async fn start(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (server, path) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let server_bytes_left = Arc::new(AtomicI64::new(-1));
        let (left, server) = (server_bytes_left.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(upstream) = TcpStream::connect(&server).await else { continue };
                let _ = client.set_nodelay(true);
                let _ = upstream.set_nodelay(true);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = upstream.into_split();
                let left = left.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(from_client, to_server) => {}
                        () = forward_limited(from_server, to_client, left) => {}
                    }
                });
            }
        });
        let at = if user.is_empty() { String::new() } else { format!("{user}@") };
        Self { url: format!("{scheme}://{at}{own}/{path}"), server_bytes_left }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Breaks each connection once so many bytes more came from the server, over all connections together.
    pub(crate) fn cut_after_server_bytes(&self, bytes: i64) {
        self.server_bytes_left.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.server_bytes_left.store(-1, Ordering::SeqCst);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 16_384];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn forward_limited(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: Arc<AtomicI64>) {
    let mut buffer = vec![0; 16_384];
    while let Ok(length) = from.read(&mut buffer).await {
        let allowed = left.load(Ordering::SeqCst);
        let passing = if allowed < 0 { length } else { length.min(usize::try_from(allowed).unwrap()) };
        if length == 0 || to.write_all(&buffer[..passing]).await.is_err() {
            return;
        }
        if allowed >= 0 {
            left.fetch_sub(i64::try_from(passing).unwrap(), Ordering::SeqCst);
            if passing < length {
                return;
            }
        }
    }
}
