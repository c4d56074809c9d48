//! The settings file: those of the library, and those of the stores that the program can open.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use pulsestream::postgres::PostgresConfig;
use pulsestream::redis::RedisConfig;
use pulsestream::{Builder, EmbeddedConfig};
use pulsestream_core::auth::AuthSettings;
use pulsestream_core::settings::{
    AlertingSettings, HousekeepingSettings, HttpSettings, IngestSettings, QuerySettings, Settings, read_over,
};
use pulsestream_core::{Error, ErrorKind, FieldError, Result};
use serde::{Deserialize, Serialize};

use crate::args::SettingsArgs;

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// All sections of the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProgramSettings {
    pub ingest: IngestSettings,
    pub query: QuerySettings,
    pub alerting: AlertingSettings,
    pub http: HttpSettings,
    pub housekeeping: HousekeepingSettings,
    pub accounts: AuthSettings,
    pub embedded: EmbeddedConfig,
    pub postgres: PostgresConfig,
    pub redis: RedisConfig,
}

impl ProgramSettings {
    /// Reads and validates the file, or takes the defaults.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let refuse = |cause: String| {
            Error::new(ErrorKind::Invalid, "config.read", "the settings file cannot be read")
                .with_context("file", path.display())
                .with_context("cause", cause)
        };
        let file = std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
        let mut text = String::new();
        file.take(MAX_CONFIG_BYTES).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
        let given = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let settings = read_over(&Self::default(), &given).and_then(Self::validated);
        settings.map_err(|error| error.with_context("file", path.display()))
    }

    fn validated(self) -> Result<Self> {
        let sections = [
            ("", self.library().validate()),
            ("/accounts", self.accounts.validate()),
            ("/embedded", self.embedded.validate()),
            ("/postgres", self.postgres.validate()),
            ("/redis", self.redis.validate()),
        ];
        let mut errors = Vec::new();
        for (section, outcome) in sections {
            let Err(error) = outcome else { continue };
            errors.extend(
                error.fields().iter().map(|field| FieldError {
                    pointer: format!("{section}{}", field.pointer),
                    ..field.clone()
                }),
            );
        }
        if errors.is_empty() { Ok(self) } else { Err(Error::invalid_fields("config.read", errors)) }
    }

    /// Returns the sections of the library.
    pub(crate) fn library(&self) -> Settings {
        Settings {
            ingest: self.ingest.clone(),
            query: self.query.clone(),
            alerting: self.alerting.clone(),
            http: self.http.clone(),
            housekeeping: self.housekeeping,
        }
    }

    /// Says all of them to a builder.
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        builder
            .with_settings(self.library())
            .with_auth_settings(self.accounts.clone())
            .with_embedded_config(self.embedded.clone())
            .with_postgres_config(self.postgres.clone())
            .with_redis_config(self.redis.clone())
    }
}

/// Runs `pulsestream settings`.
pub(crate) fn run(args: &SettingsArgs) -> Result<ExitCode> {
    let settings = ProgramSettings::read(args.config.as_deref())?;
    let text = serde_json::to_string_pretty(&settings).map_err(|error| {
        Error::new(ErrorKind::Internal, "settings.write", "the settings cannot be written").with_source(error)
    })?;
    say!("{text}");
    Ok(ExitCode::SUCCESS)
}
