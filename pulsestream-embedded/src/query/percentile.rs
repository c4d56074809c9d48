//! Exact percentiles without sorting everything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pulsestream_core::query::percentile_of_sorted;

use crate::crew::Crew;
use crate::error::FaultResult;
use crate::question::Question;

/// Groups below this size are sorted: selecting would cost as much.
const SORTED: usize = 256;

/// Groups that a thread takes at once: enough numbers to be worth it, few enough to share evenly.
const NUMBERS_AT_ONCE: usize = 8_192;

/// Returns the percentiles of each group, found by a crew.
///
/// # Errors
/// Those of the question.
pub(super) fn percentiles_of(
    groups: Vec<Vec<f64>>,
    millipercents: &[u32],
    question: &Arc<Question>,
    crew: &Crew,
) -> FaultResult<Vec<Vec<Option<f64>>>> {
    let mut chunks: Vec<Mutex<Vec<Vec<f64>>>> = Vec::new();
    let mut room = 0;
    for group in groups {
        if room < group.len() || chunks.is_empty() {
            room = NUMBERS_AT_ONCE.max(group.len());
            chunks.push(Mutex::default());
        }
        room -= group.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.get_mut().unwrap_or_else(PoisonError::into_inner).push(group);
        }
    }
    let (next, asked, question) = (AtomicUsize::new(0), millipercents.to_vec(), Arc::clone(question));
    let crew = if chunks.len() > 1 { crew.clone() } else { Crew::default() };
    let mut found = crew.run(move || {
        let mut mine = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(index) else { return Ok(mine) };
            question.proceed()?;
            let mut groups = std::mem::take(&mut *chunk.lock().unwrap_or_else(PoisonError::into_inner));
            let all: Vec<_> = groups.iter_mut().map(|numbers| percentiles(numbers, &asked)).collect();
            mine.push((index, all));
        }
    })?;
    let mut all: Vec<_> = found.drain(..).flatten().collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    Ok(all.into_iter().flat_map(|(_, found)| found).collect())
}

/// Returns the percentiles, each in thousandths of a percent, of `numbers` by linear interpolation; the numbers are reordered.
///
/// Quickselect for the smallest rank, then for the next one among what lies above, and so on: each percentile after the first
/// looks at a part of the numbers only. The result is that of [`percentile_of_sorted`].
fn percentiles(numbers: &mut [f64], millipercents: &[u32]) -> Vec<Option<f64>> {
    if numbers.len() <= SORTED {
        numbers.sort_unstable_by(f64::total_cmp);
        return millipercents
            .iter()
            .map(|millipercent| percentile_of_sorted(numbers, *millipercent))
            .collect();
    }
    let last = numbers.len() - 1;
    let mut order: Vec<usize> = (0..millipercents.len()).collect();
    order.sort_unstable_by_key(|index| millipercents[*index]);
    let mut results = vec![None; millipercents.len()];
    let mut done = 0;
    for index in order {
        let (below, share) = rank(last, millipercents[index]);
        let above = (below + 1).min(last);
        if below >= done {
            numbers[done..].select_nth_unstable_by(below - done, f64::total_cmp);
            done = below + 1;
        }
        if above >= done {
            // The next one in order is the least of what lies above.
            numbers[done..].select_nth_unstable_by(above - done, f64::total_cmp);
            done = above + 1;
        }
        results[index] = Some(numbers[below] + (numbers[above] - numbers[below]) * share);
    }
    results
}

/// The rank below, and the share of the way to the next one, as [`percentile_of_sorted`] has them.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between 0 and the number of values"
)]
fn rank(last: usize, millipercent: u32) -> (usize, f64) {
    let rank = last as f64 * (f64::from(millipercent) / 100_000.0);
    let below = (rank.floor() as usize).min(last);
    (below, rank - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_sorting() {
        let mut seed = 7_u64;
        for length in [0, 1, 2, 255, 256, 257, 1_000, 4_097] {
            let mut numbers: Vec<f64> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 40) as f64 / 100.0
                })
                .collect();
            let mut sorted = numbers.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let asked = [99_000, 50_000, 95_000, 0, 100_000, 50_000, 99_900];
            let expected: Vec<_> = asked.iter().map(|one| percentile_of_sorted(&sorted, *one)).collect();
            assert_eq!(percentiles(&mut numbers, &asked), expected, "{length}");
        }
    }
}
