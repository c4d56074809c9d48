//! Does to the embedded store what disks, kernels and administrators do, and checks what is left.
//!
//! `cargo run --release -p pulsestream-torture -- kill9 --cycles 2000`
//! `cargo run --release -p pulsestream-torture -- alerting --cycles 500`, and with `--store postgres --cycles 200`
//! `cargo run --release -p pulsestream-torture -- redis --cycles 50`
//! `cargo run --release -p pulsestream-torture -- postgres --cycles 50`
//!
//! `all` runs a short version of what concerns the store, as `cargo xtask test` does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod alerting;
mod check;
mod child;
mod kill9;
mod ledger;
mod limits;
mod load;
mod memory;
mod mount;
mod postgres;
mod power;
mod process;
mod redis;
mod script;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use pulsestream_core::Result;

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Appends, deletes and retains in a child process, kills it with SIGKILL at a random moment, and checks; one time in five kills
    /// the recovery too.
    Kill9 {
        /// How often.
        #[arg(long, default_value_t = 100)]
        cycles: u64,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the stores are; a temporary folder when absent.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Evaluates rules and delivers notifications in a child process, kills it with SIGKILL at random moments, and compares what
    /// became of alerts and notifications with a replay.
    Alerting {
        /// How often.
        #[arg(long, default_value_t = 50)]
        cycles: u64,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the stores are: a folder, the URL of a PostgreSQL, or `postgres` for a server of its own; a temporary folder when
        /// absent.
        #[arg(long)]
        store: Option<String>,
    },
    /// The child of `alerting`.
    #[command(hide = true)]
    AlertingChild {
        /// The store.
        store: String,
        /// Where notifications go.
        sink: String,
        /// The first tick.
        start: u64,
        /// Ticks that are left out after it.
        gap: u64,
        /// After how many ticks to come to an end.
        ticks: Option<u64>,
    },
    /// Kills a child before each of its system calls that changes a file; needs strace.
    Kills {
        /// Only every so many of them.
        #[arg(long, default_value_t = 1)]
        stride: u64,
    },
    /// Fails each system call that changes a file, with EIO and ENOSPC, once and for good; needs strace.
    Failures {
        /// Only every so many of them.
        #[arg(long, default_value_t = 1)]
        stride: u64,
    },
    /// Stops an ext4 file system under a child, without what was not synced; needs root and loop devices.
    Power {
        /// How often.
        #[arg(long, default_value_t = 20)]
        cycles: u64,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Kills Redis under the load of three nodes, and nodes too, with the ingest queue in front of PostgreSQL, and checks that
    /// everything that was acknowledged is stored once.
    Redis {
        /// How often.
        #[arg(long, default_value_t = 50)]
        cycles: u64,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Stops PostgreSQL under load, fast and at once, and kills it, and checks that everything that was acknowledged is stored once, and
    /// that appending goes on soon after the server is back.
    Postgres {
        /// How often.
        #[arg(long, default_value_t = 50)]
        cycles: u64,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A full disk (needs root), few file handles, slow syncs, little memory, folders of somebody else (needs root), and several
    /// processes that want one folder.
    Limits,
    /// A short version of every part.
    All,
    /// A node of `redis`.
    #[command(hide = true)]
    RedisNode {
        /// URL of PostgreSQL.
        postgres: String,
        /// URL of Redis.
        redis: String,
        /// Number of the first event.
        start: u64,
    },
    /// The child of `kill9`.
    #[command(hide = true)]
    Child {
        /// The store.
        folder: PathBuf,
        /// Number of the first event.
        start: u64,
    },
    /// The child of the parts that trace.
    #[command(hide = true)]
    Script {
        /// The store.
        folder: PathBuf,
        /// Number of the first event.
        start: u64,
    },
    /// The child that fills a disk.
    #[command(hide = true)]
    Fill {
        /// The store.
        folder: PathBuf,
        /// Not used.
        start: u64,
    },
    /// The child with many clients.
    #[command(hide = true)]
    Crowd {
        /// The store.
        folder: PathBuf,
        /// Not used.
        start: u64,
    },
    /// The child whose clients append more than memory holds.
    #[command(hide = true)]
    Hoard {
        /// The store.
        folder: PathBuf,
        /// Not used.
        start: u64,
    },
    /// The child that opens a folder and appends one event.
    #[command(hide = true)]
    Visit {
        /// The store.
        folder: PathBuf,
        /// Not used.
        start: u64,
    },
    /// The child that wants a folder for itself.
    #[command(hide = true)]
    Owner {
        /// The store.
        folder: PathBuf,
        /// Number of the first event.
        start: u64,
    },
}

/// What every change must pass.
fn all() -> Result<()> {
    kill9::run(100, 1, None)?;
    trace::kills(9)?;
    trace::failures(29)?;
    power::run(3, 1)?;
    limits(2, Duration::from_millis(200))
}

fn limits(rounds: u64, delay: Duration) -> Result<()> {
    limits::full_disk()?;
    limits::few_handles()?;
    memory::slow_disk(delay)?;
    memory::slow_disk_memory(delay / 20)?;
    memory::little_memory()?;
    limits::foreign_folder()?;
    limits::owners(rounds)
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Kill9 { cycles, seed, folder } => kill9::run(cycles, seed, folder),
        Command::Alerting { cycles, seed, store } => alerting::run(cycles, seed, store.as_deref()),
        Command::AlertingChild { store, sink, start, gap, ticks } => {
            alerting::run_child(&store, &sink, start, gap, ticks)
        }
        Command::Kills { stride } => trace::kills(stride),
        Command::Failures { stride } => trace::failures(stride),
        Command::Power { cycles, seed } => power::run(cycles, seed),
        Command::Limits => limits(20, Duration::from_secs(2)),
        Command::All => all(),
        Command::Redis { cycles, seed } => redis::run(cycles, seed),
        Command::Postgres { cycles, seed } => postgres::run(cycles, seed),
        Command::RedisNode { postgres, redis, start } => redis::run_node(&postgres, &redis, start),
        Command::Child { folder, start } => child::run(&folder, start),
        Command::Script { folder, start } => script::run(&folder, start),
        Command::Fill { folder, .. } => limits::fill(&folder),
        Command::Crowd { folder, .. } => memory::crowd(&folder),
        Command::Hoard { folder, .. } => memory::hoard(&folder),
        Command::Visit { folder, .. } => limits::visit(&folder),
        Command::Owner { folder, start } => limits::owner(&folder, start),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
