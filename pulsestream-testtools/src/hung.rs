//! A receiver that takes connections and never speaks the protocol to its end.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test that uses it")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long it waits between two bytes that it drips.
const DRIP: Duration = Duration::from_secs(1);

/// What it says, a byte at a time: the first ones, and then one over and over.
type Drops = (&'static [u8], u8);

/// A receiver on 127.0.0.1 that holds every connection until it is dropped.
#[derive(Debug)]
pub struct HungReceiver {
    /// Where it listens.
    pub address: SocketAddr,
    heard: watch::Sender<usize>,
    _connections: JoinSet<()>,
}

impl HungReceiver {
    /// Starts one that reads and says nothing.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn silent() -> Self {
        Self::start(None).await
    }

    /// Starts one that says `start` and then `rest` over and over, a byte a second.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn dripping(start: &'static [u8], rest: u8) -> Self {
        Self::start(Some((start, rest))).await
    }

    async fn start(drops: Option<Drops>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = watch::channel(0).0;
        let counter = heard.clone();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut held = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.spawn(hold(stream, drops, counter.clone()));
            }
        });
        Self { address, heard, _connections: connections }
    }

    /// Waits until this many clients are here: they have said something, or they are being dripped on.
    ///
    /// # Panics
    /// Never, while the receiver lives.
    pub async fn holds(&self, clients: usize) {
        self.heard.subscribe().wait_for(|heard| *heard >= clients).await.unwrap();
    }

    /// Returns how many clients came.
    pub fn clients(&self) -> usize {
        *self.heard.borrow()
    }
}

async fn hold(mut stream: TcpStream, drops: Option<Drops>, heard: watch::Sender<usize>) {
    let Some((start, rest)) = drops else {
        let _ = stream.read(&mut [0; 1]).await;
        heard.send_modify(|heard| *heard += 1);
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        return;
    };
    heard.send_modify(|heard| *heard += 1);
    for byte in start.iter().chain(std::iter::repeat(&rest)) {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(DRIP).await;
    }
}
