//! The tables of threats: each has tests that are there.

use crate::asvs::all_tests;

#[test]
fn every_threat_has_a_test_that_exists() {
    let tests = all_tests();
    for (page, least) in [
        (include_str!("../../../docs/threats.md"), 31),
        (include_str!("../../../docs/notifications.md"), 16),
        (include_str!("../../../docs/many-nodes.md"), 24),
    ] {
        let mut count = 0;
        for row in rows(page) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let names: Vec<_> = cells[3].split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "no test holds: {}", cells[1]);
            for name in names {
                assert!(tests.contains(name), "{}: there is no test `{name}`", cells[1]);
            }
            count += 1;
        }
        assert!(count >= least, "only {count} rows were read");
    }
}

/// Returns the rows of the tables that start with `| what comes`.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    let mut is_ours = false;
    page.lines().filter(move |line| {
        let is_head = line.starts_with("| what comes");
        is_ours = is_head || (is_ours && line.starts_with('|'));
        is_ours && !is_head && line.starts_with("| ")
    })
}
