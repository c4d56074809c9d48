//! What a store takes while it is idle, loaded, opened and asked, with a column cache far smaller than the columns.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::EventId;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::query::{Aggregator, FindQuery};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use serde_json::json;

use crate::query::{Answer, Ask, Question, compare, questions, table};
use crate::{Outcome, events, ours};

/// Bytes of columns that are kept while questions are asked, and bytes that one question may take up.
const CACHE_BYTES: usize = 64 << 20;
const QUERY_BYTES: usize = 128 << 20;

const WEEKS_MICROS: u64 = 28 * 86_400_000_000;
const BATCH: u64 = 1_000;
/// Events that are looked up by id, spread over all of them.
const SAMPLES: u64 = 64;

/// Loads events that are made one batch at a time, so that the memory is the store's. Then a process of its own opens the store and
/// asks the questions of the comparison, and another one works them out from the generator alone.
pub(crate) fn run() -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let reference = start("reference", folder.path())?;
    let path = folder.path().join("store");
    let before = memory("VmRSS")?;
    let config = EmbeddedConfig { cache_bytes: CACHE_BYTES, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(&path, config.clone(), Env::system())?;
    println!("idle: {:.1} MiB, {:.1} MiB of them before opening", memory("VmRSS")?, before);
    let mut generator = generator()?;
    let mut ids = Vec::new();
    for batch in 0..events() / BATCH {
        let batch = (batch * BATCH..(batch + 1) * BATCH).map(|number| (number, generator.event()));
        let (numbers, events): (Vec<u64>, Vec<Event>) = batch.unzip();
        let samples = numbers.iter().zip(&events).filter(|(number, _)| is_sample(**number));
        ids.extend(samples.map(|(_, event)| event.id.clone()));
        ours::append(&store, events)?;
        if numbers.last().is_some_and(|last| (last + 1).is_multiple_of(1_000 * BATCH)) {
            println!("  {:.1} MiB, {:.1} MiB at most", memory("VmRSS")?, memory("VmHWM")?);
        }
    }
    std::fs::write(folder.path().join("ids"), serde_json::to_vec(&ids)?)?;
    println!("while loading {} events: {:.1} MiB at most", events(), memory("VmHWM")?);
    store.maintain()?;
    let most = memory("VmHWM")?;
    let budget = before + mib(config.memory_bytes());
    println!("after compaction: {most:.1} MiB at most; budget {budget:.1} MiB");
    if most > budget * 1.1 {
        return Err("the budget of loading was exceeded by more than a tenth".into());
    }
    block_on(store.close())?;
    drop(store);
    let started = Instant::now();
    let store = ours::open(&path)?;
    println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    drop(store);

    let found = answers(start("answers", folder.path())?)?;
    let expected = answers(reference)?;
    for ((question, found), expected) in questions().iter().filter(is_asked).zip(&found).zip(&expected) {
        compare(question, std::slice::from_ref(found), std::slice::from_ref(expected))?;
    }
    println!("all answers equal those of the reference");
    Ok(())
}

