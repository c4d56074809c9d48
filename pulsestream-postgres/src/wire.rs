//! Values in the binary format of the PostgreSQL protocol.
//!
//! sqlx is built without its `uuid`, `json` and `time` features (see `Cargo.toml`), and arrays of thirty columns are encoded
//! once instead of through one boxed value each; so parameters are encoded and rows are decoded here.

use std::sync::Arc;

use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo};
use sqlx::{Encode, Postgres, Row, Type, ValueRef};

/// A type of `pg_type` that is fixed in every PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    scalar: u32,
    array: u32,
}

pub(crate) const BOOL: PgType = PgType { scalar: 16, array: 1000 };
pub(crate) const BYTES: PgType = PgType { scalar: 17, array: 1001 };
pub(crate) const INT8: PgType = PgType { scalar: 20, array: 1016 };
pub(crate) const INT2: PgType = PgType { scalar: 21, array: 1005 };
pub(crate) const INT4: PgType = PgType { scalar: 23, array: 1007 };
pub(crate) const TEXT: PgType = PgType { scalar: 25, array: 1009 };
pub(crate) const FLOAT8: PgType = PgType { scalar: 701, array: 1022 };
pub(crate) const TIMESTAMPTZ: PgType = PgType { scalar: 1184, array: 1185 };
pub(crate) const INTERVAL: PgType = PgType { scalar: 1186, array: 1187 };
pub(crate) const UUID: PgType = PgType { scalar: 2950, array: 2951 };
pub(crate) const JSONB: PgType = PgType { scalar: 3802, array: 3807 };

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The earliest `timestamptz`, 4713 BC, in its own count.
const PG_MIN_MICROS: i64 = -211_813_488_000_000_000;

/// The version byte of a `jsonb` on the wire.
const JSONB_VERSION: u8 = 1;

/// One bind parameter, encoded.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    oid: u32,
    /// Shared, because a statement that is done again takes another clone, and the arrays of a batch are large.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Param {
    fn new(kind: PgType, bytes: Vec<u8>) -> Self {
        Self::nullable(kind, Some(bytes))
    }

    fn nullable(kind: PgType, bytes: Option<Vec<u8>>) -> Self {
        Self { oid: kind.scalar, bytes: bytes.map(Arc::new) }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::new(TEXT, text.as_bytes().to_vec())
    }

    pub(crate) fn uuid(bits: u128) -> Self {
        Self::new(UUID, bits.to_be_bytes().to_vec())
    }

    pub(crate) fn bool(value: bool) -> Self {
        Self::new(BOOL, vec![u8::from(value)])
    }

    pub(crate) fn int2(value: i16) -> Self {
        Self::new(INT2, value.to_be_bytes().to_vec())
    }

    pub(crate) fn int4(value: i32) -> Self {
        Self::new(INT4, value.to_be_bytes().to_vec())
    }

    pub(crate) fn int8(value: i64) -> Self {
        Self::new(INT8, value.to_be_bytes().to_vec())
    }

    pub(crate) fn float8(value: f64) -> Self {
        Self::new(FLOAT8, value.to_be_bytes().to_vec())
    }

    pub(crate) fn timestamp(at: Timestamp) -> Self {
        Self::new(TIMESTAMPTZ, pg_micros(at).to_be_bytes().to_vec())
    }

    /// A point in time that may lie before the first that core has; `None` when PostgreSQL has none either.
    pub(crate) fn timestamp_micros(micros: i64) -> Option<Self> {
        let micros = micros.checked_sub(EPOCH_MICROS).filter(|micros| *micros >= PG_MIN_MICROS)?;
        Some(Self::new(TIMESTAMPTZ, micros.to_be_bytes().to_vec()))
    }

    /// An interval of microseconds, without days and months.
    pub(crate) fn interval_micros(micros: i64) -> Self {
        let mut bytes = micros.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 8]);
        Self::new(INTERVAL, bytes)
    }

    pub(crate) fn optional_text(text: Option<&str>) -> Self {
        Self::nullable(TEXT, text.map(|text| text.as_bytes().to_vec()))
    }

    pub(crate) fn optional_timestamp(at: Option<Timestamp>) -> Self {
        Self::nullable(TIMESTAMPTZ, at.map(|at| pg_micros(at).to_be_bytes().to_vec()))
    }

    pub(crate) fn jsonb(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.push(JSONB_VERSION);
        bytes.extend_from_slice(text.as_bytes());
        Self::new(JSONB, bytes)
    }

    pub(crate) fn uuids(ids: impl IntoIterator<Item = u128>) -> Self {
        let mut array = ArrayParam::new(UUID);
        ids.into_iter().for_each(|bits| array.raw(Some(&bits.to_be_bytes())));
        array.into()
    }

    pub(crate) fn optional_uuid(bits: Option<u128>) -> Self {
        Self::nullable(UUID, bits.map(|bits| bits.to_be_bytes().to_vec()))
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::new(BYTES, bytes.to_vec())
    }

    pub(crate) fn optional_bool(value: Option<bool>) -> Self {
        Self::nullable(BOOL, value.map(|value| vec![u8::from(value)]))
    }

    pub(crate) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut array = ArrayParam::new(TEXT);
        texts.into_iter().for_each(|text| array.text(Some(text)));
        array.into()
    }

    pub(crate) fn int2s(numbers: impl IntoIterator<Item = i16>) -> Self {
        let mut array = ArrayParam::new(INT2);
        numbers.into_iter().for_each(|number| array.raw(Some(&number.to_be_bytes())));
        array.into()
    }

    pub(crate) fn int8s(numbers: impl IntoIterator<Item = i64>) -> Self {
        let mut array = ArrayParam::new(INT8);
        numbers.into_iter().for_each(|number| array.raw(Some(&number.to_be_bytes())));
        array.into()
    }

    pub(crate) fn bools(values: impl IntoIterator<Item = bool>) -> Self {
        let mut array = ArrayParam::new(BOOL);
        values.into_iter().for_each(|value| array.raw(Some(&[u8::from(value)])));
        array.into()
    }

    pub(crate) fn float8s(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut array = ArrayParam::new(FLOAT8);
        numbers.into_iter().for_each(|number| array.raw(Some(&number.to_be_bytes())));
        array.into()
    }

    pub(crate) fn timestamps(instants: impl IntoIterator<Item = Timestamp>) -> Self {
        let mut array = ArrayParam::new(TIMESTAMPTZ);
        instants.into_iter().for_each(|at| array.timestamp(at));
        array.into()
    }
}

