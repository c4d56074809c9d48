//! Writing a segment.

use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::id::TenantId;

use super::format::{
    Block, ColumnMeta, ColumnName, Encoding, Footer, HEADER_BYTES, MAGIC, TenantRange, VERSION,
};
use super::ids::{IdFilter, IdHasher, Ids};
use super::shred::Shredder;
use super::text::TextBlockBuilder;
use crate::bytes::{put_slice, put_varint};
use crate::column::{Codes, DictBuilder, DictColumn};
use crate::error::{Fault, FaultResult};
use crate::field::{IntField, NumberField, TEXT_FIELDS, TextField};
use crate::pack::{pack_ints, pack_numbers};
use crate::part::Dynamic;
use crate::record::Record;
use crate::storage::{File, OpenMode, Storage};

/// How segments are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentOptions {
    /// Level of zstd, 1 to 19.
    pub(crate) compression_level: i32,
}

/// Takes rows in the order (tenant, time, id) and writes them as a segment.
pub(crate) struct SegmentWriter {
    out: Output,
    tenants: Vec<TenantRange>,
    rows: u32,
    ints: [Vec<i64>; 4],
    numbers: [Vec<f64>; NumberField::ALL.len()],
    texts: Vec<TextColumn>,
    ids: Ids,
    hashes: Vec<u64>,
    shredder: Shredder,
    hasher: IdHasher,
}

/// A text field while the segment is written.
enum TextColumn {
    /// May become a dictionary.
    Dict(DictBuilder),
    /// Blocks of texts.
    Blocks(TextBlocks),
}

struct TextBlocks {
    current: TextBlockBuilder,
    blocks: Vec<Block>,
    first_row: u32,
    present: bool,
}

/// The file and where its next block goes.
struct Output {
    file: Arc<dyn File>,
    name: String,
    offset: u64,
    compressor: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl SegmentWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        name: String,
        options: SegmentOptions,
        hasher: IdHasher,
    ) -> FaultResult<Self> {
        let file = storage.open(&name, OpenMode::Create);
        let file = file.map_err(|source| Fault::io("create", &name, source))?;
        let mut header = [0; HEADER_BYTES as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        file.write_at(&header, 0).map_err(|source| Fault::io("write", &name, source))?;
        let compressor = zstd::bulk::Compressor::new(options.compression_level);
        let compressor = compressor.map_err(|source| Fault::io("compress", &name, source))?;
        let texts = TextField::ALL.into_iter().map(TextColumn::new).collect();
        Ok(Self {
            out: Output { file, name, offset: HEADER_BYTES, compressor, packed: Vec::new() },
            tenants: Vec::new(),
            rows: 0,
            ints: Default::default(),
            numbers: Default::default(),
            texts,
            ids: Ids::new(),
            hashes: Vec::new(),
            shredder: Shredder::default(),
            hasher,
        })
    }

    /// Adds the next row.
    ///
    /// # Errors
    /// `Io`.
    #[allow(clippy::cast_possible_wrap, reason = "positions stay below 2^63")]
    pub(crate) fn push(&mut self, tenant: TenantId, position: u64, record: &Record<'_>) -> FaultResult<()> {
        match self.tenants.last_mut() {
            Some(range) if range.tenant == tenant => {
                range.rows.end += 1;
                range.max_time = record.timestamp;
            }
            _ => self.tenants.push(TenantRange {
                tenant,
                rows: self.rows..self.rows + 1,
                min_time: record.timestamp,
                max_time: record.timestamp,
            }),
        }
        let ints = [record.timestamp, record.received_at, position as i64, i64::from(record.severity)];
        for (column, value) in self.ints.iter_mut().zip(ints) {
            column.push(value);
        }
        for (column, value) in self.numbers.iter_mut().zip(record.numbers) {
            column.push(value);
        }
        self.ids.push(record.id);
        self.hashes.push(self.hasher.hash(tenant, record.id));
        self.shredder.push(record);
        self.rows += 1;
        for (field, text) in record.texts.iter().enumerate() {
            self.texts[field].push(*text, &mut self.out)?;
            self.texts[field].give_up_dictionary(TextField::ALL[field], &mut self.out)?;
        }
        Ok(())
    }

    /// Writes the rest and makes the file durable. `positions` is what the segment stands for in the log.
    ///
    /// # Errors
    /// `Io`, and `SyncFailed`.
    pub(crate) fn finish(self, positions: Range<u64>) -> FaultResult<(Footer, u64)> {
        let Self { mut out, tenants, rows, ints, numbers, texts, ids, hashes, shredder, .. } = self;
        let mut columns = Vec::new();
        let mut add = |name, encoding, blocks| columns.push(ColumnMeta { name, encoding, blocks });
        for (field, column) in TextField::ALL.into_iter().zip(texts) {
            if let Some((encoding, blocks)) = column.finish(field, &mut out)? {
                add(ColumnName::Text(field), encoding, blocks);
            }
        }
        for (path, dynamic) in shredder.finish() {
            let (encoding, blocks) = match dynamic {
                Dynamic::Dict(column) => (Encoding::Dict, out.dict(&column)?),
                Dynamic::Numbers(values) => (Encoding::Numbers, vec![out.numbers(&values)?]),
            };
            add(ColumnName::Dynamic(path), encoding, blocks);
        }
        for (field, values) in NumberField::ALL.into_iter().zip(&numbers) {
            if values.iter().any(|value| !value.is_nan()) {
                add(ColumnName::Numbers(field), Encoding::Numbers, vec![out.numbers(values)?]);
            }
        }
        for (field, values) in IntField::ALL.into_iter().zip(&ints) {
            let mut raw = Vec::new();
            pack_ints(values, &mut raw);
            add(ColumnName::Ints(field), Encoding::Ints, vec![out.block(&raw, 0)?]);
        }
        let mut raw = Vec::new();
        ids.pack(&mut raw);
        let encoding = if matches!(ids, Ids::Uuids(_)) { Encoding::Uuids } else { Encoding::Texts };
        add(ColumnName::Ids, encoding, vec![out.block(&raw, 0)?]);
        let mut raw = Vec::new();
        IdFilter::new(&hashes).pack(&mut raw);
        add(ColumnName::IdFilter, Encoding::Fingerprints, vec![out.block(&raw, 0)?]);
        let max_received = ints[IntField::ReceivedAt as usize].iter().copied().max().unwrap_or(i64::MIN);
        let footer = Footer { rows, positions, max_received, tenants, columns };
        let bytes = footer.to_bytes();
        out.write(&bytes)?;
        let synced = out.file.sync_data();
        synced.map_err(|source| Fault::SyncFailed { file: out.name.clone(), source })?;
        Ok((footer, out.offset))
    }
}

