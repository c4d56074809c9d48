//! A Redis that a test may kill.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Process, free_port, run};

/// Durable as in production; later arguments win over these.
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

/// A Redis server of the test's own: every write on disk before it is answered, unless the settings say otherwise.
///
/// Dropping it kills the server and removes its folder; so does the end of the test process.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Process>,
    program: PathBuf,
    settings: Vec<String>,
    address: SocketAddr,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server with extra settings in command-line form, for example `["--maxmemory", "8mb"]`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start within a minute; the message holds the end of its log.
    pub fn start(program: &Path, settings: &[&str]) -> Result<Self> {
        let mut server = Self {
            process: None,
            program: program.to_path_buf(),
            settings: settings.iter().map(ToString::to_string).collect(),
            address: free_port()?,
            folder: TempDir::with_prefix("pulsestream-redis-")?,
        };
        server.restart()?;
        Ok(server)
    }

    /// Returns where it listens; the same after every restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL, `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Returns the folder that holds its data and `redis.log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Ends it with SIGTERM, which lets it write what it has to.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        run(Command::new("kill").arg(process.id().to_string()))?;
        process.wait().map(drop)
    }

    /// Starts it again on the same port with the same data, after killing it when it still runs, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start within a minute.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let log = self.folder.path().join("redis.log");
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args(["--port", &self.address.port().to_string()]);
        command.args(SETTINGS).args(&self.settings);
        command.arg("--dir").arg(self.folder.path()).arg("--logfile").arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.process.insert(Process::spawn(&mut command, self.folder.path())?);
        let address = self.address;
        process.wait_until_ready(&log, || answers(address).unwrap_or(false))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// `-LOADING` is not ready; `-NOAUTH` is.
fn answers(address: SocketAddr) -> Result<bool> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    connection.read_exact(&mut answer)?;
    Ok(matches!(&answer, b"+PONG\r\n" | b"-NOAUTH"))
}
