//! A real PostgreSQL and a real Redis for the tests: taken from the environment, found, or installed.
//!
//! A server has a process of its own that watches over it and ends it when this one ends: when the task is done, when it fails, at
//! ctrl-c and at `kill -9` alike.

mod install;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulsestream_testtools::{PGBOUNCER, POSTGRES, PostgresServer, Program, REDIS, RedisServer};

use crate::command::{Result, capture, is_ci};

/// Another program can take a free port between our look and the server's bind.
const START_ATTEMPTS: usize = 3;

/// What differs from the servers that tests start themselves: room for all tests at once.
///
/// The time zone is an odd one on purpose: a query that depends on the zone of the session fails here, not at a user's.
const POSTGRES_SETTINGS: &[&str] = &[
    "max_connections=200",
    "max_locks_per_transaction=256",
    "shared_buffers=64MB",
    "timezone=Asia/Kathmandu",
];

/// Servers that live as long as this value.
#[derive(Debug)]
pub(crate) struct Services {
    _running: Vec<Box<dyn Debug>>,
    /// Variables for the tests, with the URLs of the servers that could be had.
    pub(crate) variables: Vec<(String, String)>,
}

/// A kind of server.
struct Server {
    label: &'static str,
    variable: &'static str,
    program: Program,
    start: fn(&Path) -> std::io::Result<Started>,
}

/// A started server, which dropping stops, and its URL.
type Started = (Box<dyn Debug>, String);

const SERVERS: [Server; 2] = [
    Server {
        label: "PostgreSQL",
        variable: "PULSESTREAM_TEST_POSTGRES_URL",
        program: POSTGRES,
        start: |program| {
            let server = PostgresServer::start(program, POSTGRES_SETTINGS)?;
            let url = server.url();
            Ok((Box::new(server), url))
        },
    },
    Server {
        label: "Redis",
        variable: "PULSESTREAM_TEST_REDIS_URL",
        program: REDIS,
        start: |program| {
            let server = RedisServer::start(program, &[])?;
            let url = server.url();
            Ok((Box::new(server), url))
        },
    },
];

impl Services {
    /// Starts what can be had; a missing server is an error when `CI` is set and a loud line otherwise.
    pub(crate) fn start() -> Result<Self> {
        let mut services = Self { _running: Vec::new(), variables: Vec::new() };
        for server in &SERVERS {
            let url = match std::env::var(server.variable).ok().filter(|url| !url.is_empty()) {
                Some(url) => url,
                None => match or_skip(server.label, &server.program, start(server))? {
                    Some((running, url)) => {
                        services._running.push(running);
                        url
                    }
                    None => continue,
                },
            };
            services.variables.push((server.variable.to_owned(), url));
        }
        // Tests start it themselves, before a server.
        or_skip("pgbouncer", &PGBOUNCER, find_or_install(&PGBOUNCER))?;
        Ok(services)
    }
}

/// `cargo xtask services`.
pub(crate) fn stay() -> Result<()> {
    let services = Services::start()?;
    for (name, url) in &services.variables {
        println!("export {name}='{url}'");
    }
    eprintln!("servers are up; ctrl-c stops them");
    loop {
        std::thread::park();
    }
}

/// Passes on what could be had; what could not is an error when `CI` is set and a loud line otherwise.
fn or_skip<T>(label: &str, program: &Program, outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(had) => Ok(Some(had)),
        Err(error) if is_ci() => Err(format!("{label} is needed: {error}").into()),
        Err(error) => {
            let package = program.package();
            eprintln!("!!! NO {label}: its tests will be SKIPPED. Install {package}. {error}");
            Ok(None)
        }
    }
}

fn find_or_install(program: &Program) -> Result<PathBuf> {
    let missing = match program.locate() {
        Ok(path) => return Ok(path),
        Err(missing) => missing,
    };
    install(program.package()).map_err(|error| format!("{missing}; {error}"))?;
    Ok(program.locate()?)
}

fn start(server: &Server) -> Result<Started> {
    let program = find_or_install(&server.program)?;
    let mut attempt = 1;
    loop {
        match (server.start)(&program) {
            Err(error) if attempt < START_ATTEMPTS => eprintln!("{} did not start: {error}", server.label),
            outcome => return Ok(outcome?),
        }
        attempt += 1;
    }
}

/// Installs a Debian package that tests need.
pub(crate) fn install(package: &str) -> Result<()> {
    let user = capture(Command::new("id").arg("-u"))?;
    install::install(package, user.trim() == "0")
}
