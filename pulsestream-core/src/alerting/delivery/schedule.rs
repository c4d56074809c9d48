//! When a failed delivery is tried again.

use std::time::Duration;

use crate::env::Env;
use crate::error::Result;

/// How long to wait after each failed attempt, as Standard Webhooks 1.0 recommends: about 75 hours in all.
pub const RETRY_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// The longest wait that a receiver can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Returns how long to wait after `failed` failed attempts of a schedule, at least one; `None` when there is no further attempt.
///
/// Each delay varies by up to a fifth in both directions, so that receivers which fail together are not tried together. A
/// receiver that asks to wait longer is heard, up to [`MAX_RETRY_AFTER`].
///
/// # Errors
/// `Unavailable` when there is no randomness.
pub fn next_attempt(failed: u32, asked: Option<Duration>, env: &Env) -> Result<Option<Duration>> {
    let index = usize::try_from(failed.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(delay) = RETRY_DELAYS.get(index) else { return Ok(None) };
    let random = u32::from_le_bytes(env.random_bytes()?);
    let factor = 0.8 + 0.4 * (f64::from(random) / f64::from(u32::MAX));
    let delay = delay.mul_f64(factor);
    Ok(Some(delay.max(asked.unwrap_or_default().min(MAX_RETRY_AFTER))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn delays_grow_vary_by_a_fifth_and_end() {
        let (env, _clock) = Env::manual(Timestamp::EPOCH, 1);
        for (index, delay) in RETRY_DELAYS.iter().enumerate() {
            for _ in 0..100 {
                let wait = next_attempt(u32::try_from(index).unwrap() + 1, None, &env).unwrap().unwrap();
                assert!(wait >= delay.mul_f64(0.799) && wait <= delay.mul_f64(1.201), "{index} {wait:?}");
            }
        }
        assert_eq!(next_attempt(10, Some(Duration::from_secs(1)), &env).unwrap(), None);
    }

    #[test]
    fn receivers_are_heard_within_limits() {
        let (env, _clock) = Env::manual(Timestamp::EPOCH, 1);
        let minute = Duration::from_secs(60);
        assert_eq!(next_attempt(1, Some(minute), &env).unwrap(), Some(minute));
        assert_eq!(next_attempt(1, Some(Duration::MAX), &env).unwrap(), Some(MAX_RETRY_AFTER));
        assert!(next_attempt(2, Some(minute), &env).unwrap().unwrap() >= 4 * minute);
    }
}
