//! Arrays of integers and numbers as bytes: narrow first, then compressed.

use crate::bytes::{Reader, put_varint};

const CONSTANT: u8 = 0;
const OFFSETS: u8 = 1;
const DELTAS: u8 = 2;

const RAW: u8 = 0;
const SCALED: u8 = 1;

/// Appends integers: mode, base i64, width, then one plane for each byte of the distances to the base (or, for deltas, of the
/// distances of neighbours to the smallest delta). Planes of equal bytes compress well.
pub(crate) fn pack_ints(values: &[i64], bytes: &mut Vec<u8>) {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    if min == max {
        bytes.push(CONSTANT);
        bytes.extend_from_slice(&min.to_le_bytes());
        return;
    }
    let deltas: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let (low, high) = (deltas.iter().copied().min().unwrap_or(0), deltas.iter().copied().max().unwrap_or(0));
    let offset_width = width(min, max);
    let delta_width = width(low, high);
    if high.checked_sub(low).is_some() && delta_width < offset_width {
        bytes.push(DELTAS);
        bytes.extend_from_slice(&values[0].to_le_bytes());
        bytes.extend_from_slice(&low.to_le_bytes());
        planes(deltas.iter().map(|delta| distance(*delta, low)), deltas.len(), delta_width, bytes);
    } else {
        bytes.push(OFFSETS);
        bytes.extend_from_slice(&min.to_le_bytes());
        planes(values.iter().map(|value| distance(*value, min)), values.len(), offset_width, bytes);
    }
}

/// Reads `rows` integers; `None` if the bytes are something else.
pub(crate) fn unpack_ints(bytes: &[u8], rows: usize) -> Option<Vec<i64>> {
    let mut reader = Reader(bytes);
    let mode = reader.u8()?;
    let base = reader.i64()?;
    match mode {
        CONSTANT => Some(vec![base; rows]),
        OFFSETS => {
            let mut values = vec![0; rows];
            read_planes(&mut reader, &mut values)?;
            values.iter_mut().for_each(|value| *value = base.wrapping_add(*value));
            Some(values)
        }
        DELTAS => {
            let low = reader.i64()?;
            let mut values = vec![0; rows];
            let (first, rest) = values.split_first_mut()?;
            read_planes(&mut reader, rest)?;
            *first = base;
            let mut last = base;
            for value in rest {
                last = last.wrapping_add(low).wrapping_add(*value);
                *value = last;
            }
            Some(values)
        }
        _ => None,
    }
}

fn distance(value: i64, base: i64) -> u64 {
    value.wrapping_sub(base).cast_unsigned()
}

/// Bytes that the distance from `low` to `high` needs.
fn width(low: i64, high: i64) -> usize {
    let span = distance(high, low);
    ((u64::BITS - span.leading_zeros()) as usize).div_ceil(8).max(1)
}

#[allow(clippy::cast_possible_truncation, reason = "one byte of each value is taken at a time")]
fn planes(values: impl Iterator<Item = u64> + Clone, count: usize, width: usize, bytes: &mut Vec<u8>) {
    bytes.push(width as u8);
    bytes.reserve(count * width);
    for plane in 0..width {
        bytes.extend(values.clone().map(|value| (value >> (plane * 8)) as u8));
    }
}

fn read_planes(reader: &mut Reader<'_>, values: &mut [i64]) -> Option<()> {
    let width = usize::from(reader.u8()?);
    if width > 8 {
        return None;
    }
    for plane in 0..width {
        let bytes = reader.take(values.len())?;
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value |= (u64::from(*byte) << (plane * 8)).cast_signed();
        }
    }
    Some(())
}

/// Decimal places that a column of numbers may have to be kept as integers.
const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Stands for a missing number among scaled integers; real ones are smaller.
const ABSENT: i64 = 1 << 54;

