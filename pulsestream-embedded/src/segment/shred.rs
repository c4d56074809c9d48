//! Finding the paths into an application's own data that deserve a column.

use std::collections::{HashMap, HashSet};

use pulsestream_core::event::{FieldPath, JsonRef, ValueRef};
use pulsestream_core::text::Text;

use crate::column::DictBuilder;
use crate::field::TextField;
use crate::hash::FastHash;
use crate::part::{Dynamic, MAX_NUMBER_DICTIONARY};
use crate::record::tag_pairs;

/// Paths looked at in one segment.
const MAX_PATHS: usize = 128;
/// A path that fewer than one row in so many has gets no column.
const RARE: usize = 64;

/// Columns of paths while a segment is written.
///
/// A column must answer exactly as the text does. Leaves tell everything about a path except where one row has a value and
/// another row an object or array that continues the path: such paths are read from the text.
#[derive(Debug, Default)]
pub(super) struct Shredder {
    paths: HashMap<Box<[u8]>, usize, FastHash>,
    columns: Vec<Candidate>,
    /// The column of the last leaf.
    last: usize,
    /// Paths that other leaves continue.
    inner: HashSet<Box<[u8]>>,
    rows: usize,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Candidate {
    key: Box<[u8]>,
    values: Values,
    present: usize,
    /// Too many different texts to be worth a dictionary.
    given_up: bool,
    /// The column that followed last time: rows mostly have the same leaves in the same order.
    next: usize,
}

/// The values of a path by row.
#[derive(Debug)]
pub(super) enum Values {
    Dict(DictBuilder),
    /// Too many different numbers for a dictionary, and nothing else so far; NaN where there is none.
    Numbers(Vec<f64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Dict(DictBuilder::default())
    }
}

impl Values {
    fn pad_to(&mut self, rows: usize) {
        match self {
            Self::Dict(builder) => builder.pad_to(rows),
            Self::Numbers(numbers) => numbers.resize(rows, f64::NAN),
        }
    }

    pub(super) fn push(&mut self, value: &ValueRef<'_>) {
        match (&mut *self, value) {
            (Self::Dict(builder), _) => {
                builder.push(value);
                if builder.distinct() > MAX_NUMBER_DICTIONARY && builder.is_numeric() {
                    *self = Self::Numbers(builder.to_numbers());
                }
            }
            // Zero of either sign is one value.
            (Self::Numbers(numbers), ValueRef::Number(number)) => numbers.push(number + 0.0),
            (Self::Numbers(numbers), _) => {
                let mut builder = DictBuilder::with_rows(numbers.len());
                for number in numbers.iter() {
                    let known = ValueRef::Number(*number);
                    builder.push(if number.is_nan() { &ValueRef::Missing } else { &known });
                }
                builder.push(value);
                *self = Self::Dict(builder);
            }
        }
    }

    /// Returns how many rows have a value.
    pub(super) fn present(&self) -> usize {
        match self {
            Self::Dict(builder) => builder.present(),
            Self::Numbers(numbers) => numbers.iter().filter(|number| !number.is_nan()).count(),
        }
    }

    /// Returns whether a dictionary is not worth it, where so many rows have a value.
    fn are_too_different(&self, present: usize) -> bool {
        match self {
            Self::Dict(builder) => {
                let distinct = builder.distinct();
                distinct > 4_096 && distinct > present / 2 && !builder.is_numeric()
            }
            Self::Numbers(_) => false,
        }
    }

    pub(super) fn finish(self) -> Dynamic {
        match self {
            Self::Dict(builder) => Dynamic::from_builder(builder),
            Self::Numbers(numbers) => Dynamic::Numbers(numbers),
        }
    }
}

impl Shredder {
    /// Looks at the texts of the next row.
    pub(super) fn push(&mut self, tags: Option<&[u8]>, payload: Option<&[u8]>, metadata: Option<&[u8]>) {
        if let Some(tags) = tags {
            for (name, value) in tag_pairs(tags) {
                if let Ok(value) = std::str::from_utf8(value) {
                    self.start_key(TextField::Tags);
                    self.push_segment(name);
                    self.add(&ValueRef::Text(value.into()), 1);
                }
            }
        }
        for (field, stored) in [(TextField::Payload, payload), (TextField::Metadata, metadata)] {
            let Some(stored) = stored.and_then(|stored| std::str::from_utf8(stored).ok()) else { continue };
            JsonRef::of_normal_form(stored).leaves(&mut |segments, value| {
                self.start_key(field);
                for segment in segments {
                    self.push_segment(segment.as_bytes());
                }
                self.add(&value, segments.len());
            });
        }
        self.rows += 1;
    }