impl TextColumn {
    fn new(field: TextField) -> Self {
        match field {
            TextField::Tags | TextField::Payload | TextField::Metadata | TextField::RequestId => {
                Self::Blocks(TextBlocks::new())
            }
            _ => Self::Dict(DictBuilder::default()),
        }
    }

    fn push(&mut self, text: Option<&[u8]>, out: &mut Output) -> FaultResult<()> {
        match self {
            Self::Dict(builder) => builder.push_text(text),
            Self::Blocks(blocks) => blocks.push(text, out)?,
        }
        Ok(())
    }

    /// A wide field whose texts are mostly different goes on as blocks, so that it does not fill the memory.
    fn give_up_dictionary(&mut self, field: TextField, out: &mut Output) -> FaultResult<()> {
        let Self::Dict(builder) = self else { return Ok(()) };
        if field.is_wide() && builder.distinct() > 4_096 && builder.distinct() > builder.rows() / 4 {
            *self = Self::Blocks(blocks_of(builder, out)?);
        }
        Ok(())
    }

    fn finish(self, field: TextField, out: &mut Output) -> FaultResult<Option<(Encoding, Vec<Block>)>> {
        let blocks = match self {
            Self::Dict(builder) if builder.distinct() == 0 => return Ok(None),
            Self::Dict(builder) => {
                let is_wide = field.is_wide() && builder.distinct() > (builder.rows() / 4).max(256);
                if !is_wide {
                    return Ok(Some((Encoding::Dict, out.dict(&builder.finish())?)));
                }
                blocks_of(&builder, out)?
            }
            Self::Blocks(blocks) => blocks,
        };
        Ok(blocks.finish(out)?.map(|blocks| (Encoding::Texts, blocks)))
    }
}

fn blocks_of(builder: &DictBuilder, out: &mut Output) -> FaultResult<TextBlocks> {
    let mut blocks = TextBlocks::new();
    for row in 0..builder.rows() {
        blocks.push(builder.text(row), out)?;
    }
    Ok(blocks)
}

impl TextBlocks {
    fn new() -> Self {
        Self { current: TextBlockBuilder::default(), blocks: Vec::new(), first_row: 0, present: false }
    }

    fn push(&mut self, text: Option<&[u8]>, out: &mut Output) -> FaultResult<()> {
        self.present |= text.is_some();
        self.current.push(text);
        if self.current.is_full() { self.close_block(out) } else { Ok(()) }
    }

    fn close_block(&mut self, out: &mut Output) -> FaultResult<()> {
        let rows = self.current.rows();
        let raw = self.current.take();
        self.blocks.push(out.block(&raw, self.first_row)?);
        self.first_row += rows;
        Ok(())
    }

    /// Returns the blocks, `None` if no row has a text.
    fn finish(mut self, out: &mut Output) -> FaultResult<Option<Vec<Block>>> {
        if !self.present {
            return Ok(None);
        }
        if self.current.rows() > 0 {
            self.close_block(out)?;
        }
        Ok(Some(self.blocks))
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> FaultResult<()> {
        let written = self.file.write_at(bytes, self.offset);
        written.map_err(|source| Fault::io("write", &self.name, source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Writes a block, compressed if that makes it smaller: equal lengths say that it is not.
    #[allow(clippy::cast_possible_truncation, reason = "a block is below 4 GiB")]
    fn block(&mut self, raw: &[u8], first_row: u32) -> FaultResult<Block> {
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

    fn numbers(&mut self, values: &[f64]) -> FaultResult<Block> {
        let mut raw = Vec::new();
        pack_numbers(values, &mut raw);
        self.block(&raw, 0)
    }

    /// Writes the dictionary (number of entries, then kind and bytes of each) and the codes (width, then one plane a byte).
    fn dict(&mut self, column: &DictColumn) -> FaultResult<Vec<Block>> {
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

const _: () = assert!(TextField::ALL.len() == TEXT_FIELDS);
