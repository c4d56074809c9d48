//! `cargo xtask policy`: licences, banned crates, sources and the shape of the workspace, from `cargo metadata`.
//!
//! `cargo deny` reads the same `deny.toml` and is run too where it is installed; it takes minutes to compile, so
//! nothing here depends on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Result, capture, cargo, run, workspace_root};
use crate::deny::Rules;
use crate::graph::{Graph, Package};
use crate::lint::WORKSPACE;
use crate::spdx;

const CORE: &str = "pulsestream-core";

/// Crates of the tree that an application gets with core alone, core not counted.
const CORE_TREE_LIMIT: usize = 115;

/// Features of tokio that core must not turn on: it has no sockets, no files and no runtime of its own.
const CORE_TOKIO_BANNED: &[&str] = &["net", "fs", "rt", "rt-multi-thread", "process", "signal", "full"];

/// Crates that know core and no other crate of the workspace.
const ADAPTERS: &[&str] = &[
    "pulsestream-embedded",
    "pulsestream-postgres",
    "pulsestream-redis",
    "pulsestream-notify",
    "pulsestream-parquet",
];

/// Crates whose types cross our own borders: two versions of one of them do not fit together.
const SINGLE_VERSION: &[&str] = &["arrow-array", "axum", "rustls", "serde", "sqlx-core", "tokio"];

const CRATES_IO: &[&str] =
    &["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(workspace_root().join("deny.toml"))?;
    let rules = Rules::parse(&text)?;
    let metadata = capture(&mut cargo(&["metadata", "--format-version", "1", "--locked", "--all-features"]))?;
    let graph = Graph::parse(&metadata)?;
    // Asked for core alone: the features that the rest of the workspace turns on do not count against it.
    let core = CoreTree::parse(&tree("{p}|{f}", "normal", &["--locked", "--package", CORE])?);

    let mut violations = Vec::new();
    violations.extend(licences(&graph, &rules));
    violations.extend(banned(&graph, &rules));
    violations.extend(sources(&graph));
    violations.extend(shape(&graph));
    violations.extend(single_versions(&graph));
    violations.extend(core.violations());
    // Metadata also lists optional crates that no enabled feature compiles; `cargo tree` is exact.
    let all = tree("{p}", "normal,build", WORKSPACE)?;
    let compiled = all.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if let Some(warning) = two_crypto_providers(&graph, &compiled) {
        eprintln!("  warning: {warning}");
    }
    if !violations.is_empty() {
        return Err(format!("dependency policy:\n  - {}", violations.join("\n  - ")).into());
    }
    eprintln!("  {} packages, core's tree has {} crates", graph.packages.len(), core.crates.len());
    if capture(&mut cargo(&["deny", "--version"])).is_ok() {
        run(&mut cargo(&["deny", "--all-features", "check", "licenses", "bans", "sources"]))?;
    }
    Ok(())
}

/// One line of `cargo tree` for each crate.
fn tree(format: &str, edges: &str, selection: &[&str]) -> Result<String> {
    capture(cargo(&["tree", "--prefix", "none", "--format", format, "--edges", edges]).args(selection))
}

fn licences(graph: &Graph, rules: &Rules) -> Vec<String> {
    let is_allowed = |name: &str| rules.licences.iter().any(|allowed| allowed == name);
    let problem = |package: &Package| match package.license.as_deref() {
        None => Some(format!("{} {} names no licence", package.name, package.version)),
        Some(expression) => match spdx::is_satisfied(expression, &is_allowed) {
            Ok(true) => None,
            Ok(false) => Some(format!("{} {}: licence `{expression}`", package.name, package.version)),
            Err(error) => Some(format!("{} {}: {error}", package.name, package.version)),
        },
    };
    graph.packages.values().filter_map(problem).collect()
}

fn banned(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    for (name, reason) in &rules.banned {
        if let Some(package) = graph.packages.values().find(|package| package.name == *name) {
            let users: Vec<&str> = users(graph, name).collect();
            found.push(format!(
                "{name} {} is banned ({reason}); used by {}",
                package.version,
                users.join(", ")
            ));
        }
    }
    found
}