    fn start_key(&mut self, field: TextField) {
        self.key.clear();
        self.key.push(field as u8);
    }

    /// Segments have no NUL, so one can stand between them.
    fn push_segment(&mut self, segment: &[u8]) {
        self.key.push(0);
        self.key.extend_from_slice(segment);
    }

    fn add(&mut self, value: &ValueRef<'_>, depth: usize) {
        let Some(index) = self.find().or_else(|| self.track(depth)) else { return };
        if let Some(last) = self.columns.get_mut(self.last) {
            last.next = index;
        }
        self.last = index;
        let candidate = &mut self.columns[index];
        if candidate.given_up {
            return;
        }
        candidate.values.pad_to(self.rows);
        candidate.values.push(value);
        candidate.present += 1;
        if candidate.values.are_too_different(candidate.present) {
            candidate.given_up = true;
            candidate.values = Values::default();
        }
    }

    /// Returns the column of the path in `key`.
    fn find(&self) -> Option<usize> {
        let next = self.columns.get(self.last)?.next;
        if self.columns.get(next).is_some_and(|candidate| *candidate.key == *self.key) {
            return Some(next);
        }
        self.paths.get(self.key.as_slice()).copied()
    }

    /// Starts a column for the path in `key`, unless there are too many.
    fn track(&mut self, depth: usize) -> Option<usize> {
        // Whatever this path continues cannot be told by leaves alone.
        if depth > 1 {
            let ends: Vec<usize> = self
                .key
                .iter()
                .enumerate()
                .skip(2)
                .filter(|(_, byte)| **byte == 0)
                .map(|(at, _)| at)
                .collect();
            for end in ends {
                if !self.inner.contains(&self.key[..end]) {
                    self.inner.insert(self.key[..end].into());
                }
            }
        }
        if self.columns.len() >= MAX_PATHS {
            return None;
        }
        let key: Box<[u8]> = self.key.as_slice().into();
        self.paths.insert(key.clone(), self.columns.len());
        self.columns.push(Candidate { key, values: Values::default(), present: 0, given_up: false, next: 0 });
        Some(self.columns.len() - 1)
    }

    /// Returns the columns that are worth it.
    pub(super) fn finish(self) -> Vec<(FieldPath, Dynamic)> {
        let Self { columns, inner, rows, .. } = self;
        let mut chosen = Vec::new();
        for mut candidate in columns {
            let is_worth_it = is_worth_a_column(&candidate.values, candidate.present, rows);
            if !is_worth_it || candidate.given_up || inner.contains(&candidate.key) {
                continue;
            }
            let Some(path) = path_of(&candidate.key) else { continue };
            candidate.values.pad_to(rows);
            chosen.push((path, candidate.values.finish()));
        }
        chosen
    }
}

/// Returns whether a path gets a column that has a value in `present` of the rows.
pub(super) fn is_worth_a_column(values: &Values, present: usize, rows: usize) -> bool {
    present * RARE >= rows && !values.are_too_different(present)
}

/// Returns the path of a key, unless one of its segments could also be a position in an array.
fn path_of(key: &[u8]) -> Option<FieldPath> {
    let (field, rest) = key.split_first()?;
    let segments = rest.get(1..)?.split(|byte| *byte == 0);
    let segments: Vec<Text> =
        segments.map(|one| std::str::from_utf8(one).ok().map(Text::from)).collect::<Option<_>>()?;
    if *field == TextField::Tags as u8 {
        return segments.into_iter().next().map(FieldPath::Tag);
    }
    let may_be_position =
        |segment: &Text| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    if segments.iter().any(may_be_position) {
        return None;
    }
    Some(if *field == TextField::Metadata as u8 {
        FieldPath::Metadata(segments)
    } else {
        FieldPath::Payload(segments)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_numbers_become_an_array_until_something_else_comes() {
        let mut values = Values::default();
        let number = |row: usize| ValueRef::Number(row as f64);
        (0..3_000).for_each(|row| values.push(&number(row)));
        values.pad_to(3_001);
        assert!(matches!(&values, Values::Numbers(numbers) if numbers.len() == 3_001));
        values.push(&ValueRef::Text("free".into()));
        values.push(&number(7));
        let Dynamic::Dict(column) = values.finish() else { panic!("a text is no number") };
        for row in 0..3_000 {
            assert_eq!(column.value(row), number(row));
        }
        let rest = [ValueRef::Missing, ValueRef::Text("free".into()), number(7)];
        assert_eq!((3_000..3_003).map(|row| column.value(row)).collect::<Vec<_>>(), rest);
    }
}
