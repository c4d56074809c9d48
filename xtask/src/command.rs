//! Running programs: cargo from the workspace root, with what was run and how long it took on the terminal.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One part of a task.
pub(crate) struct Step<C: ?Sized> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&C) -> Result<()>,
}

/// Runs the steps in order, prints the seconds each took, and stops at the first that fails.
pub(crate) fn run_steps<C: ?Sized>(task: &str, steps: &[Step<C>], context: &C) -> Result<()> {
    for step in steps {
        eprintln!("==> {task}: {}", step.name);
        let started = Instant::now();
        let outcome = (step.run)(context);
        let seconds = started.elapsed().as_secs_f64();
        outcome.map_err(|error| format!("{task}: {} failed after {seconds:.1} s: {error}", step.name))?;
        eprintln!("<== {task}: {} passed in {seconds:.1} s", step.name);
    }
    Ok(())
}

/// Whether this run must not skip anything.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    // Cargo sets the variable when it runs us; the compiled-in path serves a direct start.
    let manifest_dir =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest_dir = Path::new(&manifest_dir);
    manifest_dir.parent().unwrap_or(manifest_dir).to_path_buf()
}

/// The cargo that started this program, in the workspace root.
///
/// The variables that describe xtask itself are not handed on: build scripts that watch them would be run again at
/// every change between `cargo xtask` and plain `cargo`.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()).args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end with the terminal as output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("  $ {}", line(command));
    let status = command.status().map_err(|error| format!("cannot run `{}`: {error}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", line(command)).into()) }
}

/// Runs to the end and gives its standard output; on failure the error holds what it printed.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", line(command)))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` ended with {}\n{printed}{complaint}", line(command), output.status).into())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(command.get_program()).to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn steps_stop_at_the_first_failure() {
        let steps: [Step<AtomicUsize>; 3] = [
            Step { name: "first", run: count },
            Step { name: "second", run: |_| Err("broken".into()) },
            Step { name: "third", run: count },
        ];
        let counter = AtomicUsize::new(0);
        let error = run_steps("task", &steps, &counter).unwrap_err().to_string();
        assert!(error.starts_with("task: second failed") && error.ends_with("broken"), "{error}");
        assert_eq!(counter.into_inner(), 1);
    }

    fn count(counter: &AtomicUsize) -> Result<()> {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    #[test]
    fn a_failed_program_tells_what_it_printed() {
        let error = capture(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("out\n") && text.contains("err\n") && text.contains('3'), "{text}");
    }
}
