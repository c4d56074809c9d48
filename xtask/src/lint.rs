//! `cargo xtask lint`: cheap checks first; nothing is compiled twice with other features than the tests use.

use crate::command::{Result, Step, cargo, run, run_steps};
use crate::policy;

/// The packages and features that clippy, rustdoc and the tests share, so that each dependency is built once.
pub(crate) const WORKSPACE: &[&str] = &["--locked", "--workspace", "--all-features"];

/// Builds that `--all-features` hides: code that compiles only because a feature of another crate is on.
const FEATURE_CHECKS: &[&[&str]] =
    &[&["--package", "pulsestream-core"], &["--package", "pulsestream", "--no-default-features"]];

const STEPS: &[Step<()>] = &[
    Step { name: "formatting", run: |()| run(&mut cargo(&["fmt", "--all", "--check"])) },
    Step { name: "dependency policy", run: |()| policy::check() },
    Step { name: "clippy, tests, examples and benches included", run: clippy },
    Step { name: "documentation", run: documentation },
    Step { name: "feature checks", run: feature_checks },
];

pub(crate) fn check() -> Result<()> {
    run_steps("lint", STEPS, &())
}

fn clippy((): &()) -> Result<()> {
    run(cargo(&["clippy"]).args(WORKSPACE).args(["--all-targets", "--", "-D", "warnings"]))
}

fn documentation((): &()) -> Result<()> {
    run(cargo(&["doc", "--no-deps"]).args(WORKSPACE).env("RUSTDOCFLAGS", "-D warnings"))
}

fn feature_checks((): &()) -> Result<()> {
    for selection in FEATURE_CHECKS {
        run(cargo(&["check", "--locked"]).args(*selection))?;
    }
    Ok(())
}
