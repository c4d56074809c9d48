//! Which servers are there. A missing one never looks like a passed test.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A server program that tests may start.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    names: &'static [&'static str],
    companions: &'static [&'static str],
    package: &'static str,
    /// A folder whose subfolders `VERSION/bin` hold the program beside `PATH`.
    versioned: Option<&'static str>,
}

/// Redis, or Valkey, which speaks the same protocol.
pub const REDIS: Program = Program {
    names: &["redis-server", "valkey-server"],
    companions: &[],
    package: "redis-server",
    versioned: None,
};

/// PostgreSQL, with the programs that create and stop a cluster.
pub const POSTGRES: Program = Program {
    names: &["postgres"],
    companions: &["initdb", "pg_ctl"],
    package: "postgresql",
    versioned: Some("/usr/lib/postgresql"),
};

/// pgbouncer, a pooler of connections to PostgreSQL.
pub const PGBOUNCER: Program =
    Program { names: &["pgbouncer"], companions: &[], package: "pgbouncer", versioned: None };

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

/// Returns the path of a server program, in `PATH` or where its packages put it, the newest version first.
///
/// Without one it prints one loud line and returns nothing.
///
/// # Panics
/// Without one when the variable `CI` is set.
#[track_caller]
pub fn find_program(program: &Program) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons in a folder that is only in root's `PATH`.
    let daemons = std::iter::once(PathBuf::from("/usr/sbin"));
    let folders = versions(program.versioned).into_iter().chain(std::env::split_paths(&path)).chain(daemons);
    let found = folders.into_iter().find_map(|folder| {
        let is_complete = program.companions.iter().all(|name| folder.join(name).is_file());
        let mut servers = program.names.iter().map(|name| folder.join(name));
        servers.find(|server| is_complete && server.is_file())
    });
    if found.is_none() {
        report(&format!("{} is not here: install {}", program.names[0], program.package));
    }
    found
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
