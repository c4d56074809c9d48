//! Development tasks: `cargo xtask lint | policy | test | torture | services | schemathesis | ci | help`.
//!
//! Continuous integration runs exactly these commands, so what passes here passes there.
#![allow(
    clippy::disallowed_methods,
    reason = "a build tool: it times its steps and reads its own small files"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is the interface of this program"
)]

mod command;
mod deny;
mod graph;
mod lint;
mod policy;
mod schemathesis;
mod services;
mod spdx;
mod test;
mod torture;

use std::process::ExitCode;

use command::Result;

const HELP: &str = "\
usage: cargo xtask <task>

  ci                 lint, then test: what continuous integration runs
  lint               formatting, dependency policy, clippy, documentation, feature checks
  policy             only the dependency policy: licences, banned crates, sources, the shape of the workspace
  test               every test and every example, against a real PostgreSQL and a real Redis, then a short torture
  test -- ARGS       `cargo test ARGS` against the same servers, for example: test -- -p pulsestream-redis lease
  torture            only the short torture: kills, failing system calls, power loss, full disks
  services           start both servers, print `export` lines, stay until ctrl-c
  schemathesis       tests the program against its OpenAPI documents (needs python3); `schemathesis -- --examples 200`
  help               this text

Servers: the URLs in PULSESTREAM_TEST_POSTGRES_URL and PULSESTREAM_TEST_REDIS_URL are used when set. Otherwise
PostgreSQL 15+ and Redis 7+ (or Valkey) are looked up on this machine, installed with apt-get when the user is root
(or, with CI=true, may use sudo without a password), and run from a temporary directory on free ports of 127.0.0.1.
They are stopped and their directory is removed however the task ends. When a server cannot be had, the tests that
need it are skipped with one loud line; with CI=true that is an error.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => lint::check().and_then(|()| test::test(&[])),
        ["lint"] => lint::check(),
        ["policy"] => policy::check(),
        ["test"] => test::test(&[]),
        ["test", "--", extra @ ..] => test::test(extra),
        ["schemathesis"] => schemathesis::check(&[]),
        ["schemathesis", "--", extra @ ..] => schemathesis::check(extra),
        ["torture"] => torture::torture(),
        ["services"] => services::stay(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown task {other:?}\n\n{HELP}").into()),
    }
}
