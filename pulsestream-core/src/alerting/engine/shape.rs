//! How a window is cut into steps.

use std::time::Duration;

use crate::time::micros;

/// A sliding window of `buckets` steps, aligned to the epoch. Times are microseconds.
///
/// While time is in step `k`, the window holds the steps `k - buckets + 1` to `k`: it never reaches further back than the window
/// of the rule, and at the end of a step it is exactly as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowShape {
    pub(super) step: i64,
    pub(super) buckets: usize,
}

/// Shortest step: finer ones cost memory and show nothing.
const MIN_STEP: i64 = 100_000;

impl WindowShape {
    /// Cuts a window into the largest number of equal steps up to 30, or 60 from an hour on.
    pub(super) fn sliding(window: Duration) -> Self {
        let window = micros(window).max(1);
        let most = if window >= 3_600_000_000 { 60 } else { 30 };
        Self::cut(window, most)
    }

    /// Cuts a window into at most 12 steps, for kinds that remember a value for each step.
    pub(super) fn coarse(window: Duration) -> Self {
        Self::cut(micros(window).max(1), 12)
    }

    /// Makes the window one step.
    pub(super) fn tumbling(window: Duration) -> Self {
        Self { step: micros(window).max(1), buckets: 1 }
    }

    fn cut(window: i64, most: i64) -> Self {
        let buckets = (1..=most).rev().find(|count| window % count == 0 && window / count >= MIN_STEP);
        let buckets = buckets.unwrap_or(1);
        Self { step: window / buckets, buckets: usize::try_from(buckets).unwrap_or(1) }
    }

    /// Returns the number of the step that holds `at`.
    pub(super) const fn bucket(self, at: i64) -> i64 {
        at.div_euclid(self.step)
    }

    /// Returns the length of the window.
    #[allow(clippy::cast_possible_wrap, reason = "there are at most 60 steps")]
    pub(super) const fn span(self) -> i64 {
        self.step * self.buckets as i64
    }

    /// Returns the smallest multiple of the step that is not shorter than `interval`.
    pub(super) fn tick(self, interval: Duration) -> i64 {
        let interval = micros(interval).max(1);
        interval.div_euclid(self.step).max(0).saturating_add(i64::from(interval % self.step != 0)).max(1)
            * self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_divide_the_window() {
        for (seconds, step_millis, buckets) in
            [(1, 100, 10), (60, 2_000, 30), (300, 10_000, 30), (3_600, 60_000, 60), (31, 1_240, 25)]
        {
            let shape = WindowShape::sliding(Duration::from_secs(seconds));
            assert_eq!((shape.step, shape.buckets), (step_millis * 1_000, buckets), "{seconds} s");
            assert_eq!(shape.span(), i64::try_from(seconds).unwrap() * 1_000_000);
        }
    }

    #[test]
    fn ticks_are_whole_steps() {
        let shape = WindowShape::sliding(Duration::from_secs(300));
        assert_eq!(shape.tick(Duration::from_secs(1)), 10_000_000);
        assert_eq!(shape.tick(Duration::from_secs(10)), 10_000_000);
        assert_eq!(shape.tick(Duration::from_secs(11)), 20_000_000);
    }
}
