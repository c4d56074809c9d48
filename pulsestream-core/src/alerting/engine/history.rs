//! Values of earlier windows, for change and anomaly rules.

use crate::alerting::codec::{Reader, Writer};
use crate::alerting::{AnomalyDirection, ChangeMode};
use crate::error::Result;

/// The last values, one for each tick; NaN where there was none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    values: Box<[f64]>,
    /// Number of the tick that was recorded last.
    last: i64,
}

impl History {
    pub(super) fn new(length: usize) -> Self {
        Self { values: vec![f64::NAN; length.max(1)].into(), last: i64::MIN }
    }

    fn slot(&self, tick: i64) -> usize {
        let length = i64::try_from(self.values.len()).unwrap_or(i64::MAX);
        usize::try_from(tick.rem_euclid(length)).unwrap_or(0)
    }

    /// Records the value of a tick; ticks that were skipped have none.
    pub(super) fn record(&mut self, tick: i64, value: Option<f64>) {
        if self.last != i64::MIN {
            let length = i64::try_from(self.values.len()).unwrap_or(i64::MAX);
            for skipped in (self.last + 1).max(tick.saturating_sub(length))..tick {
                let slot = self.slot(skipped);
                self.values[slot] = f64::NAN;
            }
        }
        let slot = self.slot(tick);
        self.values[slot] = value.unwrap_or(f64::NAN);
        self.last = tick;
    }

    /// Returns the value `lag` ticks before `tick`, which is not yet recorded.
    pub(super) fn earlier(&self, tick: i64, lag: usize) -> Option<f64> {
        let wanted = tick.checked_sub(i64::try_from(lag).ok()?)?;
        let is_kept = lag <= self.values.len() && wanted <= self.last;
        let value = self.values[self.slot(wanted)];
        (is_kept && !value.is_nan()).then_some(value)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.signed(self.last);
        for value in &self.values {
            out.flag(value.is_nan());
            if !value.is_nan() {
                out.double(*value);
            }
        }
    }

    pub(super) fn read(input: &mut Reader<'_>, length: usize) -> Result<Self> {
        let mut history = Self::new(length);
        history.last = input.signed()?;
        for value in &mut history.values {
            if !input.flag()? {
                *value = input.double()?;
            }
        }
        Ok(history)
    }
}

/// Returns the change from `previous` to `current`.
pub(super) fn change(mode: ChangeMode, current: f64, previous: f64) -> Option<f64> {
    match mode {
        ChangeMode::Absolute => Some(current - previous),
        ChangeMode::Percent => (previous != 0.0).then(|| (current - previous) / previous.abs() * 100.0),
    }
}

/// Fewest earlier values that make a baseline.
pub(super) const MIN_BASELINE: usize = 3;

/// Returns the robust z-score of `value` (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993):
/// `0.6745 * (x - median) / MAD`, where the MAD is at least 1 % of the median, so that a baseline without spread does not make
/// every difference an anomaly. `None` when there are fewer than [`MIN_BASELINE`] earlier values.
pub(super) fn robust_score(value: f64, mut baseline: Vec<f64>) -> Option<f64> {
    if baseline.len() < MIN_BASELINE {
        return None;
    }
    let median = median(&mut baseline);
    let mut deviations: Vec<f64> = baseline.iter().map(|earlier| (earlier - median).abs()).collect();
    let deviation = self::median(&mut deviations).max(median.abs() * 0.01).max(1e-9);
    Some(0.6745 * (value - median) / deviation)
}

/// Returns whether a score is an anomaly on the side asked.
pub(super) fn is_anomaly(score: f64, limit: f64, direction: AnomalyDirection) -> bool {
    match direction {
        AnomalyDirection::Above => score >= limit,
        AnomalyDirection::Below => score <= -limit,
        AnomalyDirection::Both => score.abs() >= limit,
    }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { f64::midpoint(numbers[middle - 1], numbers[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_knows_what_was_skipped() {
        let mut history = History::new(3);
        history.record(10, Some(1.0));
        history.record(11, Some(2.0));
        assert_eq!(history.earlier(12, 2), Some(1.0));
        history.record(13, Some(4.0));
        assert_eq!(history.earlier(14, 2), None);
        assert_eq!(history.earlier(14, 3), Some(2.0));
        assert_eq!(history.earlier(14, 4), None);
    }

    #[test]
    fn scores_follow_the_formula() {
        // Median 10, deviations 1 0 1 2 0 -> MAD 1.
        let baseline = || vec![9.0, 10.0, 11.0, 12.0, 10.0];
        assert!((robust_score(15.0, baseline()).unwrap() - 0.6745 * 5.0).abs() < 1e-12);
        assert_eq!(robust_score(15.0, vec![1.0, 2.0]), None);
        let flat = robust_score(101.0, vec![100.0; 5]).unwrap();
        assert!((flat - 0.6745).abs() < 1e-12);
        assert!(is_anomaly(-4.0, 3.5, AnomalyDirection::Both));
        assert!(!is_anomaly(-4.0, 3.5, AnomalyDirection::Above));
    }

    #[test]
    fn percent_needs_something_to_compare_with() {
        assert_eq!(change(ChangeMode::Percent, 15.0, 10.0), Some(50.0));
        assert_eq!(change(ChangeMode::Percent, 15.0, 0.0), None);
        assert_eq!(change(ChangeMode::Absolute, 15.0, 0.0), Some(15.0));
    }
}
