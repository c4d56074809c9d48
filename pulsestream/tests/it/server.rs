//! Where the test servers are.

use std::sync::atomic::{AtomicU64, Ordering};

use pulsestream_testtools::server_url;

/// Returns the URLs of the PostgreSQL and the Redis of the test run.
pub(crate) fn servers() -> Option<(String, String)> {
    Some((server_url("PULSESTREAM_TEST_POSTGRES_URL")?, server_url("PULSESTREAM_TEST_REDIS_URL")?))
}

/// Returns the URL of a schema of its own.
pub(crate) fn own_schema(postgres: &str) -> String {
    let joint = if postgres.contains('?') { '&' } else { '?' };
    format!("{postgres}{joint}schema=facade_{}_{}", std::process::id(), number())
}

/// Joins a store and a Redis to one URL, with a key prefix that no other test has.
pub(crate) fn joint(store: &str, redis: &str) -> String {
    let joint = if store.contains('?') { '&' } else { '?' };
    format!("{store}{joint}redis={redis}&redis_prefix=facade-{}-{}", std::process::id(), number())
}

/// Returns another number each time.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
