//! Where the stores are: folders, or schemas of a PostgreSQL.

use std::path::PathBuf;

use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_testtools::{POSTGRES, PostgresServer, find_program};
use tempfile::TempDir;

use super::failed;

/// The word for a PostgreSQL of its own.
const OWN_POSTGRES: &str = "postgres";

/// Where the stores are.
#[derive(Debug)]
pub(super) enum Places {
    /// Folders in a folder, which may go with the run.
    Folders(PathBuf, Option<TempDir>),
    /// Schemas of a server, which may go with the run.
    Schemas(String, Option<PostgresServer>),
}

impl Places {
    /// Understands a folder, the URL of a PostgreSQL, or `postgres` for a server of its own; without a word, a temporary folder.
    pub(super) fn new(place: Option<&str>) -> Result<Self> {
        match place {
            None => {
                let folder = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
                Ok(Self::Folders(folder.path().to_owned(), Some(folder)))
            }
            Some(OWN_POSTGRES) => {
                let program = find_program(&POSTGRES).ok_or_else(|| {
                    Error::new(ErrorKind::Unsupported, "torture.alerting", "postgresql is needed")
                })?;
                let server =
                    PostgresServer::start(&program, &[]).map_err(|error| failed("start a server", error))?;
                Ok(Self::Schemas(server.url(), Some(server)))
            }
            Some(url) if url.starts_with("postgres") && url.contains("://") => {
                Ok(Self::Schemas(url.to_owned(), None))
            }
            Some(folder) => Ok(Self::Folders(folder.into(), None)),
        }
    }

    /// Returns the URL of a store.
    pub(super) fn store(&self, number: u64) -> String {
        match self {
            Self::Folders(folder, _) => {
                folder.join(format!("alerting-{number}")).to_string_lossy().into_owned()
            }
            Self::Schemas(server, _) => {
                let joint = if server.contains('?') { '&' } else { '?' };
                format!("{server}{joint}schema=alerting_{}_{number}", std::process::id())
            }
        }
    }

    /// Returns for how long a child lives at most after its first acknowledgement. A folder belongs to the next child at once; in
    /// PostgreSQL the leases of the last one end first.
    pub(super) fn longest_life_us(&self) -> u64 {
        match self {
            Self::Folders(..) => 400_000,
            Self::Schemas(..) => 1_500_000,
        }
    }

    /// Returns whether a store is still there after the run, for whoever looks at what was wrong.
    pub(super) fn keeps_stores(&self) -> bool {
        matches!(self, Self::Folders(_, None) | Self::Schemas(_, None))
    }

    /// Removes a store whose check has passed; schemas stay where the server was given.
    pub(super) fn remove(&self, store: &str) -> Result<()> {
        match self {
            Self::Folders(..) => {
                std::fs::remove_dir_all(store).map_err(|error| failed("remove a folder", error))
            }
            Self::Schemas(..) => Ok(()),
        }
    }
}
