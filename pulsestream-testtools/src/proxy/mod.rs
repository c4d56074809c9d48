//! A TCP proxy that misbehaves on command.

mod connection;

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

/// What is done to the bytes of one direction.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    latency: Duration,
    bytes_per_second: Option<NonZeroU64>,
    slice_bytes: Option<NonZeroUsize>,
    is_stalled: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    to_server: Shape,
    to_client: Shape,
    is_down: bool,
    /// Connections accepted under a lower number are reset.
    generation: u64,
    /// How many more bytes of the server pass before the connection they are on is cut.
    cut_after_server_bytes: Option<u64>,
    /// The connection on which the server speaks next is never heard again.
    swallows_next_reply: bool,
}

impl Faults {
    fn shape(&self, direction: Direction) -> &Shape {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    from_client: AtomicU64,
    from_server: AtomicU64,
}

/// Forwards every connection to a server, and does harm when told to.
///
/// It runs in a thread of its own, so it works for tests in any runtime and goes on while a test blocks. Every method takes
/// effect at once, on open connections as well. Dropping it resets what is open.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    faults: Arc<watch::Sender<Faults>>,
    counters: Arc<Counters>,
    lifeline: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy on a free port in front of `upstream`, which need not be there yet.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let faults = Arc::new(watch::Sender::new(Faults::default()));
        let counters = Arc::new(Counters::default());
        let (lifeline, mut ended) = mpsc::channel(1);
        let line = connection::Line { upstream, faults: faults.clone(), counters: counters.clone() };
        let thread = std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended.recv() => {}
                    () = connection::accept(listener, line) => {}
                }
            });
        })?;
        Ok(Self { address, faults, counters, lifeline: Some(lifeline), thread: Some(thread) })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays every chunk by this long; chunks of one connection queue behind each other.
    pub fn set_latency(&self, direction: Direction, latency: Duration) {
        self.reshape(direction, |shape| shape.latency = latency);
    }

    /// Limits the speed of each connection; `None` lifts the limit.
    pub fn set_bandwidth(&self, direction: Direction, bytes_per_second: Option<NonZeroU64>) {
        self.reshape(direction, |shape| shape.bytes_per_second = bytes_per_second);
    }

    /// Forwards at most so many bytes with one write, so that the other side reads a message in pieces; `None` lifts it.
    pub fn set_slice(&self, direction: Direction, slice_bytes: Option<NonZeroUsize>) {
        self.reshape(direction, |shape| shape.slice_bytes = slice_bytes);
    }

    /// Holds every byte back, on open and new connections, until it is set to false: a slow reply with an end that the test
    /// chooses.
    pub fn set_stalled(&self, direction: Direction, is_stalled: bool) {
        self.reshape(direction, |shape| shape.is_stalled = is_stalled);
    }

    /// While down, open connections are reset and new ones are closed as soon as they are accepted.
    pub fn set_down(&self, is_down: bool) {
        self.faults.send_modify(|faults| faults.is_down = is_down);
    }

    /// Resets every open connection (RST, both sides); new ones work.
    pub fn reset(&self) {
        self.faults.send_modify(|faults| faults.generation += 1);
    }

    /// Lets `bytes` more bytes of the server through, counted over all connections from now on, and then closes the
    /// connection on which the next byte arrives. Happens once.
    ///
    /// With 0 the next request is executed and its reply is lost, which is how a commit becomes ambiguous. Counting up from 0
    /// until a test case passes without a cut tries every place in a conversation.
    pub fn cut_after_server_bytes(&self, bytes: u64) {
        self.faults.send_modify(|faults| faults.cut_after_server_bytes = Some(bytes));
    }

    /// Returns whether a cut was asked for and has not happened yet.
    pub fn is_cut_pending(&self) -> bool {
        self.faults.borrow().cut_after_server_bytes.is_some()
    }

    /// Throws away what the server says next, and everything after it on the same connection, which stays open: the client
    /// has to find out by a timeout. Happens to one connection.
    pub fn swallow_reply(&self) {
        self.faults.send_modify(|faults| faults.swallows_next_reply = true);
    }

    /// Lifts every fault; what was held back is delivered, what was lost stays lost.
    pub fn heal(&self) {
        self.faults
            .send_modify(|faults| *faults = Faults { generation: faults.generation, ..Faults::default() });
    }

    /// Returns how many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Returns how many connections are open.
    pub fn open(&self) -> u64 {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Returns how many bytes came from this side so far, delivered or not.
    pub fn received_bytes(&self, direction: Direction) -> u64 {
        self.counters.bytes(direction).load(Ordering::SeqCst)
    }

    fn reshape(&self, direction: Direction, change: impl FnOnce(&mut Shape)) {
        self.faults.send_modify(|faults| match direction {
            Direction::ToServer => change(&mut faults.to_server),
            Direction::ToClient => change(&mut faults.to_client),
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Counters {
    fn bytes(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.from_client,
            Direction::ToClient => &self.from_server,
        }
    }
}
