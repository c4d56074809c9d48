//! Each rule refuses a graph that breaks it and accepts the same graph without the fault.

use super::*;

fn package(name: &str, shipped: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        license: Some("MIT".to_owned()),
        source: Some(CRATES_IO[0].to_owned()),
        is_published: true,
        has_library: true,
        shipped: shipped.iter().map(|id| (*id).to_owned()).collect(),
        ..Package::default()
    }
}

fn member(name: &str, shipped: &[&str]) -> Package {
    let declared = shipped.iter().map(|id| (*id).to_owned()).collect();
    Package { is_member: true, source: None, declared, ..package(name, shipped) }
}

fn graph(packages: impl IntoIterator<Item = Package>) -> Graph {
    Graph { packages: packages.into_iter().map(|package| (package.name.clone(), package)).collect() }
}

fn rules() -> Rules {
    Rules { licences: vec!["MIT".to_owned()], banned: vec![("rsa".to_owned(), "open advisory".to_owned())] }
}

#[test]
fn an_unlisted_or_missing_licence_is_refused() {
    assert_eq!(licences(&graph([package("a", &[])]), &rules()), Vec::<String>::new());
    let gpl = Package { license: Some("GPL-3.0".to_owned()), ..package("a", &[]) };
    assert_eq!(licences(&graph([gpl]), &rules()), ["a 1.0.0: licence `GPL-3.0`"]);
    let none = Package { license: None, ..package("a", &[]) };
    assert_eq!(licences(&graph([none]), &rules()), ["a 1.0.0 names no licence"]);
}

#[test]
fn a_banned_crate_is_refused_and_its_user_named() {
    let with = graph([member("app", &["middle"]), package("middle", &["rsa"]), package("rsa", &[])]);
    assert_eq!(banned(&with, &rules()), ["rsa 1.0.0 is banned (open advisory); used by middle"]);
    assert!(banned(&graph([member("app", &[])]), &rules()).is_empty());
}

#[test]
fn only_crates_io_and_the_workspace_are_sources() {
    assert!(sources(&graph([member("app", &["a"]), package("a", &[])])).is_empty());
    let git = Package { source: Some("git+https://example.com/a".to_owned()), ..package("a", &[]) };
    assert_eq!(sources(&graph([git])).len(), 1);
    let path = Package { source: None, ..package("a", &[]) };
    assert!(sources(&graph([path]))[0].contains("outside the workspace"));
}

#[test]
fn arrows_point_to_core() {
    let adapter = || member("pulsestream-redis", &[CORE]);
    assert!(shape(&graph([member(CORE, &[]), adapter()])).is_empty());
    let named = shape(&graph([member(CORE, &["pulsestream-redis"]), member("pulsestream-redis", &[])]));
    assert_eq!(named, ["pulsestream-core names pulsestream-redis: arrows point to core"]);
    let sideways =
        graph([member(CORE, &[]), adapter(), member("pulsestream-notify", &["pulsestream-redis"])]);
    assert_eq!(
        shape(&sideways),
        ["pulsestream-notify depends on pulsestream-redis: an adapter knows only core"]
    );
}

#[test]
fn a_library_brings_no_argument_parser_and_a_program_may() {
    let library =
        graph([member("pulsestream", &["middle"]), package("middle", &["clap"]), package("clap", &[])]);
    assert_eq!(shape(&library), ["a library brings an argument parser: pulsestream -> middle -> clap"]);
    let program = Package { has_library: false, ..member("pulsestream-cli", &["clap"]) };
    assert!(shape(&graph([program, package("clap", &[])])).is_empty());
}

#[test]
fn one_version_of_crates_that_cross_borders() {
    let mut two = graph([package("tokio", &[])]);
    assert!(single_versions(&two).is_empty());
    two.packages
        .insert("tokio#2".to_owned(), Package { version: "2.0.0".to_owned(), ..package("tokio", &[]) });
    assert_eq!(single_versions(&two).len(), 1);
}

#[test]
fn a_second_crypto_provider_is_told_with_its_user() {
    let idle = package("idle", &["ring"]);
    let both = graph([package("a", &["ring"]), idle, package("ring", &[]), package("aws-lc-rs", &[])]);
    let compiled = BTreeSet::from(["a", "ring", "aws-lc-rs"]);
    assert_eq!(
        two_crypto_providers(&both, &compiled).unwrap(),
        "ring is there beside aws-lc-rs; ring is used by a"
    );
    assert_eq!(two_crypto_providers(&both, &BTreeSet::from(["a", "aws-lc-rs"])), None);
}

#[test]
fn the_tree_of_core_is_counted_once_and_its_tokio_features_are_read() {
    let tree = CoreTree::parse(
        "pulsestream-core v0.1.0 (/src)|\nserde v1.0.0|default,derive\ntokio v1.54.0|sync,time\n\
         serde v1.0.0|default,derive (*)\nserde_derive v1.0.0 (proc-macro)|default\n",
    );
    assert_eq!(tree.crates.len(), 3, "{tree:?}");
    assert!(tree.violations().is_empty(), "{:?}", tree.violations());
    let net = CoreTree::parse("tokio v1.54.0|net,sync (*)\n");
    assert_eq!(net.violations(), ["pulsestream-core turns on tokio's `net`"]);
}

#[test]
fn the_tree_of_core_has_a_limit() {
    let tree = |count: usize| (0..count).map(|n| format!("crate{n} v1.0.0|\n")).collect::<String>();
    assert!(CoreTree::parse(&tree(CORE_TREE_LIMIT)).violations().is_empty());
    assert_eq!(CoreTree::parse(&tree(CORE_TREE_LIMIT + 1)).violations().len(), 1);
    assert_eq!(CoreTree::parse("").violations().len(), 1);
}
