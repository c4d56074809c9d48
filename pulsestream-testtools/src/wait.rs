//! Waiting for a condition, with a limit that only a broken program reaches.

use std::time::Duration;

/// How long a condition may take on a loaded machine before the test counts as failed.
const LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);

/// Blocks until `condition` holds.
///
/// # Panics
/// When it does not hold within a minute; `what` names it.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "a condition of another process can only be polled")]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..LIMIT.as_millis() / STEP.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("did not happen within {} s: {what}", LIMIT.as_secs());
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within a minute; `what` names it.
#[cfg(feature = "network")]
pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::sleep(LIMIT);
    tokio::pin!(limit);
    loop {
        tokio::select! {
            biased;
            () = &mut limit => panic!("did not happen within {} s: {what}", LIMIT.as_secs()),
            holds = condition() => if holds { return },
        }
        tokio::time::sleep(STEP).await;
    }
}
