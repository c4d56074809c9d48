//! A PostgreSQL cluster that a test may kill.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Process, free_port, run};

/// `fsync` and `synchronous_commit` stay on; later settings win over these.
const SETTINGS: &[&str] = &["listen_addresses=127.0.0.1", "shared_buffers=32MB", "max_connections=100"];

/// Text sorts by language where the build knows how, so that a query which depends on the order of bytes fails in a test; otherwise by
/// byte.
const LOCALES: &[&[&str]] = &[&["--locale=C", "--locale-provider=icu", "--icu-locale=en"], &["--locale=C"]];

/// How a cluster is stopped, as `pg_ctl stop --mode` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client is gone.
    Smart,
    /// Rolls back what is open and ends every session.
    Fast,
    /// Ends at once, without a checkpoint; the next start recovers.
    Immediate,
}

impl StopMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// A PostgreSQL cluster of the test's own, with superuser `postgres` and no password.
///
/// As root it runs under the user `postgres`, or `nobody`, because PostgreSQL refuses to run as root. Dropping it kills
/// the server and removes its folder; so does the end of the test process.
#[derive(Debug)]
pub struct PostgresServer {
    process: Option<Process>,
    programs: PathBuf,
    settings: Vec<String>,
    address: SocketAddr,
    account: Option<Account>,
    folder: TempDir,
}

/// A user that is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

impl PostgresServer {
    /// Creates a cluster with extra settings, for example `["wal_level=replica"]`, and waits until it accepts connections.
    ///
    /// `program` is the path of `postgres`, with `initdb` and `pg_ctl` beside it.
    ///
    /// # Errors
    /// When it cannot be created, or does not start within a minute; the message holds the end of its log.
    pub fn start(program: &Path, settings: &[&str]) -> Result<Self> {
        let mut server = Self::prepare(program, settings)?;
        server.create()?;
        server.restart()?;
        Ok(server)
    }

    fn create(&self) -> Result<()> {
        let mut failures = Vec::new();
        for locale in LOCALES {
            let mut create = self.command("initdb");
            create
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"])
                .args(*locale);
            match run(create.arg("--pgdata").arg(self.data())) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(error.to_string()),
            }
        }
        Err(Error::other(failures.join("\n")))
    }

    /// Copies a running cluster into a standby that follows it by streaming replication, and waits until it answers reads.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_standby(&self, program: &Path) -> Result<Self> {
        let mut standby = Self::prepare(program, &[])?;
        let mut copy = standby.command("pg_basebackup");
        copy.args([
            "--host=127.0.0.1",
            "--username=postgres",
            "--no-password",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        copy.args([
            "--wal-method=stream",
            "--write-recovery-conf",
            "--port",
            &self.address.port().to_string(),
        ]);
        run(copy.arg("--pgdata").arg(standby.data()))?;
        standby.restart()?;
        Ok(standby)
    }

    /// Makes a standby the primary, and waits until it takes writes.
    ///
    /// # Errors
    /// When it is no standby, or is not promoted within a minute.
    pub fn promote(&self) -> Result<()> {
        run(self.command("pg_ctl").args(["promote", "--wait", "--timeout=60", "--pgdata"]).arg(self.data()))
    }

    fn prepare(program: &Path, settings: &[&str]) -> Result<Self> {
        let folder = TempDir::with_prefix("pulsestream-postgres-")?;
        let account = other_account(folder.path())?;
        if let Some(Account { user, group }) = account {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let programs = program.parent().map(Path::to_path_buf).unwrap_or_default();
        let settings = settings.iter().map(ToString::to_string).collect();
        Ok(Self { process: None, programs, settings, address: free_port()?, account, folder })
    }

    /// Returns where it listens; the same after every restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of its database `postgres`, with the superuser.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// Returns the folder that holds `data` and `postgres.log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the postmaster as `kill -9` does; its sessions notice and end by themselves.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Stops it and waits until it is down.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub fn stop(&mut self, mode: StopMode) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "--timeout=60", "--mode", mode.as_str(), "--pgdata"]).arg(self.data());
        let outcome = run(&mut stop);
        if outcome.is_err() {
            process.kill()?;
        } else {
            process.wait()?;
        }
        outcome
    }

    /// Starts it again on the same port with the same data, after killing it when it still runs, and waits until it accepts
    /// connections.
    ///
    /// # Errors
    /// When it does not start within a minute.
    #[allow(clippy::disallowed_methods, reason = "the state file of the server has eight short lines")]
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let log = self.folder.path().join("postgres.log");
        let state = self.data().join("postmaster.pid");
        // Sessions of a killed postmaster hold its shared memory for a moment, and a start in that moment is refused.
        let mut attempts = 0;
        loop {
            let process = Process::spawn(&mut self.serve(&log)?, self.folder.path())?;
            let process = self.process.insert(process);
            // The eighth line is the state; it is how `pg_ctl` itself knows. A killed server leaves the file behind.
            let id = process.id().to_string();
            let outcome = process.wait_until_ready(&log, || {
                std::fs::read_to_string(&state).is_ok_and(|text| is_ready(&text, &id))
            });
            attempts += 1;
            if outcome.is_ok() || attempts == 50 {
                return outcome;
            }
            self.kill()?;
        }
    }

    fn serve(&self, log: &Path) -> Result<Command> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut serve = self.command("postgres");
        serve.arg("-D").arg(self.data()).arg("-p").arg(self.address.port().to_string());
        serve.arg("-k").arg(self.folder.path());
        for setting in SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            serve.args(["-c", setting]);
        }
        serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(serve)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        // Settings of a person's own client do not reach the cluster.
        let variables = std::env::vars_os().map(|(variable, _)| variable);
        for variable in variables.filter(|variable| variable.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The user to run as, when this process is root's.
#[allow(clippy::disallowed_methods, reason = "the list of the machine's users is small")]
pub(super) fn other_account(own: &Path) -> Result<Option<Account>> {
    if std::fs::metadata(own)?.uid() != 0 {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let found = ["postgres", "nobody"].iter().find_map(|name| account(&accounts, name));
    found.map(Some).ok_or_else(|| Error::other("as root there must be a user postgres or nobody"))
}

/// Reads the line of a user in the format of `/etc/passwd`.
fn account(accounts: &str, name: &str) -> Option<Account> {
    let line = accounts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    Some(Account { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

fn is_ready(state: &str, id: &str) -> bool {
    let mut lines = state.lines();
    lines.next() == Some(id) && lines.nth(6).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_by_their_whole_name() {
        let accounts =
            "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        assert_eq!(account(accounts, "postgres"), Some(Account { user: 101, group: 104 }));
        assert_eq!(account(accounts, "nobody"), None);
    }

    #[test]
    fn ready_is_said_by_this_process_and_not_by_the_one_before() {
        let state = "17\n/data\n0\n5432\n/data\n127.0.0.1\n 1 2\nready   \n";
        assert!(is_ready(state, "17"));
        assert!(!is_ready(state, "18"));
        assert!(is_ready(&state.replace("ready", "standby"), "17"));
        assert!(!is_ready(&state.replace("ready", "starting"), "17"));
        assert!(!is_ready("17\n/data\n", "17"));
    }
}
