//! The dependency graph as `cargo metadata` prints it, reduced to what the policy asks about.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::command::Result;

/// Packages by package id.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) packages: BTreeMap<String, Package>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for a package of the workspace.
    pub(crate) source: Option<String>,
    pub(crate) is_member: bool,
    pub(crate) is_published: bool,
    pub(crate) has_library: bool,
    /// Names of everything its manifest lists, development dependencies included.
    pub(crate) declared: Vec<String>,
    /// Ids of what a user of the package compiles: normal and build dependencies.
    pub(crate) shipped: Vec<String>,
    /// Names of its examples.
    pub(crate) examples: Vec<String>,
}

impl Graph {
    pub(crate) fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata)?;
        let mut packages = BTreeMap::new();
        for package in list(&metadata, "packages") {
            packages.insert(text(package, "id"), Package::read(package));
        }
        for member in list(&metadata, "workspace_members") {
            if let Some(package) = member.as_str().and_then(|id| packages.get_mut(id)) {
                package.is_member = true;
            }
        }
        for node in list(&metadata["resolve"], "nodes") {
            let Some(package) = packages.get_mut(&text(node, "id")) else { continue };
            let links = list(node, "deps").iter().filter(|link| is_shipped(link));
            package.shipped = links.map(|link| text(link, "pkg")).collect();
        }
        if packages.is_empty() {
            return Err("cargo metadata lists no package".into());
        }
        Ok(Self { packages })
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Package)> {
        self.packages
            .iter()
            .filter(|(_, package)| package.is_member)
            .map(|(id, package)| (id.as_str(), package))
    }

    /// Names from `start` to the nearest package called `name` along shipped dependencies.
    pub(crate) fn path_to(&self, start: &str, name: &str) -> Option<Vec<&str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(id) = queue.pop_front() {
            let Some(package) = self.packages.get(id) else { continue };
            if package.name == name && id != start {
                let mut ids = vec![id];
                while let Some(previous) = ids.last().and_then(|last| came_from.get(last)) {
                    ids.push(previous);
                }
                return Some(ids.iter().rev().map(|id| self.packages[*id].name.as_str()).collect());
            }
            for next in package.shipped.iter().map(String::as_str) {
                if next != start && !came_from.contains_key(next) {
                    came_from.insert(next, id);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

impl Package {
    fn read(package: &Value) -> Self {
        let targets = list(package, "targets");
        let of_kind = |wanted: &'static [&'static str]| {
            targets.iter().filter(move |target| {
                list(target, "kind").iter().filter_map(Value::as_str).any(|kind| wanted.contains(&kind))
            })
        };
        Self {
            name: text(package, "name"),
            version: text(package, "version"),
            license: package["license"].as_str().map(str::to_owned),
            source: package["source"].as_str().map(str::to_owned),
            is_member: false,
            is_published: !package["publish"].as_array().is_some_and(Vec::is_empty),
            has_library: of_kind(&["lib", "rlib", "cdylib"]).next().is_some(),
            declared: list(package, "dependencies")
                .iter()
                .map(|dependency| text(dependency, "name"))
                .collect(),
            shipped: Vec::new(),
            examples: of_kind(&["example"]).map(|target| text(target, "name")).collect(),
        }
    }
}

/// The workspace's folder of build results, from the same output.
pub(crate) fn target_directory(metadata: &str) -> Result<std::path::PathBuf> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let folder = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(Path::new(folder).to_path_buf())
}

fn is_shipped(link: &Value) -> bool {
    list(link, "dep_kinds").iter().any(|kind| kind["kind"].as_str() != Some("dev"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
      "target_directory": "/tmp/target",
      "workspace_members": ["app#1"],
      "packages": [
        {"id": "app#1", "name": "app", "version": "1.0.0", "license": "MIT", "source": null, "publish": [],
         "targets": [{"kind": ["bin"], "name": "app"}, {"kind": ["example"], "name": "first"}],
         "dependencies": [{"name": "middle"}, {"name": "dev-only"}]},
        {"id": "middle#1", "name": "middle", "version": "1.0.0", "license": null, "source": "registry+x",
         "publish": null, "targets": [{"kind": ["lib"], "name": "middle"}], "dependencies": [{"name": "leaf"}]},
        {"id": "leaf#1", "name": "leaf", "version": "1.0.0", "targets": [], "dependencies": []},
        {"id": "dev-only#1", "name": "dev-only", "version": "1.0.0", "targets": [], "dependencies": []}],
      "resolve": {"nodes": [
        {"id": "app#1", "deps": [
          {"pkg": "middle#1", "dep_kinds": [{"kind": null}]},
          {"pkg": "dev-only#1", "dep_kinds": [{"kind": "dev"}]}]},
        {"id": "middle#1", "deps": [
          {"pkg": "app#1", "dep_kinds": [{"kind": null}]},
          {"pkg": "leaf#1", "dep_kinds": [{"kind": "build"}, {"kind": "dev"}]}]}]}
    }"#;

    #[test]
    fn packages_are_read_with_their_roles() {
        let graph = Graph::parse(METADATA).unwrap();
        let app = &graph.packages["app#1"];
        assert!(app.is_member && !app.is_published && !app.has_library);
        assert_eq!(app.examples, ["first"]);
        assert_eq!(app.declared, ["middle", "dev-only"]);
        let middle = &graph.packages["middle#1"];
        assert!(!middle.is_member && middle.is_published && middle.has_library);
        assert_eq!(target_directory(METADATA).unwrap(), Path::new("/tmp/target"));
    }

    #[test]
    fn paths_follow_normal_and_build_dependencies_only() {
        let graph = Graph::parse(METADATA).unwrap();
        assert_eq!(graph.path_to("app#1", "leaf").unwrap(), ["app", "middle", "leaf"]);
        assert_eq!(graph.path_to("app#1", "dev-only"), None);
        assert_eq!(graph.path_to("leaf#1", "app"), None);
    }

    #[test]
    fn an_empty_answer_is_an_error() {
        assert!(Graph::parse("{}").is_err());
    }
}
