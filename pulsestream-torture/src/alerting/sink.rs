//! A receiver of webhooks that remembers everything, and fails now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulsestream_core::{Error, ErrorKind, Result};

use super::script;

/// What came under one id.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    /// The different bodies; one, if all is well.
    pub(super) bodies: BTreeSet<Vec<u8>>,
    /// How often it came.
    pub(super) times: u64,
    /// How often it was answered with success.
    pub(super) accepted: u64,
}

type Log = Arc<Mutex<BTreeMap<String, Received>>>;

/// The receiver; its threads live as long as the process.
#[derive(Debug)]
pub(super) struct Sink {
    url: String,
    log: Log,
}

impl Sink {
    /// Listens on a free port of this machine.
    pub(super) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "torture.sink", "cannot listen").with_source(error)
        };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let url = format!("http://{}/hook", listener.local_addr().map_err(failed)?);
        let log = Log::default();
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let log = shared.clone();
                std::thread::spawn(move || receive(stream, &log));
            }
        });
        Ok(Self { url, log })
    }

    /// Returns its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns what came since the last call.
    pub(super) fn take(&self) -> BTreeMap<String, Received> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads one request, whole or not at all, and answers it, or not.
fn receive(mut stream: TcpStream, log: &Log) -> Option<()> {
    let (id, body) = read(&stream).ok().flatten()?;
    let luck = script::mix(&id.bytes().map(u64::from).collect::<Vec<_>>()) % 5;
    let (is_first, answer) = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let received = log.entry(id).or_default();
        received.times += 1;
        received.bodies.insert(body);
        let is_first = received.times == 1;
        let answer = match luck {
            0 if is_first => Some("503 Service Unavailable"),
            1 if is_first => None,
            _ => Some("204 No Content"),
        };
        received.accepted += u64::from(answer == Some("204 No Content"));
        (is_first, answer)
    };
    if luck == 2 && is_first {
        slow_down();
    }
    let answer = answer?;
    stream
        .write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()
}

/// Returns the id and the body of a request.
fn read(stream: &TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut reader = BufReader::new(stream);
    let (mut id, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("webhook-id", value)) => id = Some(value.to_owned()),
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(id.map(|id| (id, body)))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a receiver that takes its time, so that kills find deliveries under way"
)]
fn slow_down() {
    std::thread::sleep(Duration::from_millis(40));
}
