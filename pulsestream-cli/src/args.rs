//! The command line, and what `--help` teaches.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::identity::IdentityArgs;
use crate::outbound::OutboundArgs;

const EXAMPLES: &str = "\
Examples:
  pulsestream demo
      A synthetic shop with an incident, in a temporary folder. Prints a link and a ready curl line.
  pulsestream serve --store ./events --listen 127.0.0.1:8600
      Serves the API from a folder; creates it if it is not there.
  pulsestream import access.log.gz --store ./events --tenant shop
      Imports an Apache or nginx access log; running it again stores nothing twice.
  pulsestream backup ./events --to ./events-copy
      Copies the store, also while a server has it open.
  pulsestream doctor ./events
      Verifies every checksum of a store.

Every flag can be given as a variable too: PULSESTREAM_STORE, PULSESTREAM_LISTEN, and so on.";

/// Event ingestion, alerting and analytics without a server to install.
#[derive(Debug, Parser)]
#[command(name = "pulsestream", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Which messages to log: error, warn, info, debug or trace.
    #[arg(long, global = true, env = "PULSESTREAM_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: tracing::level_filters::LevelFilter,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a synthetic shop with a planted incident, live, with an alert that fires.
    Demo(DemoArgs),
    /// Serves the HTTP API.
    Serve(Box<ServeArgs>),
    /// Manages the accounts of a store.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Looks into the ingest queue: its size, and the batches that could not be stored.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Imports NDJSON events, a Parquet file or an access log into a store.
    Import(ImportArgs),
    /// Writes the events of a tenant as NDJSON or Parquet, in the form that import reads.
    Export(ExportArgs),
    /// Copies a store to another folder, also while a server has it open.
    Backup(BackupArgs),
    /// Verifies every checksum of a store and shows what it holds.
    Doctor(DoctorArgs),
    /// Prints every setting with its value, in the form of a settings file; checks one that is given.
    Settings(SettingsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Settings in JSON; what is absent there has its default.
    #[arg(long, env = "PULSESTREAM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// A folder, `memory:` or `postgres://user@host/database`.
    #[arg(long, env = "PULSESTREAM_STORE", default_value = "./pulsestream-data", value_name = "URL|PATH")]
    pub store: String,
    /// A Redis for rate limits, cache and the live bus, for example redis://localhost:6379.
    #[arg(long, env = "PULSESTREAM_REDIS", value_name = "URL")]
    pub redis: Option<String>,
    /// What the keys in that Redis start with; applications that share a Redis need one each.
    #[arg(long, env = "PULSESTREAM_REDIS_PREFIX", value_name = "NAME", requires = "redis")]
    pub redis_prefix: Option<String>,
    /// Settings in JSON, for which `pulsestream settings` prints a pattern; flags win over the file.
    #[arg(long, env = "PULSESTREAM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where to listen.
    #[arg(long, env = "PULSESTREAM_LISTEN", default_value = "127.0.0.1:8600", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Where to keep the data; a temporary folder, deleted at the end, when absent.
    #[arg(long, env = "PULSESTREAM_STORE", value_name = "URL|PATH")]
    pub store: Option<String>,
    /// Seed of the synthetic traffic: the same seed, the same events.
    #[arg(long, env = "PULSESTREAM_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Events of history to start with.
    #[arg(long, env = "PULSESTREAM_EVENTS", default_value_t = 50_000, value_name = "COUNT")]
    pub events: usize,
    /// Live events per second after that.
    #[arg(long, env = "PULSESTREAM_RATE", default_value_t = 20, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Ends after this many seconds instead of running until Ctrl-C.
    #[arg(long, env = "PULSESTREAM_SECONDS", value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// Events per minute and tenant, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateLimitArg {
    Off,
    PerMinute(u32),
}

