//! The tables in `docs/v1-calls.md`: every call that clients in the field make has a test, and the tests are there.

use std::collections::BTreeSet;

use pulsestream_axum::operations;

use crate::asvs::all_tests;

/// Whether the shapes of a path are a contract with clients.
fn is_contract(path: &str) -> bool {
    !path.starts_with("/api/v2/") && !path.starts_with("/setup") || path.starts_with("/api/v2/dashboard/")
}

#[test]
fn every_call_of_the_contract_has_a_test_that_exists() {
    let tests = all_tests();
    let mut calls = BTreeSet::new();
    for line in include_str!("../../../docs/v1-calls.md").lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let is_head = cells.last() == Some(&"tests");
        if is_head {
            continue;
        }
        let named: Vec<_> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test holds {line}");
        for name in named {
            assert!(tests.contains(name), "there is no test `{name}`: {line}");
        }
        if let [call, _, _] = cells[..] {
            assert!(calls.insert(call.trim_matches('`').to_owned()), "{call} is there twice");
        }
    }
    let served: BTreeSet<_> = operations()
        .iter()
        .filter(|operation| is_contract(operation.path))
        .map(|operation| format!("{} {}", operation.method, operation.path))
        .collect();
    assert_eq!(calls, served);
}
