//! The `pulsestream` program: demo, serve, admin, queue, import, export, backup, doctor, settings.

#[macro_use]
mod print;

mod admin;
mod args;
mod backup;
mod demo;
mod doctor;
mod export;
mod identity;
mod import;
mod open;
mod outbound;
mod queue;
mod serve;
mod settings;
mod terminal;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use pulsestream_core::{Error, ErrorKind, Result};

use crate::args::{AdminCommand, Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("error: the runtime did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            complain!("error: {error}");
            if let Some(hint) = hint(&error) {
                complain!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Admin(AdminCommand::Create(args)) => admin::create(args).await,
        Command::Admin(AdminCommand::RotateKeys(args)) => admin::rotate_keys(args).await,
        Command::Queue(command) => queue::run(command).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Settings(args) => settings::run(&args),
    }
}

/// What to do about an error, where its message does not say so itself.
fn hint(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::StoreLocked => {
            Some("stop the other process, or copy the folder with `pulsestream backup` and use the copy")
        }
        ErrorKind::StorageFull => Some("free some space, then run the same command again"),
        ErrorKind::Corrupt => Some("run `pulsestream doctor` on the store to see what is affected"),
        ErrorKind::Unavailable => Some("check that the server runs and that its URL is right"),
        _ => None,
    }
}
