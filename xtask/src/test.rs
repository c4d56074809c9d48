//! `cargo xtask test`: every test, documentation example and example program, against real servers.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Result, Step, capture, cargo, run, run_steps, workspace_root};
use crate::graph::{Graph, target_directory};
use crate::lint::WORKSPACE;
use crate::services::Services;
use crate::torture;

const EXAMPLES_PACKAGE: &str = "pulsestream-examples";

/// How long one example may run: each shows one idea and ends by itself.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(120);

/// Examples that are compiled but not run, each with the reason.
const EXAMPLES_NOT_RUN: &[(&str, &str)] = &[];

/// Everything a change must pass; a suite in another language is one more line.
const STEPS: &[Step<Services>] = &[
    Step { name: "cargo test", run: cargo_test },
    Step { name: "examples", run: examples },
    Step { name: "torture", run: |_| torture::torture() },
];

/// Runs all steps, or `cargo test` with the given arguments.
pub(crate) fn test(extra: &[&str]) -> Result<()> {
    let services = Services::start()?;
    for (name, url) in &services.variables {
        eprintln!("  {name}={url}");
    }
    if extra.is_empty() { run_steps("test", STEPS, &services) } else { chosen(extra, &services) }
}

fn cargo_test(services: &Services) -> Result<()> {
    run(prepared(&mut cargo(&["test", "--no-fail-fast"]), services).args(WORKSPACE))
}

fn chosen(extra: &[&str], services: &Services) -> Result<()> {
    let mut test = cargo(&["test", "--locked"]);
    if !extra.iter().take_while(|word| **word != "--").any(|word| selects_packages(word)) {
        test.args(["--workspace", "--all-features"]);
    }
    run(prepared(&mut test, services).args(extra))
}

fn selects_packages(word: &str) -> bool {
    word == "--workspace" || word == "--all" || word.starts_with("-p") || word.starts_with("--package")
}

/// Runs the programs that `cargo test` has just built.
fn examples(services: &Services) -> Result<()> {
    let metadata = capture(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let graph = Graph::parse(&metadata)?;
    let mut packages = graph.members().map(|(_, package)| package);
    let examples = packages
        .find(|package| package.name == EXAMPLES_PACKAGE)
        .map_or(&[][..], |package| &package.examples);
    if let Some((name, _)) =
        EXAMPLES_NOT_RUN.iter().find(|(name, _)| !examples.iter().any(|known| known == name))
    {
        return Err(format!("EXAMPLES_NOT_RUN lists `{name}`, which is not an example").into());
    }
    let folder = target_directory(&metadata)?.join("debug/examples");
    for name in examples {
        if let Some((_, reason)) = EXAMPLES_NOT_RUN.iter().find(|(skipped, _)| skipped == name) {
            eprintln!("  example {name}: not run, {reason}");
            continue;
        }
        let started = Instant::now();
        run_example(&folder.join(name), services).map_err(|error| format!("example {name} {error}"))?;
        eprintln!("  example {name}: passed in {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn run_example(program: &Path, services: &Services) -> Result<()> {
    let mut command = Command::new(program);
    command.current_dir(workspace_root()).stdin(Stdio::null());
    wait_with_limit(prepared(&mut command, services), EXAMPLE_LIMIT)
}

fn wait_with_limit(command: &mut Command, limit: Duration) -> Result<()> {
    let mut process = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let started = Instant::now();
    loop {
        match process.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("ended with {status}").into()),
            None if started.elapsed() >= limit => {
                process.kill()?;
                process.wait()?;
                return Err(format!("did not end within {} s", limit.as_secs()).into());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn prepared<'a>(command: &'a mut Command, services: &Services) -> &'a mut Command {
    command.envs(services.variables.iter().map(|(name, url)| (name, url))).env("RUST_BACKTRACE", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_packages_is_recognised() {
        for word in ["-p", "-ppulsestream", "--package", "--package=pulsestream", "--workspace"] {
            assert!(selects_packages(word), "{word}");
        }
        for word in ["lease", "--lib", "--release"] {
            assert!(!selects_packages(word), "{word}");
        }
    }

    #[test]
    fn a_program_passes_fails_or_is_ended() {
        let shell = |script: &str, limit| wait_with_limit(Command::new("sh").args(["-c", script]), limit);
        assert!(shell("exit 0", EXAMPLE_LIMIT).is_ok());
        assert!(shell("exit 3", EXAMPLE_LIMIT).unwrap_err().to_string().contains('3'));
        let endless = shell("exec sleep 1000", Duration::ZERO).unwrap_err().to_string();
        assert_eq!(endless, "did not end within 0 s");
    }
}
