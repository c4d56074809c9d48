//! Serves a router on a socket, with the limits that a socket open to strangers needs.
//!
//! `axum::serve` is for trusted networks: it takes any number of connections and lets each wait for ever. Here a connection that
//! sends no request, sends one slowly, or does not read its answer is closed, one above the limit is told so, and a stop does
//! not wait for streams that have no end.

mod watched;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pulsestream_core::settings::HttpSettings;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use watched::Watched;

/// How long the listener rests when the process has no file descriptor left for another connection.
const REST: Duration = Duration::from_millis(100);

/// The answer to one connection too many.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What [`serve`] did until it was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections that were answered 503 because there were too many.
    pub refused: usize,
    /// Connections that were cut because they did not end within `drain_timeout`.
    pub cut: usize,
}

/// Serves a router until `stop` completes; then takes no connection more, finishes the requests under way, and cuts what is still
/// open after [`HttpSettings::drain_timeout`], which is streams and clients that stand still.
///
/// HTTP/1.1 only, with upgrades to WebSockets; handlers find the address of the client as
/// [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo).
pub async fn serve(
    listener: TcpListener,
    app: Router,
    settings: &HttpSettings,
    stop: impl Future<Output = ()>,
) -> Served {
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let protocol = protocol(settings);
    let mut refused = 0;
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            // What has ended is forgotten, so that the set is as large as the number of connections.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                // A connection that was reset while it waited is no reason to rest; no file descriptor is.
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(REST).await;
                }
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                // Answers are small: they are not kept back for more to come.
                let _ = stream.set_nodelay(true);
                let stream = Watched::new(stream, settings.write_timeout);
                let served = connection(protocol.clone(), stream, address, app.clone(), stopped.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(_) => {
                if refused == 0 {
                    tracing::warn!(settings.max_connections, "connections are refused: there are too many");
                }
                refused += 1;
                turn_away(stream);
            }
        }
    }
    drop(listener);
    // Nobody listens any more when every connection has ended.
    let _ = stopping.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(settings.drain_timeout, drained).await;
    let cut = connections.len();
    connections.shutdown().await;
    Served { refused, cut }
}

/// Tells a client that there is no place for it, without waiting for anything.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // It fits the empty buffer of a new connection; if not, the close says it.
        let _ = stream.write_all(TOO_MANY);
    }
}

/// The protocol with the limits of the settings.
fn protocol(settings: &HttpSettings) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.max_headers)
        .max_header_size(settings.max_header_bytes);
    protocol
}

/// Serves one connection until it ends or misbehaves.
async fn connection(
    protocol: http1::Builder,
    stream: Watched<TcpStream>,
    address: SocketAddr,
    app: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        app.clone().oneshot(request)
    });
    let connection = protocol.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = %address, "a connection ended with an error");
    }
}
