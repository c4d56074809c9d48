//! Killing Redis, and nodes of an application, with the ingest queue in front of PostgreSQL.

pub(crate) mod check;
mod node;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pulsestream::{PulseStream, Unlimited};
use pulsestream_core::env::{Clock, Env, SystemClock};
use pulsestream_core::testkit::Random;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_redis::RedisConfig;
use pulsestream_testtools::{POSTGRES, PostgresServer, REDIS, RedisServer, find_program};
use tokio::runtime::Runtime;

use crate::load::NUMBERS_OF_A_CHILD;

pub(crate) use self::node::run as run_node;

const NODES: u64 = 3;
/// Acknowledgements between two kills.
const PROGRESS: usize = 60;
/// How long something may take until it counts as stuck.
const LIMIT: Duration = Duration::from_secs(90);
/// Shorter than in production, so that the end need not be waited for.
const VISIBILITY_TIMEOUT_MS: u64 = 3_000;

/// Kills Redis in each cycle and one of three nodes in every second, then checks the store.
pub(crate) fn run(cycles: u64, seed: u64) -> Result<()> {
    let (Some(redis), Some(postgres)) = (find_program(&REDIS), find_program(&POSTGRES)) else {
        return Err(Error::new(ErrorKind::Unsupported, "torture.redis", "redis and postgresql are needed"));
    };
    let mut redis = RedisServer::start(&redis, &[]).map_err(failed)?;
    let postgres = PostgresServer::start(&postgres, &[]).map_err(failed)?;
    let random = Random::new(seed);
    let acknowledged = Acknowledged::default();
    let start = |instance: u64| Node::start(&postgres.url(), &redis.url(), instance, &acknowledged);
    let mut nodes = (0..NODES).map(start).collect::<Result<Vec<_>>>()?;
    let mut instances = NODES;
    let mut longest = Duration::ZERO;
    for cycle in 0..cycles {
        longest = longest.max(acknowledged.wait_for(PROGRESS)?);
        wait(random.below(200));
        redis.kill().map_err(failed)?;
        if cycle % 2 == 1 {
            // While Redis is down, or when it is back.
            let is_down = random.chance(0.5);
            if !is_down {
                redis.restart().map_err(failed)?;
                wait(random.below(100));
            }
            let place = usize::try_from(random.below(NODES)).unwrap_or_default();
            nodes.remove(place).kill()?;
            nodes.push(Node::start(&postgres.url(), &redis.url(), instances, &acknowledged)?);
            instances += 1;
            if is_down {
                redis.restart().map_err(failed)?;
            }
        } else {
            wait(random.below(300));
            redis.restart().map_err(failed)?;
        }
        if cycle % 10 == 9 {
            println!("{} kills, {} acknowledged", cycle + 1, acknowledged.count());
        }
    }
    acknowledged.wait_for(PROGRESS)?;
    for node in nodes {
        node.kill()?;
    }
    let acknowledged = acknowledged.take();
    let present = runtime()?.block_on(finish(&postgres.url(), &redis.url(), &acknowledged))?;
    println!(
        "{cycles} kills of redis, {} of nodes, {} acknowledged, {present} in the store, each once; \
         at most {:.1} s without an acknowledgement",
        instances - NODES,
        acknowledged.len(),
        longest.as_secs_f64()
    );
    Ok(())
}

/// Stores what is left in the queue, and checks.
async fn finish(postgres: &str, redis: &str, acknowledged: &BTreeSet<u64>) -> Result<usize> {
    let ps = open(postgres, redis).await?;
    let started = ps.env().monotonic();
    while let Some(queue) = ps.ingest().queue() {
        let depth = queue.depth().await?;
        if depth.dead > 0 {
            let reason = queue.dead_letters(1).await?.pop().map(|letter| letter.reason).unwrap_or_default();
            return Err(Error::new(ErrorKind::Internal, "torture.redis", "there are dead letters")
                .with_context("reason", reason));
        }
        if depth.batches == 0 {
            break;
        }
        if ps.env().monotonic().saturating_sub(started) > LIMIT {
            return Err(Error::new(ErrorKind::Internal, "torture.redis", "the queue does not become empty"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let present = check::check(&ps, acknowledged).await?;
    ps.close().await?;
    Ok(present)
}

/// Opens the stores as a node of an application does, with the queue in front.
async fn open(postgres: &str, redis: &str) -> Result<PulseStream> {
    let mut config = RedisConfig::new(redis);
    config.queue.visibility_timeout_ms = VISIBILITY_TIMEOUT_MS;
    let queue = pulsestream_redis::open(config, Env::system()).await?.ingest_queue();
    let builder = PulseStream::builder().with_rate_limiter(Arc::new(Unlimited)).with_ingest_queue(queue);
    builder.open(&format!("{postgres}?redis={redis}")).await
}

fn runtime() -> Result<Runtime> {
    Runtime::new().map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "torture.redis", "a process could not be handled").with_source(error)
}

/// The numbers that all nodes have printed.
#[derive(Debug, Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<u64>>>);

impl Acknowledged {
    fn add(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there are so many more, and returns how long it took.
    fn wait_for(&self, more: usize) -> Result<Duration> {
        let (before, clock) = (self.count(), SystemClock::default());
        loop {
            let took = clock.monotonic();
            if self.count() >= before + more {
                return Ok(took);
            }
            if took > LIMIT {
                return Err(Error::new(ErrorKind::Internal, "torture.redis", "nothing is accepted any more"));
            }
            wait(5);
        }
    }
}

/// A node in a process of its own; killed when it is dropped.
struct Node {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Node {
    fn start(postgres: &str, redis: &str, instance: u64, acknowledged: &Acknowledged) -> Result<Self> {
        let program = std::env::current_exe().map_err(failed)?;
        let start = (instance * NUMBERS_OF_A_CHILD).to_string();
        let mut command = Command::new(program);
        command.args(["redis-node", postgres, redis, &start]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        let acknowledged = acknowledged.clone();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(std::io::Result::ok);
            lines.filter_map(|line| line.parse().ok()).for_each(|number| acknowledged.add(number));
        });
        Ok(Self { child, reader: Some(reader) })
    }

    /// Kills it, and waits until all that it has printed is read.
    fn kill(mut self) -> Result<()> {
        self.end().map_err(failed)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[allow(clippy::disallowed_methods, reason = "the kill must come at a moment that nothing announces")]
fn wait(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
