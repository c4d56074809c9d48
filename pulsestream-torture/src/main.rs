//! Kills the embedded store at random and checks what is left.
//!
//! `cargo run --release -p pulsestream-torture -- kill9 --cycles 2000`
//! `cargo run --release -p pulsestream-torture -- alerting --cycles 500`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod alerting;
mod check;
mod child;
mod kill9;
mod load;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Appends in a child process, kills it with SIGKILL at a random moment, and checks; one time in five kills the recovery too.
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
        /// Where the stores are; a temporary folder when absent.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// The child of `alerting`.
    #[command(hide = true)]
    AlertingChild {
        /// The store.
        folder: PathBuf,
        /// Where notifications go.
        sink: String,
        /// The first tick.
        start: u64,
        /// Ticks that are left out after it.
        gap: u64,
        /// After how many ticks to come to an end.
        ticks: Option<u64>,
    },
    /// The child of `kill9`.
    #[command(hide = true)]
    Child {
        /// The store.
        folder: PathBuf,
        /// Number of the first event.
        start: u64,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Kill9 { cycles, seed, folder } => kill9::run(cycles, seed, folder),
        Command::Alerting { cycles, seed, folder } => alerting::run(cycles, seed, folder),
        Command::AlertingChild { folder, sink, start, gap, ticks } => {
            alerting::run_child(&folder, &sink, start, gap, ticks)
        }
        Command::Child { folder, start } => child::run(&folder, start),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
