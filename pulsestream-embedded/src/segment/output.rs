//! The file of a segment while it is written, block by block.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::format::{
    Block, ColumnMeta, ColumnName, Encoding, Footer, HEADER_BYTES, MAGIC, TenantRange, VERSION,
};
use super::ids::{IdFilter, IdOrder, Ids};
use super::writer::SegmentOptions;
use crate::bytes::{put_slice, put_varint};
use crate::column::{Codes, DictColumn};
use crate::error::{Fault, FaultResult};
use crate::field::{IntField, NumberField};
use crate::pack::{pack_ints, pack_numbers};
use crate::part::Dynamic;
use crate::storage::{File, OpenMode, Storage};

/// Blocks are written together when they are so large.
const WRITE_BYTES: usize = 256 << 10;

/// The file, where its next block goes, and the columns that are in it.
pub(super) struct Output {
    file: Arc<dyn File>,
    name: String,
    /// Where the next byte goes.
    offset: u64,
    /// What goes before it and is not written yet.
    pending: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
    columns: Vec<ColumnMeta>,
    id_ranges: Vec<RangeInclusive<IdOrder>>,
}

impl Output {
    /// Creates the file.
    pub(super) fn create(
        storage: &Arc<dyn Storage>,
        name: String,
        options: SegmentOptions,
    ) -> FaultResult<Self> {
        let file = storage.open(&name, OpenMode::Create);
        let file = file.map_err(|source| Fault::io("create", &name, source))?;
        let mut pending = MAGIC.to_vec();
        pending.extend_from_slice(&VERSION.to_le_bytes());
        pending.resize(HEADER_BYTES as usize, 0);
        let compressor = zstd::bulk::Compressor::new(options.compression_level);
        let compressor = compressor.map_err(|source| Fault::io("compress", &name, source))?;
        let (packed, columns, id_ranges) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { file, name, offset: HEADER_BYTES, pending, compressor, packed, columns, id_ranges })
    }

    /// Adds a column whose blocks are written.
    pub(super) fn add(&mut self, name: ColumnName, encoding: Encoding, blocks: Vec<Block>) {
        self.columns.push(ColumnMeta { name, encoding, blocks });
    }

    /// Writes a block, compressed if that makes it smaller: equal lengths say that it is not.
    #[allow(clippy::cast_possible_truncation, reason = "a block is below 4 GiB")]
    pub(super) fn block(&mut self, raw: &[u8], first_row: u32) -> FaultResult<Block> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let packed = self.compressor.compress_to_buffer(raw, &mut self.packed).unwrap_or(raw.len());
        let packed_whole = std::mem::take(&mut self.packed);
        let bytes = if packed < raw.len() { packed_whole.as_slice() } else { raw };
        let block = Block {
            offset: self.offset,
            bytes: bytes.len() as u32,
            raw_bytes: raw.len() as u32,
            checksum: crc32c::crc32c(bytes),
            first_row,
        };
        self.write(bytes)?;
        self.packed = packed_whole;
        Ok(block)
    }

    /// Writes the dictionary (number of entries, then kind and bytes of each) and the codes (width, then one plane a byte).
    pub(super) fn dict(&mut self, column: &DictColumn) -> FaultResult<Vec<Block>> {
        let dictionary = &column.dictionary;
        let mut raw = Vec::new();
        put_varint(&mut raw, dictionary.ends.len() as u64);
        let mut start = 0;
        for (kind, end) in dictionary.kinds.iter().zip(&dictionary.ends) {
            raw.push(*kind);
            put_slice(&mut raw, &dictionary.bytes[start..*end as usize]);
            start = *end as usize;
        }
        let entries = self.block(&raw, 0)?;
        let codes = self.block(&code_bytes(&column.codes), 0)?;
        Ok(vec![entries, codes])
    }

    /// Adds the column of a path into an application's own data.
    pub(super) fn add_dynamic(&mut self, name: ColumnName, values: &Dynamic) -> FaultResult<()> {
        let (encoding, blocks) = match values {
            Dynamic::Dict(column) => (Encoding::Dict, self.dict(column)?),
            Dynamic::Numbers(values) => (Encoding::Numbers, vec![self.numbers(values)?]),
        };
        self.add(name, encoding, blocks);
        Ok(())
    }

    /// Adds a number field, unless no row has one.
    pub(super) fn add_numbers(&mut self, field: NumberField, values: &[f64]) -> FaultResult<()> {
        if values.iter().any(|value| !value.is_nan()) {
            let block = self.numbers(values)?;
            self.add(ColumnName::Numbers(field), Encoding::Numbers, vec![block]);
        }
        Ok(())
    }

    /// Adds a field that every row has.
    pub(super) fn add_ints(&mut self, field: IntField, values: &[i64]) -> FaultResult<()> {
        let mut raw = Vec::new();
        pack_ints(values, &mut raw);
        let block = self.block(&raw, 0)?;
        self.add(ColumnName::Ints(field), Encoding::Ints, vec![block]);
        Ok(())
    }

    /// Adds the ids of the rows of tenants, and the fingerprints of their hashes.
    pub(super) fn add_ids(&mut self, ids: &Ids, hashes: &[u64], tenants: &[TenantRange]) -> FaultResult<()> {
        self.id_ranges = tenants.iter().map(|tenant| ids.orders(tenant.rows.clone())).collect();
        let mut raw = Vec::new();
        ids.pack(&mut raw);
        let encoding = if matches!(ids, Ids::Uuids(_)) { Encoding::Uuids } else { Encoding::Texts };
        let block = self.block(&raw, 0)?;
        self.add(ColumnName::Ids, encoding, vec![block]);
        let mut raw = Vec::new();
        IdFilter::new(hashes).pack(&mut raw);
        let block = self.block(&raw, 0)?;
        self.add(ColumnName::IdFilter, Encoding::Fingerprints, vec![block]);
        Ok(())
    }

    /// Writes the footer and makes the file durable.
    pub(super) fn finish(
        mut self,
        rows: u32,
        positions: Range<u64>,
        max_received: i64,
        tenants: Vec<TenantRange>,
    ) -> FaultResult<(Footer, u64)> {
        let columns = std::mem::take(&mut self.columns);
        let id_ranges = std::mem::take(&mut self.id_ranges);
        let footer = Footer { rows, positions, max_received, tenants, columns, id_ranges };
        self.write(&footer.to_bytes())?;
        self.write_pending()?;
        let synced = self.file.sync_data();
        synced.map_err(|source| Fault::SyncFailed { file: self.name.clone(), source })?;
        Ok((footer, self.offset))
    }

    fn numbers(&mut self, values: &[f64]) -> FaultResult<Block> {
        let mut raw = Vec::new();
        pack_numbers(values, &mut raw);
        self.block(&raw, 0)
    }

    /// Adds bytes to the file, many blocks with one call of the system.
    fn write(&mut self, bytes: &[u8]) -> FaultResult<()> {
        self.pending.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
        if self.pending.len() < WRITE_BYTES { Ok(()) } else { self.write_pending() }
    }

    fn write_pending(&mut self) -> FaultResult<()> {
        let written = self.file.write_at(&self.pending, self.offset - self.pending.len() as u64);
        written.map_err(|source| Fault::io("write", &self.name, source))?;
        self.pending.clear();
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "one byte of each code is taken at a time")]
fn code_bytes(codes: &Codes) -> Vec<u8> {
    match codes {
        Codes::U8(codes) => std::iter::once(1).chain(codes.iter().copied()).collect(),
        Codes::U16(codes) => {
            let planes = (0..2).flat_map(|plane| codes.iter().map(move |code| (code >> (8 * plane)) as u8));
            std::iter::once(2).chain(planes).collect()
        }
        Codes::U32(codes) => {
            let planes = (0..4).flat_map(|plane| codes.iter().map(move |code| (code >> (8 * plane)) as u8));
            std::iter::once(4).chain(planes).collect()
        }
    }
}
