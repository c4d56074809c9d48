//! Where the programs of a server are, and whether they are new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Result, capture};

/// The programs of one kind of server.
pub(super) struct Programs {
    /// The server first; the others must lie in the same folder. Several spellings stand for forks.
    pub(super) servers: &'static [&'static str],
    pub(super) companions: &'static [&'static str],
    /// What stands before the version in the output of `SERVER --version`.
    pub(super) version_after: &'static str,
    pub(super) oldest_major: u32,
    /// Folders beyond `PATH`, the preferred first.
    pub(super) folders: fn() -> Vec<PathBuf>,
}

impl Programs {
    /// The path of the server program.
    pub(super) fn find(&self) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = (self.folders)().into_iter().chain(std::env::split_paths(&path));
        let mut too_old = Vec::new();
        for folder in folders {
            for server in self.servers.iter().map(|name| folder.join(name)) {
                let is_complete = self.companions.iter().all(|name| folder.join(name).is_file());
                if !server.is_file() || !is_complete {
                    continue;
                }
                match self.version(&server) {
                    Some(major) if major >= self.oldest_major => return Ok(server),
                    version => too_old.push(format!("{} is version {version:?}", server.display())),
                }
            }
        }
        let wanted = format!("{} of version {} or later is not here", self.servers[0], self.oldest_major);
        Err(if too_old.is_empty() { wanted } else { format!("{wanted}, but {}", too_old.join(", ")) }.into())
    }

    fn version(&self, server: &Path) -> Option<u32> {
        major_version(&capture(Command::new(server).arg("--version")).ok()?, self.version_after)
    }
}

fn major_version(printed: &str, after: &str) -> Option<u32> {
    let (_, version) = printed.split_once(after)?;
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Subfolders `NAME/bin` of a folder whose names are versions, the newest first.
pub(super) fn versioned(parent: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_print() {
        let postgres = |text| major_version(text, "(PostgreSQL) ");
        assert_eq!(postgres("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(postgres("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(postgres("something else"), None);
        assert_eq!(major_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", "v="), Some(7));
        assert_eq!(major_version("Valkey server v=8.1.1 sha=00000000:0", "v="), Some(8));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let programs = Programs {
            servers: &["no-such-server"],
            companions: &[],
            version_after: "v=",
            oldest_major: 7,
            folders: Vec::new,
        };
        let error = programs.find().unwrap_err().to_string();
        assert_eq!(error, "no-such-server of version 7 or later is not here");
    }

    #[test]
    fn an_old_or_incomplete_server_is_not_taken() {
        let programs = |oldest_major, companions| Programs {
            servers: &["cargo"],
            companions,
            version_after: "cargo ",
            oldest_major,
            folders: Vec::new,
        };
        assert!(programs(1, &["rustc"]).find().is_ok());
        assert!(programs(999, &[]).find().unwrap_err().to_string().contains("is version Some(1)"));
        assert!(programs(1, &["no-such-companion"]).find().is_err());
    }
}
