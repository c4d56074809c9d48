//! The embedded store: appends, disk space, opening, and questions over a million events.
//!
//! `cargo bench -p pulsestream-benches --bench embedded`; `EVENTS=100000` in the environment makes it smaller.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench, not a library")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pulsestream_core::Filter;
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::{AggregateOrder, AggregateQuery, FindQuery, OrderKey};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

fn tenant() -> TenantId {
    TenantId::from_name("bench")
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, EmbeddedConfig::default(), Env::system()).unwrap()
}

/// Events of four weeks, so that seven days are a quarter of them.
fn generator(seed: u64, events: u64) -> EventGenerator {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    EventGenerator::starting(seed, start, 28 * 86_400_000_000 / events)
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folder_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

fn resident_bytes() -> u64 {
    let text = std::fs::read("/proc/self/statm").unwrap();
    let pages = String::from_utf8(text).unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    pages * 4_096
}

fn questions() -> Vec<(&'static str, AggregateQuery)> {
    let week = || pulsestream_core::time::TimeRange {
        start: "2026-01-15T00:00:00Z".parse().unwrap(),
        end: "2026-01-22T00:00:00Z".parse().unwrap(),
    };
    let measures = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let paths = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    vec![
        ("count by type", AggregateQuery { group_by: paths(&["event_type"]), ..AggregateQuery::default() }),
        (
            "hourly count and percentiles per service over 7 days",
            AggregateQuery {
                range: week(),
                group_by: paths(&["source.service"]),
                bucket: Some("1h".parse().unwrap()),
                measures: measures(&[
                    "count",
                    "p50(metrics.response_time_ms)",
                    "p95(metrics.response_time_ms)",
                    "p99(metrics.response_time_ms)",
                ]),
                ..AggregateQuery::default()
            },
        ),
        (
            "error rate per service and endpoint, top 20",
            AggregateQuery {
                group_by: paths(&["source.service", "source.endpoint"]),
                measures: measures(&["error_rate", "count"]),
                order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
                limit: Some(20),
                ..AggregateQuery::default()
            },
        ),
        (
            "distinct users per day",
            AggregateQuery {
                bucket: Some("day".parse().unwrap()),
                measures: measures(&["count_distinct(context.user_id)"]),
                ..AggregateQuery::default()
            },
        ),
        (
            "group by a sparse payload key",
            AggregateQuery {
                group_by: paths(&["payload.coupon"]),
                measures: measures(&["count", "avg(payload.total)"]),
                ..AggregateQuery::default()
            },
        ),
    ]
}

fn embedded(criterion: &mut Criterion) {
    let events: u64 = std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let idle = resident_bytes();
    let store = open(folder.path());
    println!("idle: {:.1} MiB resident, {:.1} of them before opening", mib(resident_bytes()), mib(idle));
    load(&store, events);
    println!("after loading: {:.1} MiB resident", mib(resident_bytes()));
    let started = Instant::now();
    store.maintain().unwrap();
    println!("maintenance after loading: {:.2} s", started.elapsed().as_secs_f64());
    let report = store.verify().unwrap();
    let segments: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    println!(
        "{} segments, {:.1} bytes for each event",
        report.segments.len(),
        segments as f64 / events as f64
    );
    for (name, bytes) in report.columns.iter().take(16) {
        println!("  {name}: {:.2}", *bytes as f64 / events as f64);
    }
    println!("folder: {:.1} MiB", mib(folder_bytes(folder.path())));
    block_on(store.close()).unwrap();
    drop(store);
    let started = Instant::now();
    let store = open(folder.path());
    println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let mut group = criterion.benchmark_group("embedded");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (name, query) in questions() {
        group.bench_function(name, |bencher| {
            bencher.iter(|| block_on(store.aggregate(tenant(), &query)).unwrap());
        });
    }
    let filter = "source.service = 'payment' and metrics.status_code >= 500 and severity = 'critical' \
                  and message contains 'answered'";
    let search = FindQuery { filter: Some(Filter::parse(filter).unwrap()), ..FindQuery::default() };
    group.bench_function("newest 100 with three predicates and a text", |bencher| {
        bencher.iter(|| block_on(store.find(tenant(), &search)).unwrap());
    });
    let id = block_on(store.find(tenant(), &FindQuery { skip: 500, limit: 1, ..FindQuery::default() }))
        .unwrap()
        .events[0]
        .id
        .clone();
    group.bench_function("by id", |bencher| {
        bencher.iter(|| block_on(store.get(tenant(), std::slice::from_ref(&id))).unwrap());
    });
    small_group(&mut group);
    appends(&mut group);
    group.finish();
}

fn small_group(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut generator = generator(9, 1_000);
    block_on(store.append(
        tenant(),
        (0..1_000).map(|_| generator.event()).collect(),
        AppendOptions::default(),
    ))
    .unwrap();
    let query = &questions()[0].1;
    group.bench_function("count by type over 1,000 events", |bencher| {
        bencher.iter(|| block_on(store.aggregate(tenant(), query)).unwrap());
    });
}

/// Durable batches of 1,000 by one client, then by sixteen.
fn load(store: &EmbeddedStore, events: u64) {
    for (clients, share) in [(1_u64, events / 2), (16, events / 2)] {
        let batches: Vec<Vec<Vec<Event>>> = (0..clients)
            .map(|client| {
                let mut generator = generator(clients * 100 + client, share / clients);
                (0..share / clients / 1_000)
                    .map(|_| (0..1_000).map(|_| generator.event()).collect())
                    .collect()
            })
            .collect();
        let count: usize = batches.iter().flatten().map(Vec::len).sum();
        let started = Instant::now();
        std::thread::scope(|scope| {
            for batches in batches {
                scope.spawn(move || {
                    for batch in batches {
                        block_on(store.append(tenant(), batch, AppendOptions::default())).unwrap();
                    }
                });
            }
        });
        let rate = count as f64 / started.elapsed().as_secs_f64();
        println!("{clients} clients, durable batches of 1,000: {rate:.0} events/s");
    }
}

/// Durable appends of one event, beside the rate at which the disk syncs.
fn appends(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    use std::os::unix::fs::FileExt;

    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("raw")).unwrap();
    file.write_all_at(&vec![0; 8 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut offset = 0;
    group.bench_function("write and sync 512 bytes", |bencher| {
        bencher.iter(|| {
            offset = (offset + 512) % (8 << 20);
            file.write_all_at(&[7; 512], offset).unwrap();
            file.sync_data().unwrap();
        });
    });
    let store = Arc::new(open(&folder.path().join("store")));
    let mut generator = generator(11, 1_000_000);
    group.bench_function("append one event, durable", |bencher| {
        bencher.iter(|| {
            block_on(store.append(tenant(), vec![generator.event()], AppendOptions::default())).unwrap();
        });
    });
    for clients in [16_u64, 64] {
        let each = 300;
        let started = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..clients {
                let store = &store;
                scope.spawn(move || {
                    let mut generator = self::generator(clients * 1_000 + client, 1_000);
                    for _ in 0..each {
                        block_on(store.append(tenant(), vec![generator.event()], AppendOptions::default()))
                            .unwrap();
                    }
                });
            }
        });
        let rate = (clients * each) as f64 / started.elapsed().as_secs_f64();
        println!("{clients} clients, durable appends of one event: {rate:.0} events/s");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

criterion_group!(benches, embedded);
criterion_main!(benches);