impl Type<Postgres> for Param {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(TEXT.scalar))
    }
}

impl Encode<'_, Postgres> for Param {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = &self.bytes else { return Ok(IsNull::Yes) };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oid)))
    }

    fn size_hint(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len())
    }
}

/// A one-dimensional array under construction.
#[derive(Debug)]
pub(crate) struct ArrayParam {
    oid: u32,
    bytes: Vec<u8>,
    length: i32,
    has_null: bool,
}

/// Dimensions, flags, element type, length, lower bound; four bytes each.
const ARRAY_HEADER_BYTES: usize = 20;

impl ArrayParam {
    pub(crate) fn new(kind: PgType) -> Self {
        let mut bytes = vec![0; ARRAY_HEADER_BYTES];
        bytes[8..12].copy_from_slice(&kind.scalar.to_be_bytes());
        Self { oid: kind.array, bytes, length: 0, has_null: false }
    }

    /// Adds an element that is encoded already.
    pub(crate) fn raw(&mut self, element: Option<&[u8]>) {
        self.length += 1;
        match element {
            None => {
                self.has_null = true;
                self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            Some(element) => {
                self.bytes.extend_from_slice(&length_prefix(element.len()));
                self.bytes.extend_from_slice(element);
            }
        }
    }

    pub(crate) fn text(&mut self, text: Option<&str>) {
        self.raw(text.map(str::as_bytes));
    }

    pub(crate) fn timestamp(&mut self, at: Timestamp) {
        self.raw(Some(&pg_micros(at).to_be_bytes()));
    }

    pub(crate) fn optional_timestamp(&mut self, at: Option<Timestamp>) {
        match at {
            Some(at) => self.timestamp(at),
            None => self.raw(None),
        }
    }

    pub(crate) fn jsonb(&mut self, text: Option<&str>) {
        let Some(text) = text else { return self.raw(None) };
        self.length += 1;
        self.bytes.extend_from_slice(&length_prefix(text.len() + 1));
        self.bytes.push(JSONB_VERSION);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

impl ArrayParam {
    /// Returns the only element as a parameter of its own.
    pub(crate) fn into_only(self) -> Param {
        let oid = u32::from_be_bytes(self.bytes[8..12].try_into().unwrap_or_default());
        let element = (!self.has_null).then(|| self.bytes[ARRAY_HEADER_BYTES + 4..].to_vec());
        Param { oid, bytes: element.map(Arc::new) }
    }
}

impl From<ArrayParam> for Param {
    fn from(mut array: ArrayParam) -> Self {
        let dimensions: i32 = if array.length == 0 { 0 } else { 1 };
        array.bytes[..4].copy_from_slice(&dimensions.to_be_bytes());
        array.bytes[4..8].copy_from_slice(&i32::from(array.has_null).to_be_bytes());
        array.bytes[12..16].copy_from_slice(&array.length.to_be_bytes());
        array.bytes[16..20].copy_from_slice(&1_i32.to_be_bytes());
        if dimensions == 0 {
            array.bytes.truncate(12);
        }
        Self { oid: array.oid, bytes: Some(Arc::new(array.bytes)) }
    }
}

/// Lengths beyond 2 GiB are refused by sqlx when it adds up the message.
fn length_prefix(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

fn pg_micros(at: Timestamp) -> i64 {
    at.as_micros() - EPOCH_MICROS
}

/// Reads the columns of a row from left to right.
#[derive(Debug)]
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

/// Why a value could not be read: the schema and this program disagree.
#[derive(Debug, thiserror::Error)]
#[error("column {column} does not hold {expected}")]
pub(crate) struct DecodeError {
    column: usize,
    expected: &'static str,
}

impl From<DecodeError> for sqlx::Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(Box::new(error))
    }
}

impl<'r> Columns<'r> {
    pub(crate) fn new(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// Returns the bytes of the next column, `None` for null.
    fn raw(&mut self) -> Result<Option<&'r [u8]>, sqlx::Error> {
        let value = self.row.try_get_raw(self.next)?;
        self.next += 1;
        if value.is_null() {
            return Ok(None);
        }
        value.as_bytes().map(Some).map_err(sqlx::Error::Decode)
    }

    fn wrong(&self, expected: &'static str) -> sqlx::Error {
        DecodeError { column: self.next - 1, expected }.into()
    }

    fn required<T>(&self, value: Option<T>, expected: &'static str) -> Result<T, sqlx::Error> {
        value.ok_or_else(|| self.wrong(expected))
    }

    fn fixed<const N: usize>(&mut self, expected: &'static str) -> Result<Option<[u8; N]>, sqlx::Error> {
        match self.raw()? {
            None => Ok(None),
            Some(bytes) => bytes.try_into().map(Some).map_err(|_| self.wrong(expected)),
        }
    }

    pub(crate) fn optional_str(&mut self) -> Result<Option<&'r str>, sqlx::Error> {
        match self.raw()? {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| self.wrong("UTF-8 text")),
        }
    }

