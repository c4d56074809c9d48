//! The bytes of a segment file: header, blocks, footer, trailer.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use pulsestream_core::event::FieldPath;
use pulsestream_core::id::TenantId;
use pulsestream_core::text::Text;

use super::ids::IdOrder;
use crate::bytes::{Reader, put_slice, put_varint, u32_at, unzigzag, zigzag};
use crate::error::{Fault, FaultResult};
use crate::field::{IntField, NumberField, TextField};

pub(super) const MAGIC: &[u8; 8] = b"PSSEG\r\n\0";
/// Version of the segment format.
pub(super) const VERSION: u32 = 2;
/// Since this version the footer says which ids a tenant has.
const ID_RANGES: u32 = 2;
pub(super) const HEADER_BYTES: u64 = 16;
/// Footer bytes u32, CRC-32C of the footer u32, version u32, flags u32, magic.
pub(super) const TRAILER_BYTES: u64 = 24;

/// One block: where it lies, how long it is in the file and unpacked, its checksum, and its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) checksum: u32,
    pub(crate) first_row: u32,
}

/// Which column a block belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ColumnName {
    Ints(IntField),
    Numbers(NumberField),
    Text(TextField),
    Dynamic(FieldPath),
    Ids,
    IdFilter,
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ints(IntField::Timestamp) => f.write_str("timestamp"),
            Self::Ints(IntField::ReceivedAt) => f.write_str("received_at"),
            Self::Ints(IntField::Position) => f.write_str("position"),
            Self::Ints(IntField::Severity) => f.write_str("severity"),
            Self::Numbers(NumberField::ResponseTimeMs) => f.write_str("metrics.response_time_ms"),
            Self::Numbers(NumberField::StatusCode) => f.write_str("metrics.status_code"),
            Self::Numbers(NumberField::RequestSizeBytes) => f.write_str("metrics.request_size_bytes"),
            Self::Numbers(NumberField::ResponseSizeBytes) => f.write_str("metrics.response_size_bytes"),
            Self::Numbers(NumberField::CacheHit) => f.write_str("metrics.cache_hit"),
            Self::Text(TextField::Tags) => f.write_str("context.tags"),
            Self::Text(TextField::Payload) => f.write_str("payload"),
            Self::Text(TextField::Metadata) => f.write_str("metadata"),
            Self::Text(field) => match field.path() {
                Some(path) => write!(f, "{path}"),
                None => write!(f, "{field:?}"),
            },
            Self::Dynamic(path) => write!(f, "{path}"),
            Self::Ids => f.write_str("id"),
            Self::IdFilter => f.write_str("id fingerprints"),
        }
    }
}

/// How the blocks of a column are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    /// One block of packed integers.
    Ints = 0,
    /// One block of packed numbers.
    Numbers = 1,
    /// A block with the dictionary, a block with the codes.
    Dict = 2,
    /// Blocks of texts, a run of rows each.
    Texts = 3,
    /// One block of ids that are UUIDs.
    Uuids = 4,
    /// One block of fingerprints.
    Fingerprints = 5,
}

/// A column of the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnMeta {
    pub(crate) name: ColumnName,
    pub(crate) encoding: Encoding,
    pub(crate) blocks: Vec<Block>,
}

/// The rows of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRange {
    pub(crate) tenant: TenantId,
    pub(crate) rows: Range<u32>,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
}

/// What is known of a segment without reading its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) rows: u32,
    /// The positions it covers, end excluded; some may have no row any more.
    pub(crate) positions: Range<u64>,
    pub(crate) max_received: i64,
    pub(crate) tenants: Vec<TenantRange>,
    pub(crate) columns: Vec<ColumnMeta>,
    /// Between which orders the ids of each tenant are; empty in a file of the first version.
    pub(crate) id_ranges: Vec<RangeInclusive<IdOrder>>,
}

impl Footer {
    /// Returns the rows of a tenant.
    pub(crate) fn tenant(&self, tenant: TenantId) -> Option<&TenantRange> {
        let index = self.tenants.binary_search_by_key(&tenant, |range| range.tenant).ok()?;
        self.tenants.get(index)
    }

    /// Returns between which orders the ids of a tenant are, `None` if it has no rows.
    pub(crate) fn ids(&self, tenant: TenantId) -> Option<RangeInclusive<IdOrder>> {
        let index = self.tenants.binary_search_by_key(&tenant, |range| range.tenant).ok()?;
        Some(self.id_ranges.get(index).cloned().unwrap_or(IdOrder::ALL))
    }

