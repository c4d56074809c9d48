//! Real servers, each with a folder and a port of its own.

pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod redis;
#[cfg(feature = "network")]
pub mod smtp;

use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Waits until its input ends, which it does when the test process ends, however that happens.
const WATCH: &str = r#"read -r line; kill -9 "$0"; rm -rf -- "$1""#;

/// A server process that does not outlive the test process.
#[derive(Debug)]
struct Process {
    server: Child,
    watch: Child,
}

impl Process {
    fn spawn(command: &mut Command, folder: &Path) -> Result<Self> {
        // A process group of its own: ctrl-c at the terminal reaches the test, not the server before it.
        let mut server = command.process_group(0).spawn()?;
        let watch = Command::new("sh")
            .args(["-c", WATCH, &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watch {
            Ok(watch) => Ok(Self { server, watch }),
            Err(error) => {
                server.kill()?;
                server.wait()?;
                Err(error)
            }
        }
    }

    /// Waits until `is_ready`, or gives the end of the server's log.
    #[allow(
        clippy::disallowed_methods,
        reason = "another process is waited for; the log is its own and small"
    )]
    fn wait_until_ready(&mut self, log: &Path, is_ready: impl Fn() -> bool) -> Result<()> {
        let mut problem = format!("was not ready after {} s", START_LIMIT.as_secs());
        for _ in 0..START_LIMIT.as_millis() / POLL.as_millis() {
            if is_ready() {
                return Ok(());
            }
            if let Some(status) = self.server.try_wait()? {
                problem = format!("ended with {status}");
                break;
            }
            std::thread::sleep(POLL);
        }
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        Err(Error::other(format!("the server {problem}\n{tail}")))
    }

    /// Ends the watch first, so that it cannot hit another process that got the same number.
    fn kill(mut self) -> Result<()> {
        self.end_watch();
        self.server.kill()?;
        self.server.wait().map(drop)
    }

    fn wait(mut self) -> Result<ExitStatus> {
        self.end_watch();
        self.server.wait()
    }

    fn id(&self) -> u32 {
        self.server.id()
    }

    fn end_watch(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

fn free_port() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!("{} ended with {}: {said}", command.get_program().display(), output.status)))
}
