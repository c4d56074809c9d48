//! Kills a program that evaluates rules and delivers notifications, at random moments, and checks that nobody notices.

mod child;
mod places;
mod script;
mod sink;
mod verdict;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pulsestream_core::testkit::Random;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};

pub(crate) use self::child::run as run_child;
use self::places::Places;
use self::sink::Sink;
use self::verdict::Checked;

/// Cycles after which a new store is begun, so that a check stays short.
const CYCLES_OF_A_STORE: u64 = 25;
/// Ticks of the last child of a store, before it lets everything come to its end.
const LAST_TICKS: u64 = 40;

/// Runs so many cycles over the stores that `place` names.
pub(crate) fn run(cycles: u64, seed: u64, place: Option<&str>) -> Result<()> {
    let places = Places::new(place)?;
    let (random, sink) = (Random::new(seed), Sink::start()?);
    let (mut total, mut done, mut in_start) = (Checked::default(), 0, 0);
    for number in 0..cycles.div_ceil(CYCLES_OF_A_STORE) {
        let store = places.store(number);
        let (mut tick, mut said) = (0, BTreeSet::new());
        for _ in 0..CYCLES_OF_A_STORE.min(cycles - done) {
            let gap = gap(&random);
            let running = Running::start(&store, sink.url(), tick, gap, None)?;
            let is_early = random.below(5) == 0;
            in_start += u64::from(is_early);
            let delay = Duration::from_micros(random.below(places.longest_life_us()));
            let ticks = running.kill(is_early, delay)?;
            // Events of the tick after the last that it said may be there already: the clock must not be set back before it.
            tick = match ticks.last() {
                None => tick,
                Some(last) if *last == tick => tick + 1 + gap,
                Some(last) => last + 1,
            };
            said.extend(ticks);
            done += 1;
        }
        let running = Running::start(&store, sink.url(), tick, gap(&random), Some(LAST_TICKS))?;
        let (ticks, end) = running.finish()?;
        said.extend(ticks);
        let end = Timestamp::from_micros(end);
        let shown = || if places.keeps_stores() { store.clone() } else { format!("number {number}") };
        total += check(&store, end, &said, &sink).map_err(|error| error.with_context("store", shown()))?;
        places.remove(&store)?;
        println!(
            "{done} kills, {in_start} of them during the start; {} acknowledged events are there, each once; {} alerts with {} \
             changes are those of a replay; {} notifications delivered, {} of them sent again under their id",
            total.events, total.alerts, total.changes, total.deliveries, total.again
        );
    }
    if total.deliveries == 0 && cycles > 0 {
        return Err(Error::new(
            ErrorKind::Internal,
            "torture.alerting",
            "nothing was told: there was no test",
        ));
    }
    Ok(())
}

/// Most restarts follow at once, some after a while.
fn gap(random: &Random) -> u64 {
    if random.below(3) == 0 { random.below(30) } else { 0 }
}

fn check(store: &str, end: Timestamp, said: &BTreeSet<u64>, sink: &Sink) -> Result<Checked> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("start a runtime", error))?;
    runtime.block_on(verdict::check(store, end, said, &sink.take()))
}

fn failed(what: &'static str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "torture.alerting", what).with_source(error)
}

/// A child, and what it says.
struct Running {
    child: Child,
    lines: Receiver<i64>,
}

impl Running {
    fn start(store: &str, sink: &str, tick: u64, gap: u64, ticks: Option<u64>) -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| failed("find the program", error))?;
        let mut command = Command::new(program);
        command.arg("alerting-child").arg(store).arg(sink).arg(tick.to_string()).arg(gap.to_string());
        command.args(ticks.map(|ticks| ticks.to_string())).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed("start the child", error))?;
        let output = child.stdout.take();
        let (said, lines) = channel();
        std::thread::spawn(move || {
            let output = output.into_iter().flat_map(|output| BufReader::new(output).lines());
            for line in output.map_while(std::io::Result::ok) {
                let _ = line.parse().map(|number| said.send(number));
            }
        });
        Ok(Self { child, lines })
    }

    /// Kills the child some time after its start, or after its first acknowledgement, and returns the ticks it said.
    fn kill(mut self, is_early: bool, delay: Duration) -> Result<Vec<u64>> {
        let first = if is_early { None } else { self.lines.recv().ok() };
        wait(if is_early { delay / 4 } else { delay });
        self.child.kill().map_err(|error| failed("kill the child", error))?;
        let status = self.child.wait().map_err(|error| failed("wait for the child", error))?;
        if status.code().is_some() {
            return Err(Error::new(ErrorKind::Internal, "torture.alerting", "the child ended by itself"));
        }
        Ok(first.into_iter().chain(self.lines.iter()).filter_map(|tick| u64::try_from(tick).ok()).collect())
    }

    /// Lets the child come to its end, and returns the ticks it said, and when it ended.
    fn finish(mut self) -> Result<(Vec<u64>, i64)> {
        let mut lines: Vec<i64> = self.lines.iter().collect();
        let status = self.child.wait().map_err(|error| failed("wait for the child", error))?;
        let end = lines.pop().filter(|_| status.success()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "torture.alerting", "the last child failed")
                .with_context("status", status)
        })?;
        Ok((lines.into_iter().filter_map(|tick| u64::try_from(tick).ok()).collect(), end))
    }
}

#[allow(clippy::disallowed_methods, reason = "the kill must come at a moment that nothing announces")]
fn wait(delay: Duration) {
    std::thread::sleep(delay);
}