impl std::str::FromStr for RateLimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => match text.parse() {
                Ok(limit) if limit > 0 => Ok(Self::PerMinute(limit)),
                _ => Err("give events per minute and tenant, 1 or more, or `off`".to_owned()),
            },
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where to listen.
    #[arg(long, env = "PULSESTREAM_LISTEN", default_value = "127.0.0.1:8600", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Accepts events into a durable queue in Redis and stores them in the background; needs --redis.
    #[arg(long, env = "PULSESTREAM_QUEUE", requires = "redis")]
    pub queue: bool,
    /// Events per minute and tenant, or `off`; default from the settings (100).
    #[arg(long, env = "PULSESTREAM_RATE_LIMIT", value_name = "N|off")]
    pub rate_limit: Option<RateLimitArg>,
    /// Name of the deployment, shown by /health.
    #[arg(long, env = "PULSESTREAM_ENVIRONMENT", default_value = "production", value_name = "NAME")]
    pub environment: String,
    #[command(flatten)]
    pub outbound: OutboundArgs,
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// A proxy whose X-Forwarded-For is believed; can be given several times.
    #[arg(long, env = "PULSESTREAM_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,
    /// Makes a tenant with this slug and an owner at the start, if they are not there yet.
    #[arg(long, env = "PULSESTREAM_ADMIN_TENANT", value_name = "SLUG", requires = "admin_email")]
    pub admin_tenant: Option<String>,
    /// E-mail address of that owner.
    #[arg(long, env = "PULSESTREAM_ADMIN_EMAIL", value_name = "EMAIL", requires = "admin_tenant")]
    pub admin_email: Option<String>,
    /// Password of that owner; one is made up and printed when absent.
    #[arg(long, env = "PULSESTREAM_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Makes a tenant with an owner; prints the password and the API key once.
    Create(AdminCreateArgs),
    /// Replaces the key that signs access tokens; running servers take the new one over within seconds.
    RotateKeys(AdminRotateKeysArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AdminRotateKeysArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Ends every access token at once, instead of letting those that were given live out their time: for a key that leaked.
    #[arg(long)]
    pub immediately: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AdminCreateArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Slug of the tenant: a-z, 0-9, _ and -.
    #[arg(long, env = "PULSESTREAM_ADMIN_TENANT", value_name = "SLUG")]
    pub tenant: String,
    /// E-mail address of the owner.
    #[arg(long, env = "PULSESTREAM_ADMIN_EMAIL", value_name = "EMAIL")]
    pub email: String,
    /// Password of the owner; one is made up when absent.
    #[arg(long, env = "PULSESTREAM_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Shows how full it is.
    Status(QueueArgs),
    /// Lists dead letters: batches that were given up, the oldest first.
    Dead(DeadArgs),
    /// Puts dead letters back into the queue, to be stored after all.
    Replay(EndDeadArgs),
    /// Removes dead letters for good.
    Discard(EndDeadArgs),
}

/// Where the queue is.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The Redis that keeps it, for example redis://localhost:6379.
    #[arg(long, env = "PULSESTREAM_REDIS", value_name = "URL")]
    pub redis: String,
    /// What the keys in that Redis start with.
    #[arg(long, env = "PULSESTREAM_REDIS_PREFIX", default_value = "pulsestream", value_name = "NAME")]
    pub redis_prefix: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
    /// How many to list.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub limit: usize,
    /// Prints the events too, one JSON object on each line.
    #[arg(long)]
    pub events: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EndDeadArgs {
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Receipts as `dead` lists them.
    #[arg(value_name = "RECEIPT", required_unless_present = "all", conflicts_with = "all")]
    pub receipts: Vec<String>,
    /// All dead letters.
    #[arg(long)]
    pub all: bool,
}

/// The form of an imported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Decided by the first bytes.
    Auto,
    /// One JSON event on each line.
    Ndjson,
    /// Apache or nginx access log, combined or common.
    AccessLog,
    /// Parquet with the columns that export writes.
    Parquet,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON event on each line.
    Ndjson,
    /// For DuckDB, Polars and Spark.
    Parquet,
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
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose events: a tenant id, or the name that import was given.
    #[arg(long, env = "PULSESTREAM_TENANT", default_value = "default", value_name = "ID|NAME")]
    pub tenant: String,
    /// Only events that match, for example "severity >= 'error'".
    #[arg(long, env = "PULSESTREAM_FILTER", value_name = "FILTER")]
    pub filter: Option<String>,
    /// A new file, or `-` for standard output.
    #[arg(long, short, env = "PULSESTREAM_OUTPUT", default_value = "-", value_name = "FILE|-")]
    pub output: PathBuf,
    /// The form; by default Parquet for a file whose name ends in .parquet, else NDJSON.
    #[arg(long, env = "PULSESTREAM_EXPORT_FORMAT", value_enum)]
    pub format: Option<ExportFormat>,
    /// Continues an NDJSON file that was cut short, after its last event.
    #[arg(long)]
    pub resume: bool,
}

impl ExportArgs {
    /// Returns the form asked for, or the one the name of the file asks for.
    pub(crate) fn format(&self) -> ExportFormat {
        let is_parquet = self.output.extension().is_some_and(|extension| extension == "parquet");
        let by_name = if is_parquet { ExportFormat::Parquet } else { ExportFormat::Ndjson };
        self.format.unwrap_or(by_name)
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The folder to copy.
    #[arg(value_name = "PATH", env = "PULSESTREAM_STORE")]
    pub store: String,
    /// A new or empty folder; it becomes a store that can be opened.
    #[arg(long, env = "PULSESTREAM_BACKUP_TO", value_name = "FOLDER")]
    pub to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The store: a folder, or a URL.
    #[arg(value_name = "URL|PATH", env = "PULSESTREAM_STORE")]
    pub store: String,
    /// Go on without a segment that cannot be opened: its events are missing from then on, its file is kept.
    #[arg(long, value_name = "SEGMENT")]
    pub set_aside: Option<String>,
}
