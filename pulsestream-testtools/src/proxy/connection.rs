//! One connection through the proxy.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Counters, Direction, Faults};

const BUFFER_BYTES: usize = 16 * 1024;

/// What every connection knows.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) upstream: SocketAddr,
    pub(super) faults: Arc<watch::Sender<Faults>>,
    pub(super) counters: Arc<Counters>,
}

/// Serves connections until the future is dropped, and resets them then.
pub(super) async fn accept(listener: TcpListener, line: Line) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                line.counters.accepted.fetch_add(1, Ordering::SeqCst);
                // Known here, so that a reset hits whoever was counted before it.
                let generation = line.faults.borrow().generation;
                connections.spawn(serve(client, generation, line.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(client: TcpStream, generation: u64, line: Line) {
    line.counters.open.fetch_add(1, Ordering::SeqCst);
    // Dropped also when the task is aborted.
    let _open = Open(line.counters.clone());
    if line.faults.borrow().is_down {
        return;
    }
    // An upstream that is not there looks like a connection that was closed at once.
    let Ok(server) = TcpStream::connect(line.upstream).await else { return };
    let _ = forward(client, server, generation, &line).await;
}

struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How the bytes of one direction ended.
enum End {
    /// The side that sends has finished; the other direction goes on.
    Finished,
    /// The connection is closed as a whole.
    Cut,
}

async fn forward(mut client: TcpStream, mut server: TcpStream, generation: u64, line: &Line) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut faults = line.faults.subscribe();
    let is_reset = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let mut requests = Pump::new(line, Direction::ToServer, client_reads, server_writes);
        let mut replies = Pump::new(line, Direction::ToClient, server_reads, client_writes);
        let both = async {
            let (requests, replies) = (requests.run(), replies.run());
            tokio::pin!(requests, replies);
            tokio::select! {
                end = &mut requests => if matches!(end, Ok(End::Finished)) { let _ = replies.await; },
                end = &mut replies => if matches!(end, Ok(End::Finished)) { let _ = requests.await; },
            }
        };
        tokio::select! {
            () = both => false,
            reset = faults.wait_for(|faults| faults.is_down || faults.generation != generation) => reset.is_ok(),
        }
    };
    if is_reset {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Moves the bytes of one direction.
struct Pump<'a> {
    line: &'a Line,
    faults: watch::Receiver<Faults>,
    direction: Direction,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    is_muted: bool,
}

impl<'a> Pump<'a> {
    fn new(line: &'a Line, direction: Direction, reader: ReadHalf<'a>, writer: WriteHalf<'a>) -> Self {
        Self { line, faults: line.faults.subscribe(), direction, reader, writer, is_muted: false }
    }

    async fn run(&mut self) -> Result<End> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = self.reader.read(&mut buffer).await?;
            if length == 0 {
                self.writer.shutdown().await?;
                return Ok(End::Finished);
            }
            self.line.counters.bytes(self.direction).fetch_add(length as u64, Ordering::SeqCst);
            self.hold(Instant::now()).await;
            let mut bytes = &buffer[..length];
            while !bytes.is_empty() {
                let slice = self.faults.borrow().shape(self.direction).slice_bytes;
                let (piece, rest) =
                    bytes.split_at(slice.map_or(bytes.len(), |most| most.get().min(bytes.len())));
                if let End::Cut = self.deliver(piece).await? {
                    return Ok(End::Cut);
                }
                bytes = rest;
            }
        }
    }

    /// Waits out latency and stall, as they are at any moment.
    async fn hold(&mut self, arrived: Instant) {
        loop {
            let shape = *self.faults.borrow_and_update().shape(self.direction);
            if shape.is_stalled {
                if self.faults.changed().await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = sleep_until(arrived + shape.latency) => return,
                _ = self.faults.changed() => {}
            }
        }
    }

    async fn deliver(&mut self, piece: &[u8]) -> Result<End> {
        let speed = self.faults.borrow().shape(self.direction).bytes_per_second;
        if let Some(speed) = speed {
            sleep(Duration::from_nanos(piece.len() as u64 * 1_000_000_000 / speed.get())).await;
        }
        if self.direction == Direction::ToServer {
            self.writer.write_all(piece).await?;
            return Ok(End::Finished);
        }
        self.is_muted |= self.take_swallow();
        if self.is_muted {
            return Ok(End::Finished);
        }
        let passing = self.take_cut(piece.len());
        self.writer.write_all(&piece[..passing]).await?;
        Ok(if passing < piece.len() { End::Cut } else { End::Finished })
    }

    fn take_swallow(&self) -> bool {
        let mut is_taken = false;
        self.line.faults.send_if_modified(|faults| {
            is_taken = std::mem::take(&mut faults.swallows_next_reply);
            false
        });
        is_taken
    }

    /// Returns how many of `length` bytes may pass.
    fn take_cut(&self, length: usize) -> usize {
        let mut passing = length;
        self.line.faults.send_if_modified(|faults| {
            if let Some(left) = faults.cut_after_server_bytes {
                let allowed = usize::try_from(left).unwrap_or(usize::MAX);
                passing = allowed.min(length);
                faults.cut_after_server_bytes = (allowed >= length).then_some(left - passing as u64);
            }
            false
        });
        passing
    }
}
