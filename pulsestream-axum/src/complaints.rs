//! Which failures get a line in the log when one cause makes very many of them.
//!
//! A server that has too much to do must not make it worse by writing down each request that it refuses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// In this time one operation gets one line.
const INTERVAL: Duration = Duration::from_secs(1);

/// When which operation had its last line, and what was left out since.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<HashMap<&'static str, Said>>);

#[derive(Debug)]
struct Said {
    at: Duration,
    left_out: u64,
}

impl Complaints {
    /// Counts a failure of an operation. Returns how many were left out since its last line when it is time for another.
    pub(crate) fn due(&self, operation: &'static str, now: Duration) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = all.get_mut(operation) else {
            all.insert(operation, Said { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_sub(said.at) < INTERVAL {
            said.left_out += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_counts_the_others() {
        let complaints = Complaints::default();
        let at = Duration::from_millis;
        let told: Vec<_> = [0, 1, 999, 1_000, 1_001, 5_000, 6_000]
            .into_iter()
            .map(|millis| complaints.due("a", at(millis)))
            .collect();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
        assert_eq!(complaints.due("b", at(1_001)), Some(0), "another operation has lines of its own");
    }
}
