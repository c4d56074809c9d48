//! Exact percentiles without sorting everything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::accumulate::Slots;
use crate::crew::Crew;
use crate::error::FaultResult;
use crate::question::Question;

/// Groups below this size are sorted: selecting would cost as much.
const SORTED: usize = 64;

/// Numbers that a thread takes at once: enough to be worth it, few enough to share evenly.
const NUMBERS_AT_ONCE: usize = 8_192;

/// Numbers of many groups in the order in which they came, each with the slot of its group.
///
/// They are sorted by group at the end, with two passes over all of them: a vector for each group would grow many times.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    slots: Vec<u32>,
    /// See [`key_of`].
    keys: Vec<i64>,
}

/// Orders numbers as integers, which compare faster: the order of `f64::total_cmp`.
fn key_of(number: f64) -> i64 {
    let bits = number.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn number_of(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}

impl Numbers {
    /// Bytes that a number takes, until it has been sorted.
    pub(super) const BYTES: usize = 20;

    /// Adds the numbers of rows; NaN is none.
    #[allow(clippy::cast_possible_truncation, reason = "slots are below 2^32")]
    pub(super) fn add(&mut self, slots: Slots<'_>, values: &[f64]) {
        if values.iter().fold(false, |any, value| any | value.is_nan()) {
            for (at, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                self.slots.push(slots.of(at) as u32);
                self.keys.push(key_of(*value));
            }
            return;
        }
        self.keys.extend(values.iter().map(|value| key_of(*value)));
        match slots {
            Slots::One(slot) => self.slots.resize(self.keys.len(), slot as u32),
            Slots::Each(slots) => self.slots.extend_from_slice(slots),
        }
    }

    /// Adds the numbers of another thread, whose groups have these slots here.
    #[allow(clippy::cast_possible_truncation, reason = "slots are below 2^32")]
    pub(super) fn merge(&mut self, other: Self, slots: &[usize]) {
        self.slots.extend(other.slots.into_iter().map(|slot| slots[slot as usize] as u32));
        self.keys.extend(other.keys);
    }

    /// Returns the percentiles of each group, found by a crew: those of the first group, of the second, and so on.
    ///
    /// # Errors
    /// Those of the question.
    pub(super) fn percentiles(
        self,
        groups: usize,
        millipercents: &[u32],
        question: &Arc<Question>,
        crew: &Crew,
    ) -> FaultResult<Vec<Option<f64>>> {
        let chunks = self.by_group(groups);
        let crew = if chunks.len() > 1 { crew.clone() } else { Crew::default() };
        let (next, question) = (AtomicUsize::new(0), Arc::clone(question));
        let asked = millipercents.to_vec();
        let found = crew.run(move || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(chunk) = chunks.get(index) else { return Ok(mine) };
                question.proceed()?;
                let chunk = std::mem::take(&mut *chunk.lock().unwrap_or_else(PoisonError::into_inner));
                mine.push((index, chunk.percentiles(&asked)));
            }
        })?;
        let mut all: Vec<_> = found.into_iter().flatten().collect();
        all.sort_unstable_by_key(|(index, _)| *index);
        Ok(all.into_iter().flat_map(|(_, found)| found).collect())
    }

    /// Sorts the numbers by group, and cuts them into pieces for threads.
    fn by_group(self, groups: usize) -> Vec<Mutex<Chunk>> {
        let mut lengths = vec![0_usize; groups];
        self.slots.iter().for_each(|slot| lengths[*slot as usize] += 1);
        let mut places = Vec::with_capacity(groups);
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut filled = NUMBERS_AT_ONCE;
        for length in lengths {
            if filled >= NUMBERS_AT_ONCE {
                chunks.push(Chunk::default());
                filled = 0;
            }
            let index = chunks.len() - 1;
            places.push((index, filled));
            filled += length;
            chunks[index].ends.push(filled);
        }
        for chunk in &mut chunks {
            chunk.keys = vec![0; chunk.ends.last().copied().unwrap_or(0)];
        }
        for (slot, key) in self.slots.iter().zip(&self.keys) {
            let (index, at) = &mut places[*slot as usize];
            chunks[*index].keys[*at] = *key;
            *at += 1;
        }
        chunks.into_iter().map(Mutex::new).collect()
    }
}

