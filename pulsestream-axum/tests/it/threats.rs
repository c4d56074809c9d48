//! The table of threats in `docs/threats.md`: each has tests that are there.

use crate::asvs::all_tests;

#[test]
fn every_threat_has_a_test_that_exists() {
    let tests = all_tests();
    let page = include_str!("../../../docs/threats.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what comes"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names: Vec<_> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds: {}", cells[1]);
        for name in names {
            assert!(tests.contains(name), "{}: there is no test `{name}`", cells[1]);
        }
        count += 1;
    }
    assert!(count > 30, "only {count} rows were read");
}