    /// Returns a column.
    pub(crate) fn column(&self, name: &ColumnName) -> Option<&ColumnMeta> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Writes footer and trailer.
    #[allow(clippy::cast_possible_truncation, reason = "footers are far below 4 GiB")]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::from(self.rows));
        put_varint(&mut bytes, self.positions.start);
        put_varint(&mut bytes, self.positions.end);
        put_varint(&mut bytes, zigzag(self.max_received));
        put_varint(&mut bytes, self.tenants.len() as u64);
        for range in &self.tenants {
            bytes.extend_from_slice(&range.tenant.to_bytes());
            put_varint(&mut bytes, u64::from(range.rows.end));
            put_varint(&mut bytes, zigzag(range.min_time));
            put_varint(&mut bytes, zigzag(range.max_time));
        }
        put_varint(&mut bytes, self.columns.len() as u64);
        for column in &self.columns {
            put_name(&mut bytes, &column.name);
            bytes.push(column.encoding as u8);
            put_varint(&mut bytes, column.blocks.len() as u64);
            for block in &column.blocks {
                put_varint(&mut bytes, block.offset);
                put_varint(&mut bytes, u64::from(block.bytes));
                put_varint(&mut bytes, u64::from(block.raw_bytes));
                bytes.extend_from_slice(&block.checksum.to_le_bytes());
                put_varint(&mut bytes, u64::from(block.first_row));
            }
        }
        for range in &self.id_ranges {
            bytes.extend_from_slice(&range.start().to_bytes());
            bytes.extend_from_slice(&range.end().to_bytes());
        }
        let (length, checksum) = (bytes.len() as u32, crc32c::crc32c(&bytes));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(MAGIC);
        bytes
    }

    /// Reads what [`Self::to_bytes`] of a version wrote, trailer excluded.
    pub(super) fn read(bytes: &[u8], version: u32) -> Option<Self> {
        let mut reader = Reader(bytes);
        let reader = &mut reader;
        let rows = row(reader)?;
        let positions = reader.varint()?..reader.varint()?;
        let max_received = unzigzag(reader.varint()?);
        let mut first = 0;
        let mut tenants = Vec::new();
        for _ in 0..reader.length()? {
            let tenant = TenantId::from_bytes(*reader.take(16)?.first_chunk()?);
            let end = row(reader)?;
            let (min_time, max_time) = (unzigzag(reader.varint()?), unzigzag(reader.varint()?));
            if end < first || end > rows {
                return None;
            }
            tenants.push(TenantRange { tenant, rows: first..end, min_time, max_time });
            first = end;
        }
        let mut columns = Vec::new();
        for _ in 0..reader.length()? {
            let name = read_name(reader)?;
            let encoding = read_encoding(reader.u8()?)?;
            let mut blocks = Vec::new();
            for _ in 0..reader.length()? {
                blocks.push(Block {
                    offset: reader.varint()?,
                    bytes: row(reader)?,
                    raw_bytes: row(reader)?,
                    checksum: reader.u32()?,
                    first_row: row(reader)?,
                });
            }
            columns.push(ColumnMeta { name, encoding, blocks });
        }
        let mut id_ranges = Vec::new();
        if version >= ID_RANGES {
            for _ in &tenants {
                let mut order =
                    || reader.take(IdOrder::BYTES)?.first_chunk().map(|bytes| IdOrder::from_bytes(*bytes));
                id_ranges.push(order()?..=order()?);
            }
        }
        reader.0.is_empty().then_some(Self { rows, positions, max_received, tenants, columns, id_ranges })
    }
}

/// Checks a trailer and returns the length, the checksum and the version of the footer.
pub(super) fn read_trailer(
    bytes: &[u8; TRAILER_BYTES as usize],
    file: &str,
    offset: u64,
) -> FaultResult<(u32, u32, u32)> {
    if &bytes[16..] != MAGIC {
        return Err(Fault::corrupt(file, offset, "the end of the segment"));
    }
    let (version, flags) = (u32_at(bytes, 8), u32_at(bytes, 12));
    if version > VERSION || flags != 0 {
        return Err(Fault::Newer { file: file.to_owned(), version });
    }
    Ok((u32_at(bytes, 0), u32_at(bytes, 4), version))
}

fn row(reader: &mut Reader<'_>) -> Option<u32> {
    u32::try_from(reader.varint()?).ok()
}

fn put_name(bytes: &mut Vec<u8>, name: &ColumnName) {
    match name {
        ColumnName::Ints(field) => bytes.extend_from_slice(&[0, *field as u8]),
        ColumnName::Numbers(field) => bytes.extend_from_slice(&[1, *field as u8]),
        ColumnName::Text(field) => bytes.extend_from_slice(&[2, *field as u8]),
        ColumnName::Dynamic(path) => {
            let field = crate::part::dynamic_field(path);
            bytes.extend_from_slice(&[3, field as u8]);
            put_varint(bytes, path.segments().len() as u64);
            for segment in path.segments() {
                put_slice(bytes, segment.as_bytes());
            }
        }
        ColumnName::Ids => bytes.extend_from_slice(&[4, 0]),
        ColumnName::IdFilter => bytes.extend_from_slice(&[5, 0]),
    }
}

fn read_name(reader: &mut Reader<'_>) -> Option<ColumnName> {
    let (family, field) = (reader.u8()?, reader.u8()?);
    Some(match family {
        0 => ColumnName::Ints(IntField::ALL.into_iter().find(|known| *known as u8 == field)?),
        1 => ColumnName::Numbers(NumberField::ALL.into_iter().find(|known| *known as u8 == field)?),
        2 => ColumnName::Text(text_field(field)?),
        3 => {
            let mut segments = Vec::new();
            for _ in 0..reader.length()? {
                segments.push(Text::from(reader.text()?));
            }
            ColumnName::Dynamic(match text_field(field)? {
                TextField::Tags => FieldPath::Tag(segments.pop()?),
                TextField::Metadata => FieldPath::Metadata(segments),
                _ => FieldPath::Payload(segments),
            })
        }
        4 => ColumnName::Ids,
        5 => ColumnName::IdFilter,
        _ => return None,
    })
}

fn text_field(number: u8) -> Option<TextField> {
    TextField::ALL.into_iter().find(|known| *known as u8 == number)
}

fn read_encoding(number: u8) -> Option<Encoding> {
    [
        Encoding::Ints,
        Encoding::Numbers,
        Encoding::Dict,
        Encoding::Texts,
        Encoding::Uuids,
        Encoding::Fingerprints,
    ]
    .into_iter()
    .find(|known| *known as u8 == number)
}
