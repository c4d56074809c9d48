//! `cargo xtask schemathesis`: property-based tests of the running program against its own OpenAPI documents.

use std::process::Command;

use crate::command::{Result, capture, cargo, run, workspace_root};
use crate::graph::target_directory;

/// Builds the program, installs schemathesis into the target folder, and runs it as each kind of caller.
pub(crate) fn check(extra: &[&str]) -> Result<()> {
    run(&mut cargo(&["build", "--locked", "-p", "pulsestream-cli"]))?;
    let metadata = capture(&mut cargo(&["metadata", "--format-version", "1", "--locked", "--no-deps"]))?;
    let target = target_directory(&metadata)?;
    let folder = workspace_root().join("xtask/schemathesis");
    let environment = target.join("schemathesis");
    if !environment.join("bin/st").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let mut install = Command::new(environment.join("bin/pip"));
        run(install.args(["install", "--quiet", "--requirement"]).arg(folder.join("requirements.txt")))?;
    }
    let mut script = Command::new(environment.join("bin/python"));
    script.arg(folder.join("run.py"));
    script.arg("--program").arg(target.join("debug/pulsestream"));
    script.arg("--command").arg(environment.join("bin/st"));
    run(script.args(extra))
}
