//! Errors of the server, servers that are not what is needed, and reconnecting.

use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{ErrorKind, Retry};
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::rate_limiter::{RateLimit, RateLimiter};
use pulsestream_redis::{LimiterOutage, RedisConfig, open};
use pulsestream_testtools::{FaultProxy, eventually_async};

use crate::scripted::ScriptedServer;
use crate::support::{Scope, own_server, raw, tenant};

#[tokio::test]
async fn refusals_are_typed_and_wrong_servers_are_left() {
    let server = ScriptedServer::start();
    let config = RedisConfig::new(format!("redis://{}/", server.address));
    let backend = open(config, Env::system()).await.unwrap();
    let table = [
        ("-LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable, false),
        (
            "-BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
            ErrorKind::Unavailable,
            false,
        ),
        ("-READONLY You can't write against a read only replica.", ErrorKind::Unavailable, true),
        (
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ErrorKind::Unavailable,
            true,
        ),
        ("-CLUSTERDOWN Hash slot not served", ErrorKind::Unavailable, true),
        ("-MOVED 3999 127.0.0.1:6381", ErrorKind::Unavailable, true),
        ("-ASK 3999 127.0.0.1:6381", ErrorKind::Unavailable, true),
        ("-TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Unavailable, false),
        ("-OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::Unavailable, false),
        ("-MISCONF Errors writing to the AOF file: No space left on device", ErrorKind::Unavailable, false),
        ("-NOREPLICAS Not enough good replicas to write.", ErrorKind::Unavailable, false),
        ("-NOPERM this user has no permissions to run the 'ping' command", ErrorKind::Unavailable, false),
        ("-ERR unknown command", ErrorKind::Internal, false),
    ];
    for (line, kind, is_left) in table {
        let before = server.connections();
        server.answer_next(line);
        let error = backend.ping().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{line}");
        assert_eq!(error.retry() == Retry::Maybe, kind == ErrorKind::Unavailable, "{line}");
        backend.ping().await.unwrap();
        assert_eq!(server.connections() - before, usize::from(is_left), "{line}");
    }
}

#[tokio::test]
async fn a_script_the_server_does_not_know_is_sent_with_its_text_once() {
    let server = ScriptedServer::start();
    let config = RedisConfig::new(format!("redis://{}/", server.address));
    let backend = open(config, Env::system()).await.unwrap();
    server.answer_next("-NOSCRIPT No matching script. Please use EVAL.");
    let lease = pulsestream_core::ports::coordinator::Lease {
        resource: "r".into(),
        holder: "h".into(),
        fencing_token: 1,
        expires_at: pulsestream_core::time::Timestamp::EPOCH,
    };
    backend.coordinator().release(&lease).await.unwrap();
    let names: Vec<String> = server.commands().iter().map(|command| command[0].clone()).collect();
    assert_eq!(names, ["EVALSHA", "EVAL"]);
}

#[tokio::test]
async fn servers_that_lack_what_is_needed_are_named() {
    let server = ScriptedServer::start();
    let config = RedisConfig::new(format!("redis://{}/", server.address));
    for (info, message) in [
        ("redis_version:6.2.14\r\n", "redis 7.0 or later is needed"),
        (
            "redis_version:7.2.4\r\ncluster_enabled:1\r\n",
            "this node of a cluster has only some of the keys: use one that has all slots, or a server without cluster mode",
        ),
    ] {
        server.say_info(info);
        let error = open(config.clone(), Env::system()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, message));
    }
    server.say_info("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n");
    open(config, Env::system()).await.unwrap();
}

#[tokio::test]
async fn what_prevents_a_connection_is_named_without_secrets() {
    let Some(server) = own_server(&["--requirepass", "right"]) else { return };
    let port = server.address().port();
    let at = |url: String| open(RedisConfig::new(url), Env::system());
    for (url, message) in [
        (format!("redis://127.0.0.1:{port}/"), "redis asks for a password"),
        (format!("redis://:wrong-secret@127.0.0.1:{port}/"), "redis refuses the login"),
        ("redis://127.0.0.1:1/".to_owned(), "cannot connect to redis"),
    ] {
        let error = at(url).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, message));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    for url in ["http://127.0.0.1/", "redis://127.0.0.1/x", "nonsense", "redis://0.0.0.0/"] {
        assert_eq!(at(url.to_owned()).await.unwrap_err().kind(), ErrorKind::Invalid, "{url}");
    }
    let backend = at(format!("redis://:right@127.0.0.1:{port}/3")).await.unwrap();
    backend.ping().await.unwrap();
    assert!(!format!("{backend:?}").contains("right"), "{backend:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_one_new_connection_and_one_failure() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let backend = Arc::new(open(scope.through(proxy.address()), Env::system()).await.unwrap());
    proxy.set_down(true);
    let ask =
        |backend: Arc<pulsestream_redis::RedisBackend>| tokio::spawn(async move { backend.ping().await });
    for asked in (0..50).map(|_| ask(backend.clone())).collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    proxy.set_down(false);
    let before = proxy.accepted();
    for asked in (0..50).map(|_| ask(backend.clone())).collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(proxy.accepted(), before + 1);
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_asked_again() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let backend = open(scope.through(proxy.address()), Env::system()).await.unwrap();
    for bytes in 0..7 {
        proxy.cut_after_server_bytes(bytes);
        backend.ping().await.unwrap();
        assert!(!proxy.is_cut_pending());
        proxy.reset();
        backend.ingest_queue().depth().await.unwrap();
    }
}

#[tokio::test]
async fn a_demoted_master_is_left_for_the_new_one() {
    let (Some(old), Some(new)) = (own_server(&[]), own_server(&[])) else { return };
    let backend = open(RedisConfig::new(old.url()), Env::system()).await.unwrap();
    let limiter = backend.rate_limiter_with(LimiterOutage::Refuse);
    let limit = RateLimit::new(1, Duration::from_secs(86_400), 10).unwrap();
    limiter.take(tenant("a"), "k", 1, limit).await.unwrap();
    let mut connection = raw(&old.url()).await;
    let mut demote = redis::cmd("REPLICAOF");
    demote.arg("127.0.0.1").arg(new.address().port());
    let () = demote.query_async(&mut connection).await.unwrap();
    let error = limiter.take(tenant("a"), "k", 1, limit).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Maybe));
    let error = backend.coordinator().acquire("r", "h", Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(error.message(), "this redis is a replica and takes no writes");
    let mut promote = redis::cmd("REPLICAOF");
    promote.arg("NO").arg("ONE");
    let () = promote.query_async(&mut connection).await.unwrap();
    eventually_async("writes work again", async || limiter.take(tenant("a"), "k", 1, limit).await.is_ok())
        .await;
}
