//! A Redis (or Valkey) of our own, in its durable class: every write on disk before it is answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::locate::Programs;
use super::{Folder, Running, Server, Started, free_port, wait_until_ready};
use crate::command::Result;

pub(super) const SERVER: Server = Server {
    label: "Redis",
    variable: "PULSESTREAM_TEST_REDIS_URL",
    package: "redis-server",
    programs: Programs {
        servers: &["redis-server", "valkey-server"],
        companions: &[],
        version_after: "v=",
        oldest_major: 7,
        folders: Vec::new,
    },
    start,
};

const SETTINGS: &[&str] = &[
    "--bind",
    "127.0.0.1",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--save",
    "",
    "--maxmemory-policy",
    "noeviction",
];

struct Redis {
    process: Child,
}

impl Running for Redis {}

impl Drop for Redis {
    fn drop(&mut self) {
        // Its folder goes with it, so there is nothing to write before the end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(server: &Path, folder: &Folder) -> Result<Started> {
    let data = folder.fresh("redis")?;
    let port = free_port()?;
    let log = data.join("redis.log");
    let process = Command::new(server)
        .current_dir(&data)
        .args(["--port", &port.to_string()])
        .args(SETTINGS)
        .arg("--dir")
        .arg(&data)
        .arg("--logfile")
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut redis = Redis { process };
    wait_until_ready(&mut redis.process, &log, || answers(port).unwrap_or(false))?;
    Ok((Box::new(redis), format!("redis://127.0.0.1:{port}/")))
}

fn answers(port: u16) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    connection.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}
