//! Each way that the embedded store has to answer a question, over 300,000 events of one tenant, hot.
//!
//! `cargo bench -p pulsestream-benches --bench queries`; `EVENTS=50000` in the environment makes it smaller.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench, not a library")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pulsestream_core::Filter;
use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_core::query::{AggregateQuery, FindQuery, Order, ScanQuery};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

fn tenant() -> TenantId {
    TenantId::from_name("bench")
}

fn load(store: &EmbeddedStore) {
    let events: usize = std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(300_000);
    let mut generator = EventGenerator::new(1);
    for _ in 0..events / 1_000 {
        let batch = (0..1_000).map(|_| generator.event()).collect();
        block_on(store.append(tenant(), batch, AppendOptions::default())).unwrap();
    }
    store.maintain().unwrap();
}

fn count(group_by: &[&str], bucket: Option<&str>, measure: &str, filter: Option<&str>) -> AggregateQuery {
    AggregateQuery {
        group_by: group_by.iter().map(|path| path.parse().unwrap()).collect(),
        bucket: bucket.map(|bucket| bucket.parse().unwrap()),
        measures: vec![measure.parse().unwrap()],
        filter: filter.map(|filter| Filter::parse(filter).unwrap()),
        max_groups: 1_000_000,
        ..AggregateQuery::default()
    }
}

fn queries(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system()).unwrap();
    load(&store);
    let mut group = criterion.benchmark_group("queries");
    group.sample_size(10).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));

    let user = "context.user_id";
    let time = "metrics.response_time_ms";
    for (name, query) in [
        ("filter: equal to a text", count(&[], None, "count", Some("source.service = 'payment'"))),
        (
            "filter: one of some texts",
            count(&[], None, "count", Some("source.service in ['cart', 'search']")),
        ),
        ("filter: compare a number", count(&[], None, "count", Some("metrics.status_code >= 500"))),
        ("filter: contained in a message", count(&[], None, "count", Some("message contains 'with 503'"))),
        ("filter: a path with a column", count(&[], None, "count", Some("payload.plan = 'team'"))),
        ("group: few combinations of codes", count(&["event_type"], None, "count", None)),
        ("group: errors by combinations of codes", count(&["source.endpoint"], None, "error_rate", None)),
        (
            "group: many combinations, through a map",
            count(&[user, "context.session_id"], None, "count", None),
        ),
        ("group: filtered rows", count(&["event_type"], None, "count", Some("metrics.status_code >= 400"))),
        ("group: a path without a column", count(&["payload.gift"], None, "count", None)),
        ("bucket: hours", count(&[], Some("1h"), "count", None)),
        ("bucket: days of a time zone", count(&[], Some("day in Europe/Berlin"), "count", None)),
        ("measure: sum in few groups", count(&["event_type"], None, &format!("sum({time})"), None)),
        ("measure: extremes", count(&["event_type"], None, &format!("max({time})"), None)),
        (
            "measure: percentile of few large groups",
            count(&["event_type"], None, &format!("p95({time})"), None),
        ),
        ("measure: percentile of many small groups", count(&[user], None, &format!("p95({time})"), None)),
        ("measure: distinct values", count(&[], None, &format!("count_distinct({user})"), None)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| block_on(store.aggregate(tenant(), &query)).unwrap());
        });
    }

    let middle =
        block_on(store.find(tenant(), &FindQuery { skip: 10_000, limit: 1, ..FindQuery::default() }));
    let after = middle.unwrap().next;
    let rare = "source.service = 'payment' and metrics.status_code >= 500 and message contains 'with 503'";
    for (name, query) in [
        ("search: the newest page", FindQuery::default()),
        ("search: the oldest page", FindQuery { order: Order::OldestFirst, ..FindQuery::default() }),
        ("search: a page after a cursor", FindQuery { after, ..FindQuery::default() }),
        (
            "search: rare matches",
            FindQuery { filter: Some(Filter::parse(rare).unwrap()), ..FindQuery::default() },
        ),
        (
            "search: count all matches",
            FindQuery {
                count_total: true,
                filter: Some(Filter::parse("severity = 'error'").unwrap()),
                limit: 1,
                ..FindQuery::default()
            },
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| block_on(store.find(tenant(), &query)).unwrap());
        });
    }

    let id = block_on(store.find(tenant(), &FindQuery::default())).unwrap().events[50].id.clone();
    group.bench_function("by id", |bencher| {
        bencher.iter(|| block_on(store.get(tenant(), std::slice::from_ref(&id))).unwrap());
    });
    let columns = ["event_type", user, time].iter().map(|path| path.parse().unwrap()).collect();
    let scan = ScanQuery { columns, ..ScanQuery::default() };
    group.bench_function("scan: three columns of everything", |bencher| {
        bencher.iter(|| {
            let mut scan = block_on(store.scan(tenant(), &scan)).unwrap();
            while block_on(scan.next_batch()).unwrap().is_some() {}
        });
    });
    let partition = Partition::of(tenant());
    group.bench_function("tail: 1,000 events of a segment", |bencher| {
        bencher.iter(|| block_on(store.tail(partition, Position::START, TailOptions::default())).unwrap());
    });
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
