//! A Redis that is killed under load, again and again: what it accepted is delivered.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_redis::{RedisConfig, RedisIngestQueue, open};
use pulsestream_testtools::eventually_async;

use crate::support::{one, own_server, tenant};

/// Set `PULSESTREAM_TEST_KILLS` for more.
const KILLS: usize = 8;
const PRODUCERS: usize = 6;
const WORKERS: usize = 3;

#[derive(Debug, Default)]
struct Log {
    accepted: Mutex<BTreeSet<String>>,
    delivered: Mutex<BTreeSet<String>>,
    accepts: AtomicUsize,
    is_done: AtomicBool,
}

/// Sends the same batch until it is accepted, as a caller with a retry does.
async fn produce(queue: Arc<RedisIngestQueue>, log: Arc<Log>, producer: usize) {
    for number in 0.. {
        if log.is_done.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{producer}-{number}");
        while let Err(error) = queue.enqueue(tenant("a"), one(&id)).await {
            assert!(error.retry() != pulsestream_core::Retry::Never, "{error}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        log.accepted.lock().unwrap().insert(id);
        log.accepts.fetch_add(1, Ordering::Relaxed);
    }
}

async fn work(queue: Arc<RedisIngestQueue>, log: Arc<Log>, worker: usize) {
    let worker = format!("w{worker}");
    while !log.is_done.load(Ordering::Relaxed) {
        let Ok(batches) = queue.take(&worker, 50, Duration::from_millis(50)).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let ids = batches.iter().flat_map(|batch| &batch.events).map(|event| event.id.to_string());
        log.delivered.lock().unwrap().extend(ids);
        let receipts: Vec<_> = batches.into_iter().map(|batch| batch.receipt).collect();
        // Not repeated here: what stays unacknowledged comes again.
        let _ = queue.acknowledge(&receipts).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_batch_is_delivered() {
    let kills = std::env::var("PULSESTREAM_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let Some(mut server) = own_server(&[]) else { return };
    let mut config = RedisConfig::new(server.url());
    config.queue.visibility_timeout_ms = 300;
    config.queue.max_deliveries = 1_000_000;
    let queue = open(config, Env::system()).await.unwrap().ingest_queue();
    let log = Arc::new(Log::default());
    let producers: Vec<_> =
        (0..PRODUCERS).map(|number| tokio::spawn(produce(queue.clone(), log.clone(), number))).collect();
    let workers: Vec<_> =
        (0..WORKERS).map(|number| tokio::spawn(work(queue.clone(), log.clone(), number))).collect();

    for kill in 0..kills {
        let before = log.accepts.load(Ordering::Relaxed);
        eventually_async("batches are accepted", async || {
            log.accepts.load(Ordering::Relaxed) > before + 100 + kill
        })
        .await;
        server.kill().unwrap();
        server.restart().unwrap();
    }
    let before = log.accepts.load(Ordering::Relaxed);
    eventually_async("batches are accepted again", async || {
        log.accepts.load(Ordering::Relaxed) > before + 100
    })
    .await;
    // Producers first, so that the workers find the end.
    for producer in &producers {
        producer.abort();
    }
    for producer in producers {
        let _ = producer.await;
    }
    eventually_async("the queue is empty", async || {
        queue.depth().await.is_ok_and(|depth| depth.batches == 0)
    })
    .await;
    log.is_done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let (accepted, delivered) = (log.accepted.lock().unwrap(), log.delivered.lock().unwrap());
    let lost: Vec<&String> = accepted.difference(&delivered).collect();
    assert!(lost.is_empty(), "{} of {} accepted batches are lost: {lost:?}", lost.len(), accepted.len());
    assert!(accepted.len() > kills * 100);
}