    pub(crate) fn str(&mut self) -> Result<&'r str, sqlx::Error> {
        let text = self.optional_str()?;
        self.required(text, "text")
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<Text>, sqlx::Error> {
        Ok(self.optional_str()?.map(Text::from))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'r [u8], sqlx::Error> {
        let bytes = self.raw()?;
        self.required(bytes, "bytes")
    }

    pub(crate) fn optional_bool(&mut self) -> Result<Option<bool>, sqlx::Error> {
        Ok(self.fixed::<1>("a boolean")?.map(|[byte]| byte != 0))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, sqlx::Error> {
        let value = self.optional_bool()?;
        self.required(value, "a boolean")
    }

    pub(crate) fn optional_int2(&mut self) -> Result<Option<i16>, sqlx::Error> {
        Ok(self.fixed("a smallint")?.map(i16::from_be_bytes))
    }

    pub(crate) fn int2(&mut self) -> Result<i16, sqlx::Error> {
        let value = self.optional_int2()?;
        self.required(value, "a smallint")
    }

    pub(crate) fn optional_int4(&mut self) -> Result<Option<i32>, sqlx::Error> {
        Ok(self.fixed("an integer")?.map(i32::from_be_bytes))
    }

    pub(crate) fn int4(&mut self) -> Result<i32, sqlx::Error> {
        let value = self.optional_int4()?;
        self.required(value, "an integer")
    }

    pub(crate) fn optional_int8(&mut self) -> Result<Option<i64>, sqlx::Error> {
        Ok(self.fixed("a bigint")?.map(i64::from_be_bytes))
    }

    pub(crate) fn int8(&mut self) -> Result<i64, sqlx::Error> {
        let value = self.optional_int8()?;
        self.required(value, "a bigint")
    }

    pub(crate) fn optional_float8(&mut self) -> Result<Option<f64>, sqlx::Error> {
        Ok(self.fixed("a double")?.map(f64::from_be_bytes))
    }

    pub(crate) fn optional_timestamp(&mut self) -> Result<Option<Timestamp>, sqlx::Error> {
        let micros = self.fixed("a timestamptz")?.map(i64::from_be_bytes);
        Ok(micros.map(|micros| Timestamp::from_micros(micros.saturating_add(EPOCH_MICROS))))
    }

    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, sqlx::Error> {
        let at = self.optional_timestamp()?;
        self.required(at, "a timestamptz")
    }

    pub(crate) fn optional_uuid(&mut self) -> Result<Option<u128>, sqlx::Error> {
        Ok(self.fixed("a uuid")?.map(u128::from_be_bytes))
    }

    pub(crate) fn uuid(&mut self) -> Result<u128, sqlx::Error> {
        let bits = self.optional_uuid()?;
        self.required(bits, "a uuid")
    }

    pub(crate) fn jsonb(&mut self) -> Result<&'r str, sqlx::Error> {
        let text = self.optional_jsonb()?;
        self.required(text, "jsonb")
    }

    pub(crate) fn optional_jsonb(&mut self) -> Result<Option<&'r str>, sqlx::Error> {
        match self.raw()? {
            None => Ok(None),
            Some([JSONB_VERSION, text @ ..]) => {
                std::str::from_utf8(text).map(Some).map_err(|_| self.wrong("JSON"))
            }
            Some(_) => Err(self.wrong("jsonb of a known version")),
        }
    }
}
