//! Running the program.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program without variables of the environment that would change what it does.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulsestream"));
    command.args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PULSESTREAM_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// Runs it to a good end and returns what it printed.
pub(crate) fn succeed(words: &[&str]) -> String {
    let output = run(words);
    let (printed, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{words:?}: {printed}{complaints}");
    printed
}

/// Runs it to a bad end and returns what it complained about.
pub(crate) fn fail(words: &[&str]) -> String {
    let output = run(words);
    assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
