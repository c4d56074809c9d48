//! The command line, and what `--help` teaches.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  pulsestream demo
      A synthetic shop with an incident, in a temporary folder. Prints a link and a ready curl line.
  pulsestream serve --store ./events --listen 127.0.0.1:8600
      Serves the API from a folder; creates it if it is not there.
  pulsestream import access.log.gz --store ./events --tenant shop
      Imports an Apache or nginx access log; running it again stores nothing twice.
  pulsestream doctor ./events
      Verifies every checksum of a store.

Every flag can be given as a variable too: PULSESTREAM_STORE, PULSESTREAM_LISTEN, and so on.";

/// Event ingestion, alerting and analytics without a server to install.
#[derive(Debug, Parser)]
#[command(name = "pulsestream", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Which messages to log: error, warn, info, debug or trace.
    #[arg(long, global = true, env = "PULSESTREAM_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: tracing::level_filters::LevelFilter,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Imports NDJSON events or an access log into a store.
    Import(ImportArgs),
    /// Verifies a store and shows what it holds.
    Doctor(DoctorArgs),
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// A folder, `memory:` or `postgres://user@host/database`.
    #[arg(long, env = "PULSESTREAM_STORE", default_value = "./pulsestream-data", value_name = "URL|PATH")]
    pub store: String,
    /// A Redis for rate limits, cache, live messages and leases, for example redis://localhost:6379.
    #[arg(long, env = "PULSESTREAM_REDIS", value_name = "URL")]
    pub redis: Option<String>,
    /// Settings in JSON; flags win over the file.
    #[arg(long, env = "PULSESTREAM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The form of an imported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Decided by the first line.
    Auto,
    /// One JSON event on each line.
    Ndjson,
    /// Apache or nginx access log, combined or common.
    AccessLog,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, plain or gzip; `-` reads standard input.
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose events they are: a tenant id, or a name to derive one from.
    #[arg(long, env = "PULSESTREAM_TENANT", default_value = "default", value_name = "ID|NAME")]
    pub tenant: String,
    /// The form of the file.
    #[arg(long, env = "PULSESTREAM_FORMAT", value_enum, default_value = "auto")]
    pub format: Format,
    /// Name of the service that wrote an access log.
    #[arg(long, env = "PULSESTREAM_SERVICE", default_value = "web", value_name = "NAME")]
    pub service: String,
    /// How many refused lines to show; all are counted.
    #[arg(long, env = "PULSESTREAM_SHOW_ERRORS", default_value_t = 10, value_name = "COUNT")]
    pub show_errors: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The store: a folder, or a URL.
    #[arg(value_name = "URL|PATH", env = "PULSESTREAM_STORE")]
    pub store: String,
}
