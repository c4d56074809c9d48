//! The embedded store: opening, loading, asking.

use std::path::Path;
use std::time::{Duration, Instant};

use pulsestream_core::env::Env;
use pulsestream_core::event::{Event, Value};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::AggregateTable;
use pulsestream_core::testkit::block_on;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};
use serde_json::{Value as Json, json};

use super::answers::Answer;
use super::questions::{Ask, Question};
use super::{SHARES, Times};
use crate::Outcome;

/// Events that are looked up by id, in turn.
pub(super) const HOT_IDS: usize = 16;

/// Threads of our store, and of DuckDB.
pub(super) const THREADS: usize = 2;

/// Runs of a question go on until there are so many, or it took so long.
const RUNS: usize = 200;
const LONGEST: Duration = Duration::from_secs(2);

pub(super) fn open(path: &Path) -> Outcome<EmbeddedStore> {
    let config = EmbeddedConfig { query_threads: THREADS, ..EmbeddedConfig::default() };
    Ok(EmbeddedStore::open(path, config, Env::system())?)
}

fn tenant(index: usize) -> TenantId {
    TenantId::from_name(&format!("tenant-{index}"))
}

pub(super) fn append(store: &EmbeddedStore, index: usize, batch: Vec<Event>) -> Outcome<()> {
    block_on(store.append(tenant(index), batch, AppendOptions::default()))?;
    Ok(())
}

/// Answers for every tenant, times, and for ids the time of those that were not asked for before.
type Measured = (Vec<Answer>, Times, Option<f64>);

/// Asks a question for every tenant, then again and again while the clock runs.
pub(super) fn measure(
    store: &EmbeddedStore,
    small: &EmbeddedStore,
    question: &Question,
    ids: &[Vec<String>],
) -> Outcome<Measured> {
    let tenants = if question.in_turn { SHARES.len() } else { 1 };
    // A few again and again: hot means that their blocks are unpacked.
    let parsed: Vec<EventId> =
        ids[0].iter().take(HOT_IDS).map(|id| EventId::new(id.as_str())).collect::<Result<_, _>>()?;
    let ask = |index: usize, run: usize| -> Outcome<Answer> {
        Ok(match &question.ask {
            Ask::Aggregate(query) => table(&block_on(store.aggregate(tenant(index), query))?),
            Ask::Small(query) => table(&block_on(small.aggregate(tenant(index), query))?),
            Ask::Find(query) => {
                let page = block_on(store.find(tenant(index), query))?;
                page.events.iter().map(|event| vec![json!(event.id)]).collect()
            }
            Ask::Get => {
                let id = &parsed[run % parsed.len()];
                let found = block_on(store.get(tenant(index), std::slice::from_ref(id)))?;
                found.iter().flatten().map(|event| vec![json!(event.id)]).collect()
            }
        })
    };
    let answers = (0..tenants).map(|index| ask(index, 0)).collect::<Outcome<Vec<_>>>()?;
    let one = |run| match &question.ask {
        // Answers are made comparable outside of the clock.
        Ask::Aggregate(query) => block_on(store.aggregate(tenant(0), query)).map(drop),
        Ask::Small(query) => block_on(small.aggregate(tenant(0), query)).map(drop),
        Ask::Find(query) => block_on(store.find(tenant(0), query)).map(drop),
        Ask::Get => {
            let id: &EventId = &parsed[run % parsed.len()];
            block_on(store.get(tenant(0), std::slice::from_ref(id))).map(drop)
        }
    };
    let all = |_| {
        (0..tenants).try_for_each(|index| match &question.ask {
            Ask::Aggregate(query) => block_on(store.aggregate(tenant(index), query)).map(drop),
            Ask::Find(query) => block_on(store.find(tenant(index), query)).map(drop),
            Ask::Get | Ask::Small(_) => Ok(()),
        })
    };
    let all_tenants = if question.in_turn { median(all)? } else { 0.0 };
    let times = Times { one_tenant: median(one)?, all_tenants };
    let cold = match &question.ask {
        // After the hot ones, so that what is cached is the same for every question.
        Ask::Get => {
            let others = ids[0].iter().skip(HOT_IDS).map(|id| EventId::new(id.as_str()));
            let others: Vec<EventId> = others.collect::<Result<_, _>>()?;
            let mut next = others.iter().cycle();
            Some(median(|_| match next.next() {
                Some(id) => block_on(store.get(tenant(0), std::slice::from_ref(id))).map(drop),
                None => Ok(()),
            })?)
        }
        _ => None,
    };
    Ok((answers, times, cold))
}

/// Returns the median of hot runs, in seconds.
fn median(mut run: impl FnMut(usize) -> pulsestream_core::Result<()>) -> Outcome<f64> {
    for number in 0..HOT_IDS {
        run(number)?;
    }
    let started = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < RUNS && started.elapsed() < LONGEST {
        let before = Instant::now();
        run(seconds.len())?;
        seconds.push(before.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Returns the rows as the SQL has them: bucket, group, measures.
pub(crate) fn table(table: &AggregateTable) -> Answer {
    let rows = table.rows.iter().map(|row| {
        let bucket = row.bucket.map(|start| json!(start.as_micros()));
        let group = row.group.iter().map(|value| match value {
            Value::Missing => Json::Null,
            other => json!(other.to_string()),
        });
        let values = row.values.iter().map(|value| json!(value));
        bucket.into_iter().chain(group).chain(values).collect()
    });
    rows.collect()
}
