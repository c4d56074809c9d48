//! The ingest queue when others meddle with it, when memory ends, and when replies get lost.

use std::num::NonZeroUsize;
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::ingest_queue::{IngestQueue, QueueDepth};
use pulsestream_redis::{RedisConfig, open};
use pulsestream_testtools::{Direction, FaultProxy, eventually_async};

use crate::support::{Scope, counts, events, one, own_server, raw, tenant};

const NO_WAIT: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_batch_that_cannot_be_read_becomes_a_dead_letter_and_the_others_go_on() {
    let Some(scope) = Scope::new() else { return };
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), one("before")).await.unwrap();
    let mut raw = scope.raw().await;
    let stream = format!("{}:{{queue}}:batches", scope.config.key_prefix);
    for (tenant, body) in [(tenant("a").to_string(), "9[]"), ("nobody".to_owned(), "1[]")] {
        let mut add = redis::cmd("XADD");
        add.arg(&stream).arg("*").arg("t").arg(tenant).arg("n").arg(1).arg("b").arg(body);
        let _: String = add.query_async(&mut raw).await.unwrap();
    }
    queue.enqueue(tenant("a"), one("after")).await.unwrap();
    let taken = queue.take("w", 10, NO_WAIT).await.unwrap();
    let ids: Vec<&str> = taken.iter().map(|batch| batch.events[0].id.as_str()).collect();
    assert_eq!(ids, ["before", "after"]);
    let dead = queue.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 2);
    assert_eq!(dead[0].events.as_ref().unwrap_err(), "unknown format 57");
    assert_eq!((dead[0].tenant, dead[1].tenant), (Some(tenant("a")), None));
}

#[tokio::test]
async fn a_stream_that_is_trimmed_or_removed_by_others_holds_nobody_up() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.visibility_timeout_ms = 20;
    scope.config.queue.max_events = 4;
    let queue = scope.open().await.ingest_queue();
    let stream = format!("{}:{{queue}}:batches", scope.config.key_prefix);
    let mut raw = scope.raw().await;
    for id in ["1", "2", "3", "4"] {
        queue.enqueue(tenant("a"), one(id)).await.unwrap();
    }
    assert_eq!(queue.take("dead", 2, NO_WAIT).await.unwrap().len(), 2);
    let _: u64 = redis::cmd("XTRIM").arg(&stream).arg("MAXLEN").arg(0).query_async(&mut raw).await.unwrap();
    eventually_async("pending batches that are gone are forgotten", async || {
        assert_eq!(queue.take("w", 10, NO_WAIT).await.unwrap(), []);
        let pending: (u64, redis::Value, redis::Value, redis::Value) =
            redis::cmd("XPENDING").arg(&stream).arg("store").query_async(&mut raw).await.unwrap();
        pending.0 == 0
    })
    .await;
    // The size that was counted does not lock the queue.
    queue.enqueue(tenant("a"), one("5")).await.unwrap();

    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            while ids.last().is_none_or(|id| id != "7") {
                let taken = queue.take("w", 1, LONG).await.unwrap();
                ids.extend(taken.iter().map(|batch| batch.events[0].id.to_string()));
                let receipts: Vec<_> = taken.into_iter().map(|batch| batch.receipt).collect();
                queue.acknowledge(&receipts).await.unwrap();
            }
            ids
        })
    };
    eventually_async("it is taken", async || queue.depth().await.unwrap().batches == 0).await;
    let _: u64 = redis::cmd("DEL").arg(&stream).query_async(&mut raw).await.unwrap();
    queue.enqueue(tenant("a"), one("7")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["5", "7"]);
}

