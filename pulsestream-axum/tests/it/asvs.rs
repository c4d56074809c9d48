//! The table of security rules in `docs/asvs.md`: every rule that applies has a test, and the tests are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rules that apply to this product.
const RULES: [&str; 47] = [
    "1.2.10", "1.3.6", "1.3.7", "1.3.11", "1.3.12", "2.4.1", "4.2.1", "5.2.1", "6.1.1", "6.2.1", "6.2.4",
    "6.2.5", "6.2.8", "6.2.9", "6.2.12", "6.3.1", "6.3.8", "6.5.2", "7.4.1", "7.4.2", "8.2.1", "8.2.2",
    "8.2.3", "8.3.1", "8.4.1", "9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.2.2", "9.2.3", "9.2.4", "11.2.4",
    "11.4.2", "11.5.1", "13.1.2", "13.1.3", "13.2.6", "14.2.1", "15.3.2", "15.3.3", "15.3.4", "16.2.5",
    "16.3.1", "16.3.2", "16.4.1", "16.5.4",
];

/// Collects the names of the functions that a test attribute stands before, and of the cases of the conformance suite.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target" && name != ".git") {
                tests_in(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            #[allow(clippy::disallowed_methods, reason = "sources of this repository")]
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if let Some((_, rest)) = line.split_once("fn ") {
                    let name =
                        rest.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').next().unwrap();
                    if std::mem::take(&mut is_test)
                        || line.contains("async fn") && rest.contains("(probe: Probe)")
                    {
                        found.insert(name.to_owned());
                    }
                }
            }
        }
    }
}

/// The names of all tests of the repository.
pub(crate) fn all_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    tests_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut tests);
    tests
}

#[test]
fn every_rule_has_a_test_that_exists() {
    let mut table = BTreeMap::new();
    for line in include_str!("../../../docs/asvs.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let names = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        assert!(table.insert(cells[1].to_owned(), names).is_none(), "{} is there twice", cells[1]);
    }
    table.remove("ASVS");
    let tests = all_tests();
    for rule in RULES {
        let names = table.remove(rule).unwrap_or_else(|| panic!("docs/asvs.md says nothing about {rule}"));
        assert!(!names.is_empty(), "no test holds {rule}");
        for name in names {
            assert!(tests.contains(&name), "{rule}: there is no test `{name}`");
        }
    }
    assert!(table.is_empty(), "not a rule that is known here: {table:?}");
}