/// Appends numbers, NaN for missing: as integers when all of them are decimals of few places, else as their bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the round trip is checked")]
pub(crate) fn pack_numbers(values: &[f64], bytes: &mut Vec<u8>) {
    for (index, scale) in SCALES.iter().enumerate() {
        let scaled = |value: &f64| {
            let integer = (value * scale).round() as i64;
            let exact = integer.abs() < 1 << 53 && (integer as f64 / scale).to_bits() == value.to_bits();
            exact.then_some(integer)
        };
        let integers: Option<Vec<i64>> =
            values.iter().map(|value| if value.is_nan() { Some(ABSENT) } else { scaled(value) }).collect();
        if let Some(integers) = integers {
            bytes.push(SCALED);
            bytes.push(index as u8);
            let absent = integers.iter().filter(|value| **value == ABSENT).count();
            put_varint(bytes, absent as u64);
            // Missing ones would widen the range, so they are told by a bitmap and left out.
            if absent > 0 && absent < integers.len() {
                bytes.extend(integers.chunks(8).map(|chunk| {
                    chunk
                        .iter()
                        .enumerate()
                        .fold(0_u8, |bits, (bit, value)| bits | u8::from(*value != ABSENT) << bit)
                }));
            }
            let present: Vec<i64> = integers.into_iter().filter(|value| *value != ABSENT).collect();
            pack_ints(&present, bytes);
            return;
        }
    }
    bytes.push(RAW);
    planes(values.iter().map(|value| value.to_bits()), values.len(), 8, bytes);
}

/// Reads `rows` numbers; `None` if the bytes are something else.
#[allow(clippy::cast_precision_loss, reason = "written from doubles, with the round trip checked")]
pub(crate) fn unpack_numbers(bytes: &[u8], rows: usize) -> Option<Vec<f64>> {
    let mut reader = Reader(bytes);
    if reader.u8()? == RAW {
        let mut bits = vec![0; rows];
        read_planes(&mut reader, &mut bits)?;
        return Some(bits.into_iter().map(|bits| f64::from_bits(bits.cast_unsigned())).collect());
    }
    let scale = SCALES.get(usize::from(reader.u8()?))?;
    let absent = reader.length()?;
    if absent == rows {
        return Some(vec![f64::NAN; rows]);
    }
    let bitmap = if absent > 0 { Some(reader.take(rows.div_ceil(8))?) } else { None };
    let present = unpack_ints(reader.0, rows.checked_sub(absent)?)?;
    let mut present = present.into_iter().map(|value| value as f64 / scale);
    Some(match bitmap {
        None => present.collect(),
        Some(bitmap) => (0..rows)
            .map(|row| {
                if bitmap[row / 8] & (1 << (row % 8)) == 0 {
                    f64::NAN
                } else {
                    present.next().unwrap_or(f64::NAN)
                }
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: f64, right: f64) -> bool {
        left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
    }

    #[test]
    fn integers_round_trip_and_shrink() {
        let ascending: Vec<i64> = (0..10_000).map(|index| 1_700_000_000_000_000 + index * 1_001).collect();
        for values in [
            vec![],
            vec![5],
            vec![7; 100],
            vec![i64::MIN, i64::MAX, 0, -1],
            vec![i64::MAX, i64::MIN],
            ascending.clone(),
        ] {
            let mut bytes = Vec::new();
            pack_ints(&values, &mut bytes);
            assert_eq!(unpack_ints(&bytes, values.len()).unwrap(), values);
        }
        let mut bytes = Vec::new();
        pack_ints(&ascending, &mut bytes);
        assert!(bytes.len() < 10_100, "one byte for each row: {}", bytes.len());
    }

    #[test]
    fn numbers_round_trip_bit_for_bit() {
        let nan = f64::NAN;
        for values in [
            vec![],
            vec![nan, nan],
            vec![1.5, nan, 200.25, -3.0],
            vec![0.1, 0.12, 0.123, 1234.5],
            vec![-0.0, 1.0],
            vec![std::f64::consts::PI, nan, 1e300],
            vec![9_007_199_254_740_992.0, 1.0],
            (0..100).map(|index| if index % 3 == 0 { nan } else { f64::from(index) / 100.0 }).collect(),
        ] {
            let mut bytes = Vec::new();
            pack_numbers(&values, &mut bytes);
            let back = unpack_numbers(&bytes, values.len()).unwrap();
            assert!(back.iter().zip(&values).all(|(left, right)| same(*left, *right)), "{values:?} {back:?}");
            assert_eq!(back.len(), values.len());
        }
    }

    #[test]
    fn damaged_bytes_do_not_panic() {
        let mut bytes = Vec::new();
        pack_numbers(&[1.5, f64::NAN, 3.0], &mut bytes);
        for length in 0..bytes.len() {
            let _ = unpack_numbers(&bytes[..length], 3);
            let _ = unpack_ints(&bytes[..length], 3);
        }
    }
}
