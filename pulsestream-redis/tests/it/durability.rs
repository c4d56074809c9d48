//! Servers whose settings keep less than is asked for.

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_redis::{RedisConfig, open};
use pulsestream_testtools::FaultProxy;

use crate::support::{one, own_server, raw, tenant};

#[tokio::test]
async fn the_class_is_read_from_the_settings_and_a_weaker_one_refused() {
    let table: [(&[&str], Durability, &str); 4] = [
        (&["--appendonly", "no"], Durability::Accepted, "appendonly no"),
        (&["--appendfsync", "everysec"], Durability::Written, "appendonly yes, appendfsync everysec"),
        (
            &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            Durability::Accepted,
            "maxmemory-policy allkeys-lru evicts accepted batches",
        ),
        (&["--maxmemory", "100mb"], Durability::Durable, ""),
    ];
    for (settings, class, reason) in table {
        let Some(server) = own_server(settings) else { return };
        let mut config = RedisConfig::new(server.url());
        match open(config.clone(), Env::system()).await {
            Ok(backend) => {
                assert_eq!(class, Durability::Durable);
                assert_eq!(backend.durability(), Durability::Durable);
            }
            Err(error) => {
                assert!(class < Durability::Durable, "{error}");
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().ends_with(&format!("because=`{reason}`")), "{error}");
            }
        }
        config.queue.required_durability = class;
        let backend = open(config.clone(), Env::system()).await.unwrap();
        assert_eq!(backend.durability(), class);
        backend.ingest_queue().enqueue(tenant("a"), one("e")).await.unwrap();
        // No server promises a second machine.
        config.queue.required_durability = Durability::Replicated;
        assert!(open(config, Env::system()).await.is_err());
    }
}

#[tokio::test]
async fn settings_that_cannot_be_read_need_the_operators_promise() {
    let Some(server) = own_server(&["--rename-command", "CONFIG", ""]) else { return };
    let mut config = RedisConfig::new(server.url());
    let error = open(config.clone(), Env::system()).await.unwrap_err();
    assert!(error.to_string().ends_with("because=`CONFIG GET is refused by the server`"), "{error}");
    config.queue.promised_durability = Some(Durability::Durable);
    let backend = open(config, Env::system()).await.unwrap();
    assert_eq!(backend.durability(), Durability::Durable);
    backend.ingest_queue().enqueue(tenant("a"), one("e")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_back_weaker_accepts_nothing() {
    let Some(server) = own_server(&[]) else { return };
    let proxy = FaultProxy::start(server.address()).unwrap();
    let config = RedisConfig::new(format!("redis://{}/", proxy.address()));
    let queue = open(config, Env::system()).await.unwrap().ingest_queue();
    queue.enqueue(tenant("a"), one("1")).await.unwrap();
    let mut connection = raw(&server.url()).await;
    let mut set = async |value: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("appendfsync").arg(value);
        let () = set.query_async(&mut connection).await.unwrap();
        proxy.reset();
    };
    set("no").await;
    let error = queue.enqueue(tenant("a"), one("2")).await.unwrap_err();
    // The connection that was reset may have been found out by the first attempt, which then was not carried out.
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{error}");
    let error = queue.enqueue(tenant("a"), one("2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(queue.durability(), Durability::Written);
    assert_eq!(queue.depth().await.unwrap().batches, 1);
    set("always").await;
    queue.enqueue(tenant("a"), one("2")).await.unwrap();
    assert_eq!(queue.durability(), Durability::Durable);
}