/// The numbers of some groups, one group after the other.
#[derive(Debug, Default)]
struct Chunk {
    keys: Vec<i64>,
    /// End of each group in `keys`.
    ends: Vec<usize>,
}

impl Chunk {
    fn percentiles(mut self, millipercents: &[u32]) -> Vec<Option<f64>> {
        let mut found = Vec::with_capacity(self.ends.len() * millipercents.len());
        let mut start = 0;
        for end in self.ends {
            percentiles(&mut self.keys[start..end], millipercents, &mut found);
            start = end;
        }
        found
    }
}

/// Adds the percentiles, each in thousandths of a percent, of numbers by linear interpolation; the numbers are reordered.
///
/// Quickselect for the smallest rank, then for the next one among what lies above, and so on: each percentile after the first
/// looks at a part of the numbers only. The result is that of `percentile_of_sorted`.
fn percentiles(keys: &mut [i64], millipercents: &[u32], found: &mut Vec<Option<f64>>) {
    let start = found.len();
    found.resize(start + millipercents.len(), None);
    let results = &mut found[start..];
    let Some(last) = keys.len().checked_sub(1) else { return };
    let mut done = 0;
    if keys.len() <= SORTED {
        keys.sort_unstable();
        done = keys.len();
    }
    let mut order: Vec<usize> = (0..millipercents.len()).collect();
    order.sort_unstable_by_key(|index| millipercents[*index]);
    for index in order {
        let (below, share) = rank(last, millipercents[index]);
        let above = (below + 1).min(last);
        if below >= done {
            keys[done..].select_nth_unstable(below - done);
            done = below + 1;
        }
        if above >= done {
            // The next one in order is the least of what lies above.
            let least = (done..keys.len()).min_by_key(|at| keys[*at]).unwrap_or(done);
            keys.swap(done, least);
            done = above + 1;
        }
        let (below, above) = (number_of(keys[below]), number_of(keys[above]));
        results[index] = Some(below + (above - below) * share);
    }
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
    use pulsestream_core::env::Env;
    use pulsestream_core::query::percentile_of_sorted;

    use super::*;
    use crate::config::EmbeddedConfig;
    use crate::question::Desk;

    #[test]
    fn agrees_with_sorting() {
        let mut seed = 7_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 40
        };
        let lengths = [0, 1, 2, 63, 64, 65, 1_000, 4_097, 9_000, 0];
        let mut groups: Vec<Vec<f64>> = lengths.map(|length: usize| vec![0.0; length]).into();
        let mut numbers = Numbers::default();
        for (slot, group) in groups.iter_mut().enumerate() {
            for number in group.iter_mut() {
                *number = next() as f64 / 100.0 - 80_000.0;
            }
            numbers.add(Slots::One(slot), group);
        }
        // One more in a block with none, each row in a group of its own.
        numbers.add(Slots::Each(&[2, 3]), &[f64::NAN, -0.5]);
        groups[3].push(-0.5);

        let asked = [99_000, 50_000, 95_000, 0, 100_000, 50_000, 99_900];
        let question = Desk::new(Env::system(), &EmbeddedConfig::default()).take();
        let found = numbers.percentiles(groups.len(), &asked, &question, &Crew::default()).unwrap();
        for (group, found) in groups.iter_mut().zip(found.chunks(asked.len())) {
            group.sort_unstable_by(f64::total_cmp);
            let expected: Vec<_> = asked.iter().map(|one| percentile_of_sorted(group, *one)).collect();
            assert_eq!(found, expected, "{}", group.len());
        }
    }
}
