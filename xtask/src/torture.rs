//! The short version of `pulsestream-torture`, after the tests.

use std::process::Command;

use crate::command::{Result, capture, cargo, is_ci, run, workspace_root};
use crate::graph::target_directory;
use crate::lint::WORKSPACE;
use crate::services;

const TRACER: &str = "strace";
const PROGRAM: &str = "pulsestream-torture";

/// Kills and fails a store in every way this machine allows.
pub(crate) fn torture() -> Result<()> {
    let has_tracer = || capture(Command::new(TRACER).arg("--version")).map(drop);
    if let Err(missing) = has_tracer() {
        let installed = services::install(TRACER).and_then(|()| has_tracer());
        match installed {
            Ok(()) => {}
            Err(error) if is_ci() => return Err(format!("{TRACER} is needed: {missing}; {error}").into()),
            // The program passes over what needs it, with a line for each.
            Err(error) => eprintln!("!!! NO {TRACER}: install it to run everything. {error}"),
        }
    }
    // With the features of the tests, so that nothing is compiled twice.
    run(cargo(&["build", "--bin", PROGRAM]).args(WORKSPACE))?;
    let metadata = capture(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let program = target_directory(&metadata)?.join("debug").join(PROGRAM);
    run(Command::new(program).current_dir(workspace_root()).arg("all"))
}
