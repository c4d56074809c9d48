//! Columns in memory: dictionaries, codes, and how they are built.

use std::borrow::Cow;

use pulsestream_core::event::{Severity, ValueRef};
use pulsestream_core::text::same;

use crate::hash::FastHash;

/// What an entry of a dictionary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Text = 0,
    Number = 1,
    Bool = 2,
    Composite = 3,
    Severity = 4,
}

impl Kind {
    /// Reads the number that stands on disk.
    pub(crate) fn from_u8(kind: u8) -> Option<Self> {
        [Self::Text, Self::Number, Self::Bool, Self::Composite, Self::Severity]
            .into_iter()
            .find(|known| *known as u8 == kind)
    }
}

/// The different values of a column. Code 0 is the missing value; entry `n` has code `n + 1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dictionary {
    pub(crate) kinds: Vec<u8>,
    /// End of each entry in `bytes`.
    pub(crate) ends: Vec<u32>,
    pub(crate) bytes: Vec<u8>,
}

impl Dictionary {
    /// Returns the number of codes, the one for missing included.
    pub(crate) fn codes(&self) -> usize {
        self.ends.len() + 1
    }

    /// Returns kind and bytes of a code, `None` for the missing value.
    pub(crate) fn entry(&self, code: u32) -> Option<(u8, &[u8])> {
        let index = (code as usize).checked_sub(1)?;
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some((self.kinds[index], &self.bytes[start..end]))
    }

    /// Returns the value of a code.
    pub(crate) fn value(&self, code: u32) -> ValueRef<'_> {
        let Some((kind, bytes)) = self.entry(code) else { return ValueRef::Missing };
        match Kind::from_u8(kind) {
            Some(Kind::Text) => std::str::from_utf8(bytes)
                .map_or(ValueRef::Missing, |text| ValueRef::Text(Cow::Borrowed(text))),
            Some(Kind::Number) => bytes.first_chunk().map_or(ValueRef::Missing, |bits| {
                ValueRef::Number(f64::from_bits(u64::from_le_bytes(*bits)))
            }),
            Some(Kind::Bool) => ValueRef::Bool(bytes.first() == Some(&1)),
            Some(Kind::Composite) => ValueRef::Composite,
            Some(Kind::Severity) => bytes
                .first()
                .and_then(|ordinal| Severity::from_ordinal(*ordinal))
                .map_or(ValueRef::Missing, ValueRef::Severity),
            None => ValueRef::Missing,
        }
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.kinds.capacity() + self.ends.capacity() * 4 + self.bytes.capacity()
    }
}

/// One code for each row, as narrow as the dictionary allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Codes {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Codes {
    /// Narrows codes of a dictionary with so many.
    #[allow(clippy::cast_possible_truncation, reason = "codes are below their number")]
    pub(crate) fn narrow(codes: Vec<u32>, number: usize) -> Self {
        if number <= 1 << 8 {
            Self::U8(codes.into_iter().map(|code| code as u8).collect())
        } else if number <= 1 << 16 {
            Self::U16(codes.into_iter().map(|code| code as u16).collect())
        } else {
            Self::U32(codes)
        }
    }

    /// Returns the code of a row.
    pub(crate) fn get(&self, row: usize) -> u32 {
        match self {
            Self::U8(codes) => u32::from(codes[row]),
            Self::U16(codes) => u32::from(codes[row]),
            Self::U32(codes) => codes[row],
        }
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(codes) => codes.len(),
            Self::U16(codes) => codes.len(),
            Self::U32(codes) => codes.len(),
        }
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::U8(codes) => codes.capacity(),
            Self::U16(codes) => codes.capacity() * 2,
            Self::U32(codes) => codes.capacity() * 4,
        }
    }
}

/// A dictionary and a code for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DictColumn {
    pub(crate) codes: Codes,
    pub(crate) dictionary: Dictionary,
}

impl DictColumn {
    /// Returns the value of a row.
    pub(crate) fn value(&self, row: usize) -> ValueRef<'_> {
        self.dictionary.value(self.codes.get(row))
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.codes.heap_bytes() + self.dictionary.heap_bytes()
    }
}

/// Rows that are looked up together.
const LOT_ROWS: usize = 64;

/// A place of the table of a dictionary: half of the hash, so that other values are told apart without reading them, and the code, 0
/// where the place is free.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u32,
    code: u32,
}

