//! A PostgreSQL cluster of our own: durable as in production, reached over TCP on a free port.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::locate::{Programs, versioned};
use super::{Folder, Running, Server, Started, free_port, say, wait_until_ready};
use crate::command::{Result, capture};

pub(super) const SERVER: Server = Server {
    label: "PostgreSQL",
    variable: "PULSESTREAM_TEST_POSTGRES_URL",
    package: "postgresql",
    programs: Programs {
        servers: &["postgres"],
        companions: &["initdb", "pg_ctl"],
        version_after: "(PostgreSQL) ",
        oldest_major: 15,
        folders,
    },
    start,
};

/// What differs from the defaults. `fsync` and `synchronous_commit` stay on: the tests are about durability.
///
/// The time zone is an odd one on purpose: a query that depends on the zone of the session fails here, not at a user's.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "max_locks_per_transaction=256",
    "shared_buffers=64MB",
    "timezone=Asia/Kathmandu",
];

/// Text sorts by language where the build knows how, for the same reason; otherwise by byte.
const LOCALES: &[&[&str]] = &[&["--locale=C", "--locale-provider=icu", "--icu-locale=en"], &["--locale=C"]];

struct Postgres {
    process: Child,
    programs: PathBuf,
    data: PathBuf,
    account: Option<Account>,
}

impl Running for Postgres {}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = command(&self.programs, "pg_ctl", &self.data, self.account);
        stop.args(["stop", "--mode=immediate", "--timeout=30", "--pgdata"]).arg(&self.data);
        if let Err(error) = capture(&mut stop) {
            say(&format!("PostgreSQL is killed: {error}"));
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A user that is not root: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Account {
    user: u32,
    group: u32,
}

fn start(server: &Path, folder: &Folder) -> Result<Started> {
    let programs = server.parent().ok_or("the server program has no folder")?.to_path_buf();
    let account = if folder.is_root() {
        let accounts = std::fs::read_to_string("/etc/passwd")?;
        let found = ["postgres", "nobody"].iter().find_map(|name| account(&accounts, name));
        Some(found.ok_or("PostgreSQL does not run as root and there is no user postgres or nobody")?)
    } else {
        None
    };
    let data = folder.fresh("postgres")?;
    if let Some(Account { user, group }) = account {
        chown(&data, Some(user), Some(group))?;
    }
    create_cluster(&programs, &data, account)?;

    let port = free_port()?;
    let log = folder.path.join("postgres.log");
    let mut serve = command(&programs, "postgres", &data, account);
    serve.arg("-D").arg(&data).arg("-p").arg(port.to_string()).arg("-k").arg(&data);
    serve.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
    serve
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::options().append(true).open(&log)?);
    let process = serve.spawn()?;
    let mut postgres = Postgres { process, programs, account, data };
    // The eighth line of this file is the state; it is how `pg_ctl` itself knows.
    let state = postgres.data.join("postmaster.pid");
    let is_ready = || std::fs::read_to_string(&state).is_ok_and(|text| is_ready(&text));
    wait_until_ready(&mut postgres.process, &log, is_ready)?;
    Ok((Box::new(postgres), format!("postgres://postgres@127.0.0.1:{port}/postgres")))
}

fn create_cluster(programs: &Path, data: &Path, account: Option<Account>) -> Result<()> {
    let mut failures = Vec::new();
    for locale in LOCALES {
        let mut create = command(programs, "initdb", data, account);
        create.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]).args(*locale);
        match capture(create.arg("--pgdata").arg(data)) {
            Ok(_) => return Ok(()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(failures.join("\n").into())
}

fn command(programs: &Path, name: &str, folder: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(folder);
    // Settings of a person's own client do not reach the cluster.
    for (variable, _) in
        std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("PG"))
    {
        command.env_remove(variable);
    }
    if let Some(Account { user, group }) = account {
        command.uid(user).gid(group);
    }
    command
}

/// Reads the line of a user in the format of `/etc/passwd`.
fn account(accounts: &str, name: &str) -> Option<Account> {
    let line = accounts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    Some(Account { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

fn is_ready(postmaster_pid: &str) -> bool {
    postmaster_pid.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

fn folders() -> Vec<PathBuf> {
    let configured = capture(Command::new("pg_config").arg("--bindir")).ok();
    let mut folders: Vec<PathBuf> = configured.iter().map(|folder| PathBuf::from(folder.trim())).collect();
    folders.extend(versioned("/usr/lib/postgresql"));
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_by_their_whole_name() {
        let accounts =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        assert_eq!(account(accounts, "postgres"), Some(Account { user: 101, group: 104 }));
        assert_eq!(account(accounts, "nobody"), None);
    }

    #[test]
    fn only_the_state_line_says_ready() {
        let file = |state: &str| format!("1\n/data\n0\n5432\n/data\n127.0.0.1\n 1 2\n{state}\n");
        assert!(is_ready(&file("ready   ")));
        assert!(!is_ready(&file("starting")));
        assert!(!is_ready("1\n/data\n"));
    }
}
