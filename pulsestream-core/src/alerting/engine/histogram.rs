//! Percentiles over a window, from cells with a bounded relative width.

use crate::query::percentile_of_sorted;

/// Numbers that share sign, exponent and the first seven bits of the mantissa: they differ by less than 0.8 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub(super) key: u32,
    pub(super) count: u32,
    pub(super) sum: f64,
}

/// Cells in ascending order of their numbers. A cell stands for the mean of its numbers, so a percentile is off by less than
/// 0.8 % of its value, and exact where all numbers of a cell are equal. (The layout of HdrHistogram, on the bits of the double.)
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    pub(super) cells: Vec<Cell>,
}

/// Maps doubles to integers in the same order, and keeps the first 19 bits.
#[allow(clippy::cast_possible_truncation, reason = "19 bits are left")]
fn cell_key(number: f64) -> u32 {
    let bits = (number + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    (ordered >> 45) as u32
}

impl Histogram {
    pub(super) fn add(&mut self, number: f64) {
        self.merge_cell(Cell { key: cell_key(number), count: 1, sum: number });
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.cells.iter().for_each(|cell| self.merge_cell(*cell));
    }

    pub(super) fn clear(&mut self) {
        self.cells.clear();
    }

    fn merge_cell(&mut self, cell: Cell) {
        match self.cells.binary_search_by_key(&cell.key, |cell| cell.key) {
            Ok(index) => {
                let there = &mut self.cells[index];
                there.count = there.count.saturating_add(cell.count);
                there.sum += cell.sum;
            }
            Err(index) => self.cells.insert(index, cell),
        }
    }

    /// Returns the percentile by linear interpolation between the closest ranks; `None` when empty.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank lies between 0 and the number of values"
    )]
    pub(super) fn percentile(&self, millipercent: u32) -> Option<f64> {
        let total: u64 = self.cells.iter().map(|cell| u64::from(cell.count)).sum();
        let last = total.checked_sub(1)?;
        let rank = last as f64 * (f64::from(millipercent) / 100_000.0);
        let below = (rank.floor() as u64).min(last);
        let pair = [self.nth(below)?, self.nth((below + 1).min(last))?];
        // The position between the two as a percentile of the pair.
        percentile_of_sorted(&pair, ((rank - below as f64) * 100_000.0).round() as u32)
    }

    fn nth(&self, index: u64) -> Option<f64> {
        let mut seen = 0;
        self.cells.iter().find_map(|cell| {
            seen += u64::from(cell.count);
            (index < seen).then(|| cell.sum / f64::from(cell.count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_for_equal_numbers_and_close_otherwise() {
        let mut histogram = Histogram::default();
        (0..7).for_each(|_| histogram.add(800.0));
        assert_eq!(histogram.percentile(95_000), Some(800.0));
        let mut numbers: Vec<f64> = (0..2_000).map(|index| (f64::from(index) * 7.3).sin() * 1e4).collect();
        let mut histogram = Histogram::default();
        numbers.iter().for_each(|number| histogram.add(*number));
        numbers.sort_by(f64::total_cmp);
        for millipercent in [0, 1_000, 25_000, 75_000, 95_000, 99_900, 100_000] {
            let exact = percentile_of_sorted(&numbers, millipercent).unwrap();
            let found = histogram.percentile(millipercent).unwrap();
            assert!((found - exact).abs() <= exact.abs() * 0.008, "{millipercent}: {found} for {exact}");
        }
        assert_eq!(Histogram::default().percentile(50_000), None);
    }
}
