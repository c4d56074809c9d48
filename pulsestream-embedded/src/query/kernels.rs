//! Loops over columns, written so that the compiler turns them into vector instructions.
//!
//! A mask has one byte for each row, 1 for rows that still may match. Kernels clear bytes and never set them.

use crate::column::Codes;

/// Keeps rows whose code is the given one.
#[allow(clippy::cast_possible_truncation, reason = "a code fits the width of its column")]
pub(super) fn keep_code(codes: &Codes, start: usize, code: u32, mask: &mut [u8]) {
    let end = start + mask.len();
    match codes {
        Codes::U8(codes) => keep_equal(&codes[start..end], code as u8, mask),
        Codes::U16(codes) => keep_equal(&codes[start..end], code as u16, mask),
        Codes::U32(codes) => keep_equal(&codes[start..end], code, mask),
    }
}

fn keep_equal<T: Copy + PartialEq>(values: &[T], wanted: T, mask: &mut [u8]) {
    for (keep, value) in mask.iter_mut().zip(values) {
        *keep &= u8::from(*value == wanted);
    }
}

/// Keeps rows whose code has a 1 in the table, which has an entry for every code.
pub(super) fn keep_listed(codes: &Codes, start: usize, table: &[u8], mask: &mut [u8]) {
    let end = start + mask.len();
    match codes {
        Codes::U8(codes) => {
            let mut whole = [0; 256];
            whole[..table.len()].copy_from_slice(table);
            for (keep, code) in mask.iter_mut().zip(&codes[start..end]) {
                *keep &= whole[usize::from(*code)];
            }
        }
        Codes::U16(codes) => {
            for (keep, code) in mask.iter_mut().zip(&codes[start..end]) {
                *keep &= table[usize::from(*code)];
            }
        }
        Codes::U32(codes) => {
            for (keep, code) in mask.iter_mut().zip(&codes[start..end]) {
                *keep &= table[*code as usize];
            }
        }
    }
}

/// Adds `width` times each code to `sums`.
pub(super) fn add_all<T: Copy + Into<u32>>(codes: &[T], width: u32, sums: &mut [u32]) {
    for (sum, code) in sums.iter_mut().zip(codes) {
        *sum = sum.wrapping_add(width.wrapping_mul((*code).into()));
    }
}

/// Adds `width` times the code of each listed row to `sums`.
pub(super) fn add_listed<T: Copy + Into<u32>>(codes: &[T], rows: &[u32], width: u32, sums: &mut [u32]) {
    for (sum, row) in sums.iter_mut().zip(rows) {
        *sum = sum.wrapping_add(width.wrapping_mul(codes[*row as usize].into()));
    }
}

/// Counts how often each code below `size` comes; the counts are the first `size` elements of `lanes`.
///
/// Four tables take turns, because equal codes mostly follow each other, and adding to what was just written waits for it.
pub(super) fn histogram(codes: &[u32], size: usize, lanes: &mut Vec<u32>) {
    const LANES: usize = 4;
    lanes.clear();
    lanes.resize(size * LANES, 0);
    for chunk in codes.chunks(LANES) {
        for (lane, code) in chunk.iter().enumerate() {
            lanes[lane * size + *code as usize] += 1;
        }
    }
    let (counts, others) = lanes.split_at_mut(size);
    for other in others.chunks(size.max(1)) {
        counts.iter_mut().zip(other).for_each(|(count, more)| *count += more);
    }
}

/// Adds `width` times the code of each row to `sums`, for rows in a range.
pub(super) fn add_codes(codes: &Codes, start: usize, width: u32, sums: &mut [u32]) {
    let end = start + sums.len();
    match codes {
        Codes::U8(codes) => add_all(&codes[start..end], width, sums),
        Codes::U16(codes) => add_all(&codes[start..end], width, sums),
        Codes::U32(codes) => add_all(&codes[start..end], width, sums),
    }
}

/// Adds `width` times the code of each row to `sums`, for listed rows.
pub(super) fn add_listed_codes(codes: &Codes, rows: &[u32], width: u32, sums: &mut [u32]) {
    match codes {
        Codes::U8(codes) => add_listed(codes, rows, width, sums),
        Codes::U16(codes) => add_listed(codes, rows, width, sums),
        Codes::U32(codes) => add_listed(codes, rows, width, sums),
    }
}

/// How a number is compared with a literal; a missing number is NaN, for which every comparison is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Not equal is the exact negation of equal, so it holds for a missing number.
    NotEqual,
    Present,
}