/// Opens the store, asks everything twice, and tells the memory that took.
pub(crate) fn answer(folder: &Path) -> Outcome<()> {
    let config =
        EmbeddedConfig { cache_bytes: CACHE_BYTES, query_bytes: QUERY_BYTES, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(&folder.join("store"), config, Env::system())?;
    let ids: Vec<EventId> = serde_json::from_slice(&std::fs::read(folder.join("ids"))?)?;
    let idle = memory("VmHWM")?;
    let ask = |question: &Question| -> Outcome<Answer> {
        let started = Instant::now();
        let answer = match &question.ask {
            Ask::Aggregate(query) => table(&block_on(store.aggregate(ours::tenant(), query))?),
            Ask::Find(query) => events_as_rows(&block_on(store.find(ours::tenant(), query))?.events),
            Ask::Get | Ask::Small(_) => {
                let found = block_on(store.get(ours::tenant(), &ids))?;
                events_as_rows(found.iter().flatten())
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("  {}: {seconds:.3} s, {:.1} MiB at most", question.name, memory("VmHWM")?);
        Ok(answer)
    };
    let questions = questions();
    let (by_id, others): (Vec<_>, Vec<_>) =
        questions.iter().filter(is_asked).partition(|question| matches!(question.ask, Ask::Get));
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers = others.iter().map(|question| ask(question)).collect::<Outcome<Vec<_>>>()?;
    }
    let budget = idle + mib(CACHE_BYTES) + mib(QUERY_BYTES);
    let most = memory("VmHWM")?;
    eprintln!(
        "asking: {most:.1} MiB at most; budget {budget:.1} MiB: {idle:.1} idle, {:.0} of columns, {:.0} of a question",
        mib(CACHE_BYTES),
        mib(QUERY_BYTES)
    );
    // Events all over the store: the columns of one segment after the other pass through the cache.
    for question in by_id {
        answers.push(ask(question)?);
    }
    println!("{}", serde_json::to_string(&answers)?);
    if most > budget * 1.1 { Err("the budget was exceeded by more than a tenth".into()) } else { Ok(()) }
}

/// Works the answers out from the generated events, without a store.
pub(crate) fn reference() -> Outcome<()> {
    let questions = questions();
    let asked: Vec<&Question> = questions.iter().filter(is_asked).collect();
    let mut expected =
        asked.iter().map(|question| Expected::new(&question.ask)).collect::<Outcome<Vec<_>>>()?;
    let mut generator = generator()?;
    for number in 0..events() / BATCH * BATCH {
        let event = generator.event();
        expected.iter_mut().try_for_each(|one| one.add(number, &event))?;
    }
    let answers: Vec<Answer> = expected.into_iter().map(Expected::finish).collect();
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// An answer while it is worked out, in the simplest way.
enum Expected<'a> {
    Aggregate(Box<Aggregator>),
    Newest(&'a FindQuery, Vec<Event>),
    Samples(Vec<Event>),
}

impl<'a> Expected<'a> {
    fn new(ask: &'a Ask) -> Outcome<Self> {
        Ok(match ask {
            Ask::Aggregate(query) => Self::Aggregate(Box::new(Aggregator::new(query)?)),
            Ask::Find(query) => Self::Newest(query, Vec::new()),
            Ask::Get | Ask::Small(_) => Self::Samples(Vec::new()),
        })
    }

    fn add(&mut self, number: u64, event: &Event) -> Outcome<()> {
        match self {
            Self::Aggregate(aggregator) => aggregator.add_event(event)?,
            Self::Newest(query, found) => {
                if query.filter.as_ref().is_none_or(|filter| filter.matches(event)) {
                    found.push(event.clone());
                    if found.len() >= 2 * query.limit {
                        newest(found, query.limit);
                    }
                }
            }
            Self::Samples(samples) if is_sample(number) => samples.push(event.clone()),
            Self::Samples(_) => {}
        }
        Ok(())
    }

    fn finish(self) -> Answer {
        match self {
            Self::Aggregate(aggregator) => table(&aggregator.finish()),
            Self::Newest(query, mut found) => {
                newest(&mut found, query.limit);
                events_as_rows(&found)
            }
            Self::Samples(samples) => events_as_rows(&samples),
        }
    }
}

fn newest(events: &mut Vec<Event>, limit: usize) {
    events.sort_by(|left, right| (right.timestamp, &right.id).cmp(&(left.timestamp, &left.id)));
    events.truncate(limit);
}

fn events_as_rows<'a>(events: impl IntoIterator<Item = &'a Event>) -> Answer {
    let row = |event: &Event| vec![json!(event.id), json!(event.timestamp), json!(event.payload.as_str())];
    events.into_iter().map(row).collect()
}

fn is_sample(number: u64) -> bool {
    number.is_multiple_of((events() / SAMPLES).max(1))
}

/// All but the one about a small store.
fn is_asked(question: &&Question) -> bool {
    !matches!(question.ask, Ask::Small(_))
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
