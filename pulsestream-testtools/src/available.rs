//! Which servers are there. A missing one never looks like a passed test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A server program that tests may start.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The server under its names; several stand for forks.
    names: &'static [&'static str],
    /// What must lie beside it.
    companions: &'static [&'static str],
    package: &'static str,
    /// What stands before the version in the output of `SERVER --version`.
    version_after: &'static str,
    oldest_major: u32,
    /// A folder whose subfolders `VERSION/bin` hold the program beside `PATH`.
    versioned: Option<&'static str>,
}

/// Redis, or Valkey, which speaks the same protocol.
pub const REDIS: Program = Program {
    names: &["redis-server", "valkey-server"],
    companions: &[],
    package: "redis-server",
    version_after: "v=",
    oldest_major: 7,
    versioned: None,
};

/// PostgreSQL, with the programs that create and stop a cluster.
pub const POSTGRES: Program = Program {
    names: &["postgres"],
    companions: &["initdb", "pg_ctl"],
    package: "postgresql",
    version_after: "(PostgreSQL) ",
    oldest_major: 15,
    versioned: Some("/usr/lib/postgresql"),
};

/// pgbouncer, a pooler of connections to PostgreSQL.
pub const PGBOUNCER: Program = Program {
    names: &["pgbouncer"],
    companions: &[],
    package: "pgbouncer",
    version_after: "PgBouncer ",
    oldest_major: 1,
    versioned: None,
};

/// Folders of programs that are not always in `PATH`: Debian's for daemons, and that of a PostgreSQL built by hand.
const OTHER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/pgsql/bin"];

impl Program {
    /// Returns the name of the Debian package.
    pub fn package(&self) -> &'static str {
        self.package
    }

    /// Returns the path of the program, in `PATH` or where its packages put it, the newest version first.
    ///
    /// # Errors
    /// When it is not here, or only in versions that are too old; the message says which.
    pub fn locate(&self) -> Result<PathBuf, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = versions(self.versioned).into_iter().chain(std::env::split_paths(&path));
        let folders = folders.chain(OTHER_FOLDERS.iter().map(PathBuf::from));
        let mut too_old = Vec::new();
        for folder in folders {
            if !self.companions.iter().all(|name| folder.join(name).is_file()) {
                continue;
            }
            for server in self.names.iter().map(|name| folder.join(name)).filter(|server| server.is_file()) {
                match self.major_version(&server) {
                    Some(major) if major >= self.oldest_major => return Ok(server),
                    version => too_old.push(format!("{} is version {version:?}", server.display())),
                }
            }
        }
        let wanted = format!("{} of version {} or later is not here", self.names[0], self.oldest_major);
        Err(if too_old.is_empty() { wanted } else { format!("{wanted}, but {}", too_old.join(", ")) })
    }

    fn major_version(&self, server: &Path) -> Option<u32> {
        let output = Command::new(server).arg("--version").stdin(Stdio::null()).output().ok()?;
        major_version(&String::from_utf8_lossy(&output.stdout), self.version_after)
    }
}

fn major_version(printed: &str, after: &str) -> Option<u32> {
    let (_, version) = printed.split_once(after)?;
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Returns the URL of a server that the environment names, for example in `PULSESTREAM_TEST_REDIS_URL`.
///
/// Without one it prints one loud line for each variable and returns nothing.
///
/// # Panics
/// Without one when the variable `CI` is set.
#[track_caller]
pub fn server_url(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        report(&format!(
            "{variable} is not set: `cargo xtask test` sets it, `cargo xtask services` prints it"
        ));
    }
    url
}

/// Returns the path of a server program, see [`Program::locate`].
///
/// Without one it prints one loud line and returns nothing.
///
/// # Panics
/// Without one when the variable `CI` is set.
#[track_caller]
pub fn find_program(program: &Program) -> Option<PathBuf> {
    match program.locate() {
        Ok(path) => Some(path),
        Err(missing) => {
            report(&format!("{missing}: install {}", program.package));
            None
        }
    }
}

fn versions(parent: Option<&str>) -> Vec<PathBuf> {
    let entries = parent.and_then(|parent| std::fs::read_dir(parent).ok());
    let mut versions: Vec<(u32, PathBuf)> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[track_caller]
#[allow(clippy::print_stderr, reason = "people must see that a test was skipped")]
fn report(missing: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        panic!("needed in CI: {missing}");
    }
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(missing.to_owned()) {
        eprintln!("!!! TESTS SKIPPED: {missing}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_print() {
        let postgres = |text| major_version(text, POSTGRES.version_after);
        assert_eq!(postgres("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(postgres("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(postgres("something else"), None);
        let redis = |text| major_version(text, REDIS.version_after);
        assert_eq!(redis("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"), Some(7));
        assert_eq!(redis("Valkey server v=8.1.1 sha=00000000:0"), Some(8));
    }

    fn program(name: &'static [&'static str], companions: &'static [&'static str], oldest: u32) -> Program {
        Program { names: name, companions, version_after: "cargo ", oldest_major: oldest, ..PGBOUNCER }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = program(&["no-such-server"], &[], 7).locate().unwrap_err();
        assert_eq!(error, "no-such-server of version 7 or later is not here");
    }

    #[test]
    fn an_old_or_incomplete_server_is_not_taken() {
        assert!(program(&["cargo"], &["rustc"], 1).locate().is_ok());
        assert!(program(&["cargo"], &[], 999).locate().unwrap_err().contains("is version Some(1)"));
        assert!(program(&["cargo"], &["no-such-companion"], 1).locate().is_err());
    }
}