/// Keeps rows whose number compares so with the literal.
pub(super) fn keep_number(values: &[f64], comparison: Comparison, literal: f64, mask: &mut [u8]) {
    fn keep(values: &[f64], mask: &mut [u8], holds: impl Fn(f64) -> bool) {
        for (keep, value) in mask.iter_mut().zip(values) {
            *keep &= u8::from(holds(*value));
        }
    }
    match comparison {
        Comparison::Equal => keep(values, mask, |value| value == literal),
        Comparison::NotEqual => keep(values, mask, |value| value != literal),
        Comparison::Less => keep(values, mask, |value| value < literal),
        Comparison::LessOrEqual => keep(values, mask, |value| value <= literal),
        Comparison::Greater => keep(values, mask, |value| value > literal),
        Comparison::GreaterOrEqual => keep(values, mask, |value| value >= literal),
        Comparison::Present => keep(values, mask, |value| !value.is_nan()),
    }
}

/// Clears the bytes of `mask` that are set in `other`.
pub(super) fn subtract(mask: &mut [u8], other: &[u8]) {
    for (keep, drop) in mask.iter_mut().zip(other) {
        *keep &= 1 - *drop;
    }
}

/// Sets the bytes of `mask` that are set in `other`.
pub(super) fn unite(mask: &mut [u8], other: &[u8]) {
    for (keep, more) in mask.iter_mut().zip(other) {
        *keep |= *more;
    }
}

/// Counts the set bytes.
pub(super) fn count(mask: &[u8]) -> usize {
    // In chunks whose sum fits a byte, which the compiler adds 16 or 32 at a time.
    mask.chunks(255).map(|chunk| usize::from(chunk.iter().fold(0_u8, |sum, byte| sum + *byte))).sum()
}

/// Appends the rows whose byte is set.
#[allow(clippy::cast_possible_truncation, reason = "a part has fewer than 2^32 rows")]
pub(super) fn collect(mask: &[u8], start: usize, rows: &mut Vec<u32>) {
    for (chunk_index, chunk) in mask.chunks(8).enumerate() {
        // Selective filters leave most chunks empty.
        if let Some(whole) = chunk.first_chunk::<8>()
            && u64::from_le_bytes(*whole) == 0
        {
            continue;
        }
        for (index, keep) in chunk.iter().enumerate() {
            if *keep != 0 {
                rows.push((start + chunk_index * 8 + index) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree_with_plain_loops() {
        let values: Vec<f64> =
            (0..1_000).map(|row| if row % 7 == 0 { f64::NAN } else { f64::from(row % 13) }).collect();
        let plain = |comparison, value: f64| match comparison {
            Comparison::Equal => value == 5.0,
            Comparison::NotEqual => value != 5.0,
            Comparison::Less => value < 5.0,
            Comparison::LessOrEqual => value <= 5.0,
            Comparison::Greater => value > 5.0,
            Comparison::GreaterOrEqual => value >= 5.0,
            Comparison::Present => !value.is_nan(),
        };
        for comparison in [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
            Comparison::Present,
        ] {
            let mut mask: Vec<u8> = (0..1_000).map(|row| u8::from(row % 3 != 0)).collect();
            keep_number(&values, comparison, 5.0, &mut mask);
            let expected: Vec<u32> =
                (0..1_000).filter(|row| row % 3 != 0 && plain(comparison, values[*row as usize])).collect();
            let mut rows = Vec::new();
            collect(&mask, 0, &mut rows);
            assert_eq!(rows, expected, "{comparison:?}");
            assert_eq!(count(&mask), expected.len());
        }
    }

    #[test]
    fn codes_are_counted() {
        let codes: Vec<u32> = (0..1_003).map(|row| row * row % 11).collect();
        let mut lanes = vec![9; 3];
        histogram(&codes, 12, &mut lanes);
        let expected: Vec<u32> =
            (0..12).map(|code| codes.iter().filter(|other| **other == code).count() as u32).collect();
        assert_eq!(lanes[..12], expected);
    }

    #[test]
    fn codes_of_every_width() {
        let plain: Vec<u32> = (0..600).map(|row| row % 5).collect();
        let columns = [
            Codes::U8(plain.iter().map(|code| *code as u8).collect()),
            Codes::U16(plain.iter().map(|code| *code as u16).collect()),
            Codes::U32(plain.clone()),
        ];
        for codes in columns {
            let mut mask = vec![1; 500];
            keep_code(&codes, 100, 3, &mut mask);
            assert_eq!(count(&mask), 100);
            let mut mask = vec![1; 500];
            keep_listed(&codes, 100, &[0, 1, 0, 1, 0], &mut mask);
            assert_eq!(count(&mask), 200);
        }
    }
}
