//! What the benches that need real servers share: where the servers are, callers that work at the same time, and medians.

use std::future::Future;
use std::time::Duration;

use pulsestream_core::env::{Clock, SystemClock};

/// Returns where the PostgreSQL is, unless nobody asked for measurements or the variable is not set, which is said.
pub fn postgres_url() -> Option<String> {
    url("PULSESTREAM_TEST_POSTGRES_URL")
}

/// Returns where the Redis is, under the same conditions as [`postgres_url`].
pub fn redis_url() -> Option<String> {
    url("PULSESTREAM_TEST_REDIS_URL")
}

#[allow(clippy::print_stdout, reason = "whoever started the bench reads why it measures nothing")]
fn url(variable: &str) -> Option<String> {
    // `cargo test --benches` runs benches too, without this flag: then there is nothing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return None;
    }
    let found = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if found.is_none() {
        println!("NOT RUN: {variable} is not set; `cargo xtask services` starts a server and prints it");
    }
    found
}

/// Returns an id that nobody else uses, spread like those of many clients and not ascending.
pub fn spread_id(number: u64) -> u128 {
    (u128::from(std::process::id()) << 64 | u128::from(number))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// Lets so many callers work at once, each on what `work` makes of its number again and again, until `round` is over, and returns
/// how many units a second they did together. One piece of work returns its units.
pub async fn units_per_second<W, F>(round: Duration, callers: usize, work: impl Fn(usize) -> W) -> f64
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = usize> + Send,
{
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (mut work, clock) = (work(caller), clock);
            tokio::spawn(async move {
                let mut units = 0;
                while clock.monotonic().saturating_sub(started) < round {
                    units += work().await;
                }
                units
            })
        })
        .collect();
    let mut units = 0;
    for task in tasks {
        units += task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    units as f64 / clock.monotonic().saturating_sub(started).as_secs_f64()
}

/// Returns the middle one of the values.
///
/// # Panics
/// When there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
