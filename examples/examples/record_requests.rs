//! A small shop whose every request becomes an event: it serves itself some requests, shows what was recorded, and ends.
//!
//! `cargo run -p pulsestream-examples --example record_requests`

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use pulsestream::prelude::*;
use pulsestream_axum::{RecorderConfig, RequestRecorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn item(Path(id): Path<u32>) -> (StatusCode, String) {
    if id < 100 {
        (StatusCode::OK, format!("item {id}"))
    } else {
        (StatusCode::NOT_FOUND, "no such item".to_owned())
    }
}

async fn pay() -> (StatusCode, &'static str) {
    (StatusCode::BAD_GATEWAY, "the bank does not answer")
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example shows what it did")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let ps = PulseStream::open("memory:").await?;
    let tenant = TenantId::from_name("shop");
    let recorder = RequestRecorder::start(ps.clone(), tenant, RecorderConfig::new("shop"))?;

    let shop = Router::new().route("/items/{id}", get(item)).route("/pay", post(pay)).layer(recorder.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, shop.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        });
    let server = tokio::spawn(server.into_future());

    for id in [1, 2, 3, 4, 500] {
        request(address, "GET", &format!("/items/{id}")).await?;
    }
    request(address, "POST", "/pay").await?;
    let _ = stop.send(());
    server.await??;
    recorder.shutdown().await;

    let question = AggregateQuery {
        group_by: vec!["source.endpoint".parse()?, "metrics.status_code".parse()?],
        measures: vec!["count".parse()?, "p95(metrics.response_time_ms)".parse()?],
        ..AggregateQuery::default()
    };
    println!("{:<14} {:>6} {:>6} {:>10}", "endpoint", "status", "count", "p95 ms");
    for row in ps.tenant(tenant).aggregate(question).await?.rows {
        let [count, p95] = [0, 1].map(|index| row.values[index].unwrap_or_default());
        println!("{:<14} {:>6} {count:>6} {p95:>10.3}", row.group[0].to_string(), row.group[1].to_string());
    }
    println!("{:?}", recorder.counts());
    ps.close().await?;
    Ok(())
}

/// Sends one request over a connection of its own.
async fn request(address: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: shop\r\nuser-agent: example\r\nconnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}
