//! A pgbouncer before a PostgreSQL.

use std::io::Result;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::postgres::{Account, other_account};
use super::{Process, free_port};

/// Which databases there are, and that nothing of a client's session is kept.
const FILE: &str = "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\n\
     unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = {sessions}\n\
     max_client_conn = 1000\nlogfile = {log}\n";

/// A pgbouncer of the test's own with `pool_mode = transaction`: few sessions of the server for any number of connections.
///
/// Dropping it ends it; so does the end of the test process.
#[derive(Debug)]
pub struct PgbouncerServer {
    process: Option<Process>,
    address: SocketAddr,
    _folder: TempDir,
}

impl PgbouncerServer {
    /// Starts one before the server at `server`, with so many sessions there for each role, and waits until it takes connections.
    /// `roles` may connect, without a password.
    ///
    /// # Errors
    /// When it does not start within a minute; the message holds the end of its log.
    #[allow(clippy::disallowed_methods, reason = "two short files")]
    pub fn start(program: &Path, server: SocketAddr, roles: &[&str], sessions: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("pulsestream-pgbouncer-")?;
        let account = other_account(folder.path())?;
        let address = free_port()?;
        let (file, users, log) = (
            folder.path().join("pgbouncer.ini"),
            folder.path().join("users.txt"),
            folder.path().join("pgbouncer.log"),
        );
        std::fs::write(&users, roles.iter().map(|role| format!("\"{role}\" \"\"\n")).collect::<String>())?;
        let settings = [
            ("{host}", server.ip().to_string()),
            ("{port}", server.port().to_string()),
            ("{own}", address.port().to_string()),
            ("{users}", users.display().to_string()),
            ("{log}", log.display().to_string()),
            ("{sessions}", sessions.to_string()),
        ];
        let text = settings.iter().fold(FILE.to_owned(), |text, (name, value)| text.replace(name, value));
        std::fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.current_dir(folder.path()).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if let Some(Account { user, group }) = account {
            for path in [folder.path(), &file, &users] {
                chown(path, Some(user), Some(group))?;
            }
            command.uid(user).gid(group);
        }
        let mut process = Process::spawn(&mut command, folder.path())?;
        process.wait_until_ready(&log, || TcpStream::connect(address).is_ok())?;
        Ok(Self { process: Some(process), address, _folder: folder })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PgbouncerServer {
    fn drop(&mut self) {
        let _ = self.process.take().map(Process::kill);
    }
}
