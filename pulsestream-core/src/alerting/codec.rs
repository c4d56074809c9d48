//! The binary form of snapshots: LEB128 integers, little-endian doubles.

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Default)]
pub(in crate::alerting) struct Writer(Vec<u8>);

impl Writer {
    pub(in crate::alerting) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(in crate::alerting) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(in crate::alerting) fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    #[allow(clippy::cast_possible_truncation, reason = "seven bits are taken")]
    pub(in crate::alerting) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zigzag, so that small negative numbers are short too.
    #[allow(clippy::cast_sign_loss, reason = "the bits are what is written")]
    pub(in crate::alerting) fn signed(&mut self, value: i64) {
        self.unsigned((value.wrapping_shl(1) ^ (value >> 63)) as u64);
    }

    pub(in crate::alerting) fn double(&mut self, value: f64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(in crate::alerting) fn sized(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.bytes(bytes);
    }
}

#[derive(Debug)]
pub(in crate::alerting) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(in crate::alerting) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    pub(in crate::alerting) fn corrupt(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "alerting.restore", "a snapshot of alerting is damaged")
            .with_context("offset", self.length - self.rest.len())
    }

    pub(in crate::alerting) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(in crate::alerting) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else { return Err(self.corrupt()) };
        self.rest = rest;
        Ok(head)
    }

    pub(in crate::alerting) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let error = self.corrupt();
        self.take(N)?.try_into().map_err(|_| error)
    }

    pub(in crate::alerting) fn flag(&mut self) -> Result<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.corrupt()),
        }
    }

    pub(in crate::alerting) fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.corrupt())
    }

    #[allow(clippy::cast_possible_wrap, reason = "the bits are what was written")]
    pub(in crate::alerting) fn signed(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(in crate::alerting) fn small(&mut self) -> Result<u32> {
        u32::try_from(self.unsigned()?).map_err(|_| self.corrupt())
    }

    pub(in crate::alerting) fn double(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// Reads a count of items that take at least `item_bytes` each, so that a damaged count cannot ask for memory.
    pub(in crate::alerting) fn length(&mut self, item_bytes: usize) -> Result<usize> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| self.corrupt())?;
        if count.saturating_mul(item_bytes) > self.rest.len() { Err(self.corrupt()) } else { Ok(count) }
    }

    pub(in crate::alerting) fn sized(&mut self) -> Result<&'a [u8]> {
        let count = self.length(1)?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_and_damage_is_an_error() {
        let mut out = Writer::default();
        let numbers = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        numbers.iter().for_each(|number| out.signed(*number));
        let bytes = out.into_bytes();
        let mut input = Reader::new(&bytes);
        for number in numbers {
            assert_eq!(input.signed().unwrap(), number);
        }
        assert!(input.is_empty());
        assert_eq!(input.unsigned().unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(Reader::new(&[0xff; 11]).unsigned().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0x03]).length(1).is_err());
    }
}