fn sources(graph: &Graph) -> Vec<String> {
    let problem = |package: &Package| match package.source.as_deref() {
        None if package.is_member => None,
        Some(source) if CRATES_IO.contains(&source) => None,
        source => Some(format!(
            "{} {} comes from {}, not from crates.io",
            package.name,
            package.version,
            source.unwrap_or("a path outside the workspace")
        )),
    };
    graph.packages.values().filter_map(problem).collect()
}

/// The arrows between the crates of the workspace.
fn shape(graph: &Graph) -> Vec<String> {
    let members: BTreeSet<&str> = graph.members().map(|(_, package)| package.name.as_str()).collect();
    let mut problems = Vec::new();
    for (id, package) in graph.members() {
        let name = package.name.as_str();
        if name == CORE {
            // It may name itself: that is how its own tests turn its features on.
            let named = package
                .declared
                .iter()
                .filter(|dependency| dependency.as_str() != CORE && members.contains(dependency.as_str()));
            problems
                .extend(named.map(|dependency| format!("{CORE} names {dependency}: arrows point to core")));
        }
        if ADAPTERS.contains(&name) {
            let shipped = package.shipped.iter().filter_map(|id| graph.packages.get(id));
            let others = shipped.filter(|other| other.is_member && other.name != CORE);
            problems.extend(
                others.map(|other| format!("{name} depends on {}: an adapter knows only core", other.name)),
            );
        }
        if package.is_published
            && package.has_library
            && let Some(path) = graph.path_to(id, "clap")
        {
            problems.push(format!("a library brings an argument parser: {}", path.join(" -> ")));
        }
    }
    problems
}

fn single_versions(graph: &Graph) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in graph.packages.values().filter(|package| SINGLE_VERSION.contains(&package.name.as_str())) {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let several = versions.into_iter().filter(|(_, found)| found.len() > 1);
    several.map(|(name, found)| format!("{name} is there in versions {found:?}: one is allowed")).collect()
}

/// A process that holds two rustls providers must choose one at run time, or rustls panics.
fn two_crypto_providers(graph: &Graph, compiled: &BTreeSet<&str>) -> Option<String> {
    let users: Vec<&str> = users(graph, "ring").filter(|user| compiled.contains(user)).collect();
    (compiled.contains("ring") && compiled.contains("aws-lc-rs"))
        .then(|| format!("ring is there beside aws-lc-rs; ring is used by {}", users.join(", ")))
}

fn users<'a>(graph: &'a Graph, name: &'a str) -> impl Iterator<Item = &'a str> {
    let uses = move |package: &&Package| {
        package.shipped.iter().filter_map(|id| graph.packages.get(id)).any(|used| used.name == name)
            || (package.is_member && package.declared.iter().any(|declared| declared == name))
    };
    graph.packages.values().filter(uses).map(|package| package.name.as_str())
}

/// What `cargo tree` says an application gets with core.
#[derive(Debug)]
struct CoreTree {
    /// `name version`, core not included.
    crates: BTreeSet<String>,
    tokio_features: BTreeSet<String>,
}

impl CoreTree {
    /// Reads lines of `name vVERSION (more)|feature,feature (*)`.
    fn parse(tree: &str) -> Self {
        let mut found = Self { crates: BTreeSet::new(), tokio_features: BTreeSet::new() };
        for line in tree.lines() {
            let (package, features) = line.split_once('|').unwrap_or((line, ""));
            let mut words = package.split_whitespace();
            let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
            if name == CORE {
                continue;
            }
            if name == "tokio" {
                let features = features.trim_end_matches("(*)").trim().split(',');
                found
                    .tokio_features
                    .extend(features.filter(|feature| !feature.is_empty()).map(str::to_owned));
            }
            found.crates.insert(format!("{name} {version}"));
        }
        found
    }

    fn violations(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.crates.is_empty() {
            problems.push(format!("cargo tree shows nothing below {CORE}"));
        }
        if self.crates.len() > CORE_TREE_LIMIT {
            problems.push(format!("{CORE} brings {} crates, limit {CORE_TREE_LIMIT}", self.crates.len()));
        }
        let features = CORE_TOKIO_BANNED.iter().filter(|feature| self.tokio_features.contains(**feature));
        problems.extend(features.map(|feature| format!("{CORE} turns on tokio's `{feature}`")));
        problems
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