/// Gives each different value a code.
#[derive(Debug, Default)]
pub(crate) struct DictBuilder {
    dictionary: Dictionary,
    codes: Vec<u32>,
    /// Open addressing.
    slots: Vec<Slot>,
    hasher: FastHash,
    last: u32,
    /// Whether an entry is something else than a number.
    mixed: bool,
}

impl DictBuilder {
    pub(crate) fn with_rows(rows: usize) -> Self {
        Self { codes: Vec::with_capacity(rows), ..Self::default() }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.codes.len()
    }

    /// Returns the number of different values.
    pub(crate) fn distinct(&self) -> usize {
        self.dictionary.ends.len()
    }

    /// Adds rows with a text or without.
    ///
    /// A lot after the other: first where each looks, then what stands there, so that reads of memory do not wait for each other.
    #[allow(clippy::cast_possible_truncation, reason = "half of a hash is enough")]
    pub(crate) fn push_texts<'a>(&mut self, texts: impl Iterator<Item = Option<&'a [u8]>>) {
        let mut hashes = [0; LOT_ROWS];
        let mut guesses = [0; LOT_ROWS];
        let mut lot: [Option<&[u8]>; LOT_ROWS] = [None; LOT_ROWS];
        let mut texts = texts.fuse();
        loop {
            let mut rows = 0;
            for text in texts.by_ref().take(LOT_ROWS) {
                lot[rows] = text;
                hashes[rows] = text.map_or(0, |text| self.hasher.of(Kind::Text as u8, text) as u32);
                rows += 1;
            }
            if rows == 0 {
                return;
            }
            self.make_room(rows);
            let mask = self.slots.len() - 1;
            for row in 0..rows {
                let Slot { hash, code } = self.slots[hashes[row] as usize & mask];
                guesses[row] = if hash == hashes[row] { code } else { 0 };
            }
            for row in 0..rows {
                let code = match (lot[row], guesses[row]) {
                    (None, _) => 0,
                    (Some(text), code) if self.is_entry(code, Kind::Text, text) => code,
                    (Some(text), _) => self.find_or_add(Kind::Text, text, hashes[row]),
                };
                self.codes.push(code);
            }
        }
    }

    /// Adds a row with a text or without.
    pub(crate) fn push_text(&mut self, text: Option<&[u8]>) {
        let code = text.map_or(0, |text| self.code(Kind::Text, text));
        self.codes.push(code);
    }

    /// Adds a row with a value.
    pub(crate) fn push(&mut self, value: &ValueRef<'_>) {
        let code = match value {
            ValueRef::Missing => 0,
            ValueRef::Text(text) => self.code(Kind::Text, text.as_bytes()),
            ValueRef::Number(number) => {
                // Zero of either sign is one value.
                self.code(Kind::Number, &(number + 0.0).to_bits().to_le_bytes())
            }
            ValueRef::Bool(value) => self.code(Kind::Bool, &[u8::from(*value)]),
            ValueRef::Composite => self.code(Kind::Composite, &[]),
            ValueRef::Severity(severity) => self.code(Kind::Severity, &[*severity as u8]),
        };
        self.codes.push(code);
    }

    /// Returns the code here of what has a code in another dictionary.
    pub(crate) fn translate(&mut self, dictionary: &Dictionary, code: u32) -> u32 {
        let entry = dictionary.entry(code);
        entry.and_then(|(kind, bytes)| Some(self.code(Kind::from_u8(kind)?, bytes))).unwrap_or(0)
    }

    /// Adds a row with a code of this dictionary.
    pub(crate) fn push_code(&mut self, code: u32) {
        self.codes.push(code);
    }

    /// Returns the bytes of the different values.
    pub(crate) fn text_bytes(&self) -> usize {
        self.dictionary.bytes.len()
    }

    /// Returns how many rows have a value.
    pub(crate) fn present(&self) -> usize {
        self.codes.iter().filter(|code| **code != 0).count()
    }

    /// Adds rows without a value until there are so many.
    pub(crate) fn pad_to(&mut self, rows: usize) {
        self.codes.resize(rows, 0);
    }

    /// Returns the code of a value, a new one if it was not seen.
    #[allow(clippy::cast_possible_truncation, reason = "a column has fewer than 2^32 rows and bytes")]
    pub(crate) fn code(&mut self, kind: Kind, bytes: &[u8]) -> u32 {
        // Neighbours are often equal.
        if self.is_entry(self.last, kind, bytes) {
            return self.last;
        }
        self.make_room(1);
        let hash = self.hasher.of(kind as u8, bytes) as u32;
        self.last = self.find_or_add(kind, bytes, hash);
        self.last
    }

    fn is_entry(&self, code: u32, kind: Kind, bytes: &[u8]) -> bool {
        self.dictionary.entry(code).is_some_and(|(known, entry)| known == kind as u8 && same(entry, bytes))
    }

    /// Returns the code of a value whose hash is known; there must be room for a new one.
    #[allow(clippy::cast_possible_truncation, reason = "a column has fewer than 2^32 rows and bytes")]
    fn find_or_add(&mut self, kind: Kind, bytes: &[u8], hash: u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let Slot { hash: found, code } = self.slots[slot];
            if code == 0 {
                break;
            }
            if found == hash && self.is_entry(code, kind, bytes) {
                return code;
            }
            slot = (slot + 1) & mask;
        }
        self.mixed |= kind != Kind::Number;
        self.dictionary.kinds.push(kind as u8);
        self.dictionary.bytes.extend_from_slice(bytes);
        self.dictionary.ends.push(self.dictionary.bytes.len() as u32);
        let code = self.dictionary.ends.len() as u32;
        self.slots[slot] = Slot { hash, code };
        code
    }

    /// Makes room for new values: at most half of the slots are taken.
    fn make_room(&mut self, values: usize) {
        let needed = (self.distinct() + values) * 2;
        if self.slots.len() >= needed {
            return;
        }
        let size = needed.next_power_of_two().max(64);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        for taken in old.into_iter().filter(|slot| slot.code != 0) {
            let mut slot = taken.hash as usize & (size - 1);
            while self.slots[slot].code != 0 {
                slot = (slot + 1) & (size - 1);
            }
            self.slots[slot] = taken;
        }
    }

    /// Returns the column.
    pub(crate) fn finish(self) -> DictColumn {
        let number = self.dictionary.codes();
        DictColumn { codes: Codes::narrow(self.codes, number), dictionary: self.dictionary }
    }

    /// Returns whether all values are numbers.
    pub(crate) fn is_numeric(&self) -> bool {
        !self.mixed
    }

    /// Returns the bytes of a row, when it has a text.
    pub(crate) fn text(&self, row: usize) -> Option<&[u8]> {
        self.dictionary.entry(self.codes[row]).map(|(_, bytes)| bytes)
    }

    /// Returns the rows as numbers, NaN where there is none.
    pub(crate) fn to_numbers(&self) -> Vec<f64> {
        let number = |code: &u32| self.dictionary.value(*code).as_number().unwrap_or(f64::NAN);
        self.codes.iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_code_and_types_do_not_mix() {
        let mut builder = DictBuilder::default();
        let values = [
            ValueRef::Text("1".into()),
            ValueRef::Number(1.0),
            ValueRef::Missing,
            ValueRef::Bool(true),
            ValueRef::Composite,
            ValueRef::Severity(Severity::Error),
            ValueRef::Number(0.0),
            ValueRef::Number(-0.0),
            ValueRef::Text("".into()),
        ];
        for value in values.iter().chain(&values) {
            builder.push(value);
        }
        assert_eq!(builder.distinct(), 7);
        assert!(!builder.is_numeric());
        let column = builder.finish();
        for (row, value) in values.iter().chain(&values).enumerate() {
            assert_eq!(&column.value(row), value, "row {row}");
        }
    }

    #[test]
    fn a_column_is_numeric_until_something_else_comes() {
        let mut builder = DictBuilder::default();
        builder.push(&ValueRef::Number(1.5));
        builder.push(&ValueRef::Missing);
        assert!(builder.is_numeric());
        builder.push(&ValueRef::Text("1.5".into()));
        assert!(!builder.is_numeric());
    }

    #[test]
    fn codes_are_as_narrow_as_the_dictionary_allows() {
        for (distinct, width) in [(255, 1), (256, 2), (65_535, 2), (65_536, 4)] {
            let mut builder = DictBuilder::default();
            for value in 0..distinct {
                builder.push_text(Some(format!("value {value}").as_bytes()));
            }
            let column = builder.finish();
            let found = match &column.codes {
                Codes::U8(_) => 1,
                Codes::U16(_) => 2,
                Codes::U32(_) => 4,
            };
            assert_eq!(found, width, "{distinct}");
            assert_eq!(column.value(distinct - 1), ValueRef::Text(format!("value {}", distinct - 1).into()));
        }
    }
}
