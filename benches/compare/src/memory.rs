//! What a store takes while it is idle, loaded, opened and asked, with a column cache far smaller than the columns.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pulsestream_core::env::Env;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::query::{AggregateQuery, AggregateTable, Aggregator};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::query::{Answer, Ask, compare, questions, table};
use crate::{Outcome, events, ours};

/// Bytes of columns that are kept while questions are asked, and bytes that one question may take up.
const CACHE_BYTES: usize = 64 << 20;
const QUERY_BYTES: usize = 128 << 20;

const WEEKS_MICROS: u64 = 28 * 86_400_000_000;

/// Loads events that are made one batch at a time, so that the memory is the store's. Then a process of its own opens the store and
/// asks the aggregates of the comparison, and another one works them out from the generator alone.
pub(crate) fn run() -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let reference = start("reference", folder.path())?;
    let before = memory("VmRSS")?;
    let store = ours::open(folder.path())?;
    println!("idle: {:.1} MiB, {:.1} MiB of them before opening", memory("VmRSS")?, before);
    let mut generator = generator()?;
    for _ in 0..events() / 1_000 {
        ours::append(&store, (0..1_000).map(|_| generator.event()).collect())?;
    }
    println!("while loading {} events: {:.1} MiB at most", events(), memory("VmHWM")?);
    store.maintain()?;
    println!("after compaction: {:.1} MiB at most", memory("VmHWM")?);
    block_on(store.close())?;
    drop(store);
    let started = Instant::now();
    let store = ours::open(folder.path())?;
    println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    drop(store);

    let found = answers(start("answers", folder.path())?)?;
    let expected = answers(reference)?;
    for ((question, found), expected) in questions().iter().filter(is_aggregate).zip(&found).zip(&expected) {
        compare(question, std::slice::from_ref(found), std::slice::from_ref(expected))?;
    }
    println!("all answers equal those of the reference");
    Ok(())
}

/// Opens the store, asks everything twice, and tells the memory that took.
pub(crate) fn answer(folder: &Path) -> Outcome<()> {
    let config =
        EmbeddedConfig { cache_bytes: CACHE_BYTES, query_bytes: QUERY_BYTES, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(folder, config, Env::system())?;
    let idle = memory("VmHWM")?;
    let mut answers = Vec::new();
    for round in 0..2 {
        answers.clear();
        for question in questions().iter().filter(is_aggregate) {
            let Ask::Aggregate(query) = &question.ask else { continue };
            let started = Instant::now();
            answers.push(table(&block_on(store.aggregate(ours::tenant(), query))?));
            let seconds = started.elapsed().as_secs_f64();
            eprintln!(
                "  round {}: {}: {seconds:.2} s, {:.1} MiB at most",
                round + 1,
                question.name,
                memory("VmHWM")?
            );
        }
    }
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let budget = idle + mib(CACHE_BYTES) + mib(QUERY_BYTES);
    let most = memory("VmHWM")?;
    eprintln!(
        "asking: {most:.1} MiB at most; budget {budget:.1} MiB: {idle:.1} idle, {:.0} of columns, {:.0} of a question",
        mib(CACHE_BYTES),
        mib(QUERY_BYTES)
    );
    println!("{}", serde_json::to_string(&answers)?);
    if most > budget * 1.1 { Err("the budget was exceeded by more than a tenth".into()) } else { Ok(()) }
}

/// Works the answers out from the generated events, without a store.
pub(crate) fn reference() -> Outcome<()> {
    let questions = questions();
    let queries: Vec<&AggregateQuery> = questions
        .iter()
        .filter_map(|question| match &question.ask {
            Ask::Aggregate(query) => Some(query),
            _ => None,
        })
        .collect();
    let mut all = queries.iter().map(|query| Aggregator::new(query)).collect::<Result<Vec<_>, _>>()?;
    let mut generator = generator()?;
    for _ in 0..events() / 1_000 * 1_000 {
        let event = generator.event();
        all.iter_mut().try_for_each(|aggregator| aggregator.add_event(&event))?;
    }
    let tables: Vec<AggregateTable> = all.into_iter().map(Aggregator::finish).collect();
    let answers: Vec<Answer> = tables.iter().map(table).collect();
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

fn is_aggregate(question: &&crate::query::Question) -> bool {
    matches!(question.ask, Ask::Aggregate(_))
}

fn generator() -> Outcome<EventGenerator> {
    Ok(EventGenerator::starting(1, "2026-01-01T00:00:00Z".parse()?, WEEKS_MICROS / events().max(1)))
}

/// Starts this program for another part of the work, whose memory counts for itself.
fn start(part: &str, folder: &Path) -> Outcome<Child> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program).args(["memory", part]).arg(folder).stdout(Stdio::piped()).spawn()?)
}

fn answers(child: Child) -> Outcome<Vec<Answer>> {
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("a part of the work failed".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Reads a number of `/proc/self/status`, in MiB.
fn memory(name: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}
