//! The program while it serves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::program::{command, path};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running `serve`; it is ended with the test.
pub(crate) struct Server {
    pub(crate) process: Child,
    address: String,
    /// What it printed before it served.
    pub(crate) printed: Vec<String>,
}

impl Server {
    /// Serves a folder and waits until it does.
    pub(crate) fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::over(path(folder), flags)
    }

    /// Serves a store and waits until it does.
    pub(crate) fn over(store: &str, flags: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let serve = ["serve", "--store", store, "--listen", &address, "--rate-limit", "off"];
        let mut command = command(&[&serve[..], flags].concat());
        let process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, address, printed: Vec::new() };
        for line in BufReader::new(server.process.stdout.take().unwrap()).lines() {
            server.printed.push(line.unwrap());
            if server.printed.last().is_some_and(|line| line.starts_with("health")) {
                return server;
            }
        }
        panic!("it ended before it served: {:?}", server.printed)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request and returns status and body; `None` when the connection broke.
pub(crate) fn try_request(
    address: &str,
    method: &str,
    path: &str,
    credential: &str,
    body: &str,
) -> Option<(u16, String)> {
    let (status, _, body) = exchange(address, method, path, credential, body)?;
    Some((status, body))
}

/// Sends a request and returns status, head and body; `None` when the connection broke.
pub(crate) fn exchange(
    address: &str,
    method: &str,
    path: &str,
    credential: &str,
    body: &str,
) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let credential = match credential {
        "" => String::new(),
        credential => format!("authorization: Bearer {credential}\r\n"),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{credential}connection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, head.to_owned(), body.to_owned()))
}

/// Sends a request and returns status and body.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    credential: &str,
    body: &str,
) -> (u16, String) {
    try_request(address, method, path, credential, body).unwrap()
}
