//! What a query reads: a sealed segment or a run of fresh events, both sorted by (tenant, time, id).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::event::{FieldPath, JsonRef, Severity, ValueRef};
use pulsestream_core::id::TenantId;

use crate::cache::{Cache, CacheKey};
use crate::column::{DictBuilder, DictColumn};
use crate::error::FaultResult;
use crate::field::{IntField, NumberField, TextField};
use crate::question::Question;
use crate::record::{Record, tag_pairs};
use crate::segment::IdHasher;

/// Numbers with more different values than this are kept as an array, not as a dictionary.
pub(crate) const MAX_NUMBER_DICTIONARY: usize = 1_024;

/// Where the rows of a part come from.
pub(crate) trait Rows: fmt::Debug + Send + Sync {
    /// Returns the number of the part, never used twice in the life of a process.
    fn key(&self) -> u64;

    /// Returns the number of rows.
    fn rows(&self) -> usize;

    /// Returns the rows of a tenant that are not deleted, ascending.
    fn live_rows(&self, tenant: TenantId) -> Vec<Range<usize>>;

    /// Returns the smallest and largest timestamp of a tenant.
    fn time_bounds(&self, tenant: TenantId) -> Option<(i64, i64)>;

    /// Reads a field that every row has.
    fn load_ints(&self, field: IntField) -> FaultResult<Vec<i64>>;

    /// Reads a number field.
    fn load_numbers(&self, field: NumberField) -> FaultResult<Vec<f64>>;

    /// Returns whether a text field is kept as a column, so that a filter asks once for each different text.
    fn keeps_dict(&self, field: TextField) -> bool;

    /// Returns the live row of an id of a tenant, whose hash is given too.
    fn find_id(
        &self,
        cache: &Cache,
        hasher: IdHasher,
        tenant: TenantId,
        id: &[u8],
        hash: u64,
    ) -> FaultResult<Option<u32>>;

    /// Reads the column of a text field if it is kept as one.
    fn load_dict(&self, field: TextField) -> FaultResult<Option<DictColumn>>;

    /// Reads the column of a path into tags, payload or metadata if it is kept as one.
    fn load_dynamic(&self, path: &FieldPath) -> FaultResult<Option<Dynamic>>;

    /// Starts to read the texts of a field row by row.
    fn texts<'a>(&'a self, field: TextField, cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>>;

    /// Starts to read ids row by row.
    fn ids<'a>(&'a self, cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>>;

    /// Starts to read whole rows, many of them: their columns are held meanwhile.
    fn records<'a>(&'a self, cache: &'a Cache) -> FaultResult<Box<dyn Records + 'a>>;

    /// Reads a few whole rows one column after the other, so that no more than one is held beside the cache. Hands over each with its
    /// place among `rows`.
    fn gather(
        &self,
        rows: &[usize],
        cache: &Cache,
        visit: &mut dyn FnMut(usize, &Record<'_>) -> FaultResult<()>,
    ) -> FaultResult<()>;
}

/// Reads texts row by row.
pub(crate) trait Texts {
    /// Returns the text of a row.
    fn get(&mut self, row: usize) -> FaultResult<Option<&[u8]>>;
}

/// Reads whole rows.
pub(crate) trait Records {
    /// Hands the row to `visit`.
    fn visit(&mut self, row: usize, visit: &mut dyn FnMut(&Record<'_>) -> FaultResult<()>)
    -> FaultResult<()>;
}

/// The column of a path into an application's own data.
#[derive(Debug, Clone)]
pub(crate) enum Dynamic {
    Dict(DictColumn),
    Numbers(Vec<f64>),
}

impl Dynamic {
    /// Decides the form of a built column.
    pub(crate) fn from_builder(builder: DictBuilder) -> Self {
        if builder.distinct() > MAX_NUMBER_DICTIONARY && builder.is_numeric() {
            Self::Numbers(builder.to_numbers())
        } else {
            Self::Dict(builder.finish())
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Dict(column) => column.heap_bytes(),
            Self::Numbers(values) => values.capacity() * 8,
        }
    }
}

/// Rows, the cache their columns live in, and the question they are read for.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) rows: Arc<dyn Rows>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) question: Arc<Question>,
}

/// Rows between two looks at whether the question still stands, while a column is built from texts.
const ROWS_AT_ONCE: usize = 16_384;

impl Part {
    /// Returns a field that every row has.
    pub(crate) fn ints(&self, field: IntField) -> FaultResult<Arc<Vec<i64>>> {
        self.cache.get(self.rows.key(), CacheKey::Ints(field), || {
            let values = self.rows.load_ints(field)?;
            let bytes = values.capacity() * 8;
            Ok((values, bytes))
        })
    }

    /// Returns the values of a path through a dictionary.
    pub(crate) fn dict(&self, path: &FieldPath) -> FaultResult<Arc<DictColumn>> {
        self.cache.get(self.rows.key(), CacheKey::Dict(path.clone()), || {
            let column = self.build_dict(path)?;
            let bytes = column.heap_bytes();
            Ok((column, bytes))
        })
    }

    /// Returns the numbers at a path, NaN where there is none.
    pub(crate) fn numbers(&self, path: &FieldPath) -> FaultResult<Arc<Vec<f64>>> {
        match NumberField::of(path) {
            Some(field) if field != NumberField::CacheHit => return self.stored(field),
            _ => {}
        }
        self.cache.get(self.rows.key(), CacheKey::Numbers(path.clone()), || {
            let values = if path.segments().is_empty() {
                vec![f64::NAN; self.rows.rows()]
            } else {
                match &*self.dynamic(path)? {
                    Dynamic::Numbers(values) => values.clone(),
                    Dynamic::Dict(column) => {
                        let codes = 0..column.dictionary.codes();
                        let number =
                            |code| column.dictionary.value(code as u32).as_number().unwrap_or(f64::NAN);
                        let numbers: Vec<f64> = codes.map(number).collect();
                        (0..column.codes.len()).map(|row| numbers[column.codes.get(row) as usize]).collect()
                    }
                }
            };
            let bytes = values.capacity() * 8;
            Ok((values, bytes))
        })
    }

