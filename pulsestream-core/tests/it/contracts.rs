//! Every test that a port's contract names exists in the suite of the port.

use std::fmt::Debug;

use pulsestream_core::testkit::{
    Case, alert_store, cache, coordinator, document_store, event_store, ingest_queue, key_value, live_bus,
    outbox, rate_limiter,
};

/// Returns the names in groups such as ``(`append_then_read`, `find_*`)`` of a source's comments.
fn named_cases(source: &str) -> Vec<String> {
    let comments = source.lines().filter_map(|line| line.trim().strip_prefix("///"));
    let text = comments.map(str::trim).collect::<Vec<_>>().join(" ");
    let is_name = |name: &str| {
        name.contains('_')
            && name
                .chars()
                .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || "_*".contains(char))
    };
    let mut names = Vec::new();
    for group in text.split('(').skip(1).filter_map(|rest| rest.split(')').next()) {
        let quoted = |word: &str| word.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let words: Vec<_> = group.split(',').map(quoted).collect();
        if words.iter().all(|word| word.as_deref().is_some_and(is_name)) {
            names.extend(words.into_iter().flatten());
        }
    }
    names
}

fn assert_exist<H: ?Sized>(source: &str, cases: &[Case<H>], least: usize)
where
    Case<H>: Debug,
{
    let names = named_cases(source);
    assert!(names.len() >= least, "the contract names {names:?}");
    for name in names {
        let found = match name.strip_suffix('*') {
            Some(prefix) => cases.iter().any(|case| case.name.starts_with(prefix)),
            None => cases.iter().any(|case| case.name == name),
        };
        assert!(found, "the contract names `{name}`, which is no case of {cases:?}");
    }
}

#[test]
fn every_named_case_exists() {
    assert_exist(include_str!("../../src/ports/event_store.rs"), event_store::cases(), 30);
    assert_exist(include_str!("../../src/ports/key_value.rs"), key_value::cases(), 5);
    assert_exist(include_str!("../../src/ports/coordinator.rs"), coordinator::cases(), 5);
    assert_exist(include_str!("../../src/ports/document_store.rs"), document_store::cases(), 3);
    assert_exist(include_str!("../../src/ports/cache.rs"), cache::cases(), 3);
    assert_exist(include_str!("../../src/ports/ingest_queue.rs"), ingest_queue::cases(), 4);
    assert_exist(include_str!("../../src/ports/live_bus.rs"), live_bus::cases(), 2);
    assert_exist(include_str!("../../src/ports/rate_limiter.rs"), rate_limiter::cases(), 4);
    assert_exist(include_str!("../../src/ports/alert_store.rs"), alert_store::cases(), 10);
    assert_exist(include_str!("../../src/ports/outbox.rs"), outbox::cases(), 8);
}