#[tokio::test]
async fn at_the_memory_limit_nothing_is_accepted_and_everything_else_works() {
    let Some(server) = own_server(&["--maxmemory", "6mb"]) else { return };
    let backend = open(RedisConfig::new(server.url()), Env::system()).await.unwrap();
    let queue = backend.ingest_queue();
    let mut accepted = 0;
    let error = loop {
        let batch = events((0..200).map(|event| format!("{accepted}-{event}")));
        match queue.enqueue(tenant("a"), batch).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.message(), "redis has reached its memory limit");
    assert!(accepted > 3);
    // No partial effect: neither an entry nor its size.
    assert_eq!(counts(queue.depth().await.unwrap()), (accepted, 0));
    let mut connection = raw(&server.url()).await;
    let counted: u64 = redis::cmd("HGET")
        .arg("pulsestream:{queue}:used")
        .arg("events")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(counted, 200 * accepted);

    // Full to the brim, so that not one write with new memory passes.
    let fill = "for i = 1, 100000 do local r = redis.pcall('APPEND', 'filler', string.rep('x', 512)) \
                if type(r) == 'table' then return i end end return 0";
    let _: redis::Value = redis::cmd("EVAL").arg(fill).arg(0).query_async(&mut connection).await.unwrap();
    let taken = queue.take("w", 10, NO_WAIT).await.unwrap();
    assert!(!taken.is_empty());
    queue.reject(&[taken[0].receipt.clone()]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().batches, accepted);
    let receipts: Vec<_> = taken[1..].iter().map(|batch| batch.receipt.clone()).collect();
    queue.acknowledge(&receipts).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().batches, accepted + 1 - taken.len() as u64);
}

#[tokio::test]
async fn a_slow_reply_is_an_unknown_outcome_and_never_somebody_elses_reply() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let config = RedisConfig { response_timeout_ms: 100, ..scope.through(proxy.address()) };
    let queue = open(config, Env::system()).await.unwrap().ingest_queue();
    proxy.set_stalled(Direction::ToClient, true);
    let error = queue.enqueue(tenant("a"), one("e")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    proxy.heal();
    // The late reply of the old connection meets nobody.
    for _ in 0..5 {
        assert_eq!(counts(queue.depth().await.unwrap()), (1, 0));
    }
    let taken = queue.take("w", 10, NO_WAIT).await.unwrap();
    assert_eq!(taken[0].events, one("e"));
}

#[tokio::test]
async fn a_silent_connection_is_given_up_after_one_timeout() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let config = RedisConfig { response_timeout_ms: 100, ..scope.through(proxy.address()) };
    let queue = open(config, Env::system()).await.unwrap().ingest_queue();
    let connections = proxy.accepted();
    proxy.swallow_reply();
    assert_eq!(queue.depth().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
    assert_eq!(proxy.accepted(), connections + 1);
}

#[tokio::test]
async fn a_batch_whose_reply_is_cut_at_any_byte_is_accepted() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let queue = open(scope.through(proxy.address()), Env::system()).await.unwrap().ingest_queue();
    let mut cuts = 0;
    for bytes in 0.. {
        proxy.cut_after_server_bytes(bytes);
        queue.enqueue(tenant("a"), one(&bytes.to_string())).await.unwrap();
        if proxy.is_cut_pending() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 4, "a reply of Redis has at least four bytes, {cuts}");
    proxy.heal();
    let taken = queue.take("w", 100, NO_WAIT).await.unwrap();
    // Repeated after each cut; the store will know the events by their ids.
    assert_eq!(taken.len(), 2 * cuts + 1);
    for number in 0..=cuts {
        assert!(taken.iter().any(|batch| batch.events == one(&number.to_string())));
    }
}

#[tokio::test]
async fn replies_in_single_bytes_are_put_together() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    for direction in [Direction::ToClient, Direction::ToServer] {
        proxy.set_slice(direction, NonZeroUsize::new(1));
    }
    let queue = open(scope.through(proxy.address()), Env::system()).await.unwrap().ingest_queue();
    let batch = events((0..20).map(|event| format!("e{event}")));
    queue.enqueue(tenant("a"), batch.clone()).await.unwrap();
    assert_eq!(queue.take("w", 10, LONG).await.unwrap()[0].events, batch);
}

#[tokio::test]
async fn a_waiting_worker_outlives_its_connection() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let queue = open(scope.through(proxy.address()), Env::system()).await.unwrap().ingest_queue();
    let waiting = {
        let queue = queue.clone();
        // A connection that is reset while it is made is told.
        tokio::spawn(async move {
            loop {
                if let Ok(taken) = queue.take("w", 1, LONG).await {
                    break taken;
                }
            }
        })
    };
    eventually_async("it waits on a connection of its own", async || proxy.open() == 2).await;
    proxy.reset();
    eventually_async("it waits again", async || proxy.open() >= 2 && proxy.accepted() >= 4).await;
    queue.enqueue(tenant("a"), one("e")).await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].events, one("e"));
}