    /// Returns a number field as it is stored.
    fn stored(&self, field: NumberField) -> FaultResult<Arc<Vec<f64>>> {
        self.cache.get(self.rows.key(), CacheKey::Stored(field), || {
            let values = self.rows.load_numbers(field)?;
            let bytes = values.capacity() * 8;
            Ok((values, bytes))
        })
    }

    /// Returns the column of a path into tags, payload or metadata.
    pub(crate) fn dynamic(&self, path: &FieldPath) -> FaultResult<Arc<Dynamic>> {
        self.cache.get(self.rows.key(), CacheKey::Dynamic(path.clone()), || {
            let column = match self.rows.load_dynamic(path)? {
                Some(column) => column,
                None => Dynamic::from_builder(self.extract(path)?),
            };
            let bytes = column.heap_bytes();
            Ok((column, bytes))
        })
    }

    /// Returns 1 for each row that the measure `error_rate` counts.
    pub(crate) fn errors(&self) -> FaultResult<Arc<Vec<u8>>> {
        self.cache.get(self.rows.key(), CacheKey::Errors, || {
            let severities = self.ints(IntField::Severity)?;
            let statuses = self.numbers(&FieldPath::StatusCode)?;
            let severe = i64::from(Severity::Error as u8);
            let rows = severities.iter().zip(statuses.iter());
            let flags: Vec<u8> =
                rows.map(|(severity, status)| u8::from(*severity >= severe || *status >= 500.0)).collect();
            let bytes = flags.capacity();
            Ok((flags, bytes))
        })
    }

    /// Starts to read the texts of a field row by row.
    pub(crate) fn texts(&self, field: TextField) -> FaultResult<Box<dyn Texts + '_>> {
        self.rows.texts(field, &self.cache)
    }

    fn build_dict(&self, path: &FieldPath) -> FaultResult<DictColumn> {
        let rows = self.rows.rows();
        let mut builder = DictBuilder::with_rows(rows);
        if let Some(field) = TextField::of(path) {
            if let Some(column) = self.rows.load_dict(field)? {
                return Ok(column);
            }
            let mut texts = self.texts(field)?;
            for row in 0..rows {
                self.proceed_at(row)?;
                builder.push_text(texts.get(row)?);
            }
        } else if let Some(field) = NumberField::of(path) {
            let is_flag = field == NumberField::CacheHit;
            for number in self.rows.load_numbers(field)? {
                builder.push(&match number {
                    number if number.is_nan() => ValueRef::Missing,
                    number if is_flag => ValueRef::Bool(number != 0.0),
                    number => ValueRef::Number(number),
                });
            }
        } else {
            match path {
                FieldPath::Severity => {
                    for ordinal in self.ints(IntField::Severity)?.iter() {
                        let severity = u8::try_from(*ordinal).ok().and_then(Severity::from_ordinal);
                        builder.push(&severity.map_or(ValueRef::Missing, ValueRef::Severity));
                    }
                }
                FieldPath::Id => {
                    let mut ids = self.rows.ids(&self.cache)?;
                    for row in 0..rows {
                        builder.push_text(ids.get(row)?);
                    }
                }
                _ => match &*self.dynamic(path)? {
                    Dynamic::Dict(column) => return Ok(column.clone()),
                    Dynamic::Numbers(values) => {
                        for number in values {
                            builder.push(&if number.is_nan() {
                                ValueRef::Missing
                            } else {
                                ValueRef::Number(*number)
                            });
                        }
                    }
                },
            }
        }
        Ok(builder.finish())
    }

    /// Reads a path out of the stored texts.
    fn extract(&self, path: &FieldPath) -> FaultResult<DictBuilder> {
        let rows = self.rows.rows();
        let mut builder = DictBuilder::with_rows(rows);
        let field = dynamic_field(path);
        let mut texts = self.texts(field)?;
        for row in 0..rows {
            self.proceed_at(row)?;
            builder.push(&dynamic_value(path, texts.get(row)?));
        }
        Ok(builder)
    }

    /// Asks now and then whether the question still stands.
    fn proceed_at(&self, row: usize) -> FaultResult<()> {
        if row.is_multiple_of(ROWS_AT_ONCE) { self.question.next_block() } else { Ok(()) }
    }
}

/// Returns the field that holds the values of a path into an application's own data.
pub(crate) fn dynamic_field(path: &FieldPath) -> TextField {
    match path {
        FieldPath::Tag(_) => TextField::Tags,
        FieldPath::Metadata(_) => TextField::Metadata,
        _ => TextField::Payload,
    }
}

/// Returns the value at a path in the stored text of its field.
pub(crate) fn dynamic_value<'a>(path: &FieldPath, stored: Option<&'a [u8]>) -> ValueRef<'a> {
    let Some(stored) = stored else { return ValueRef::Missing };
    if let FieldPath::Tag(name) = path {
        let found = tag_pairs(stored).find(|(key, _)| *key == name.as_bytes());
        let text = found.and_then(|(_, value)| std::str::from_utf8(value).ok());
        return text.map_or(ValueRef::Missing, |text| ValueRef::Text(text.into()));
    }
    let Ok(text) = std::str::from_utf8(stored) else { return ValueRef::Missing };
    JsonRef::of_normal_form(text).find(path.segments()).map_or(ValueRef::Missing, JsonRef::value)
}
