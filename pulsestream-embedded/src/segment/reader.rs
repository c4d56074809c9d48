//! Reading a segment.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pulsestream_core::event::FieldPath;
use pulsestream_core::id::TenantId;

use super::format::{
    Block, ColumnMeta, ColumnName, Encoding, Footer, HEADER_BYTES, TRAILER_BYTES, read_trailer,
};
use super::ids::{IdFilter, IdHasher, IdIndex, IdOrder, Ids};
use super::text::TextBlock;
use crate::bytes::{Reader, u32_at};
use crate::cache::{Cache, CacheKey};
use crate::column::{Codes, DictColumn, Dictionary, Kind};
use crate::error::{Fault, FaultResult};
use crate::field::{IntField, NUMBER_FIELDS, NumberField, TEXT_FIELDS, TextField};
use crate::pack::{unpack_ints, unpack_numbers};
use crate::part::{Dynamic, Records, Rows, Texts};
use crate::record::Record;
use crate::storage::{File, OpenMode, Storage};

/// Blocks above this unpacked size are refused before memory is taken.
const MAX_BLOCK_BYTES: u32 = 1 << 30;

thread_local! {
    /// One for each thread that reads: it takes longer to make one than to unpack a small block.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::default();
}

/// A file is copied in pieces of this size.
const COPY_BYTES: usize = 1 << 20;

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// Returns a number that no other part of this process has.
pub(crate) fn next_part_key() -> u64 {
    NEXT_KEY.fetch_add(1, Ordering::Relaxed)
}

/// An open segment and the rows of it that were deleted.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    inner: Arc<Inner>,
    /// Rows that are gone, ascending and apart.
    dropped: Arc<[Range<u32>]>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<dyn File>,
    name: String,
    bytes: u64,
    footer: Footer,
    key: u64,
}

impl Segment {
    /// Opens a segment file and reads its footer.
    ///
    /// # Errors
    /// `Corrupt`, `Newer`, `Io`.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        name: &str,
        dropped: Vec<Range<u32>>,
    ) -> FaultResult<Self> {
        let fault = |source| Fault::io("open", name, source);
        let file = storage.open(name, OpenMode::Read).map_err(fault)?;
        let bytes = file.bytes().map_err(fault)?;
        let Some(trailer_at) = bytes.checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES) else {
            return Err(Fault::corrupt(name, bytes, "the segment is too short"));
        };
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.read_at(&mut trailer, trailer_at).map_err(fault)?;
        let (length, checksum, version) = match read_trailer(&trailer, name, trailer_at) {
            Err(Fault::Newer { version, .. }) if header_version(&file).map_err(fault)? != version => {
                // A newer version would have said so at both ends of the file.
                return Err(Fault::corrupt(name, trailer_at, "the version at the end of the segment"));
            }
            read => read?,
        };
        let Some(footer_at) = trailer_at.checked_sub(u64::from(length)).filter(|at| *at >= HEADER_BYTES)
        else {
            return Err(Fault::corrupt(name, trailer_at, "the length of the footer"));
        };
        let mut footer = vec![0; length as usize];
        file.read_at(&mut footer, footer_at).map_err(fault)?;
        if crc32c::crc32c(&footer) != checksum {
            return Err(Fault::corrupt(name, footer_at, "checksum of the footer"));
        }
        let footer = Footer::read(&footer, version);
        let footer = footer.ok_or_else(|| Fault::corrupt(name, footer_at, "the footer"))?;
        let inner = Inner { file, name: name.to_owned(), bytes, footer, key: next_part_key() };
        Ok(Self { inner: Arc::new(inner), dropped: dropped.into() })
    }

    /// Returns the same segment with other rows deleted.
    pub(crate) fn with_dropped(&self, dropped: Vec<Range<u32>>) -> Self {
        Self { inner: Arc::clone(&self.inner), dropped: dropped.into() }
    }

    /// Returns what the footer says.
    pub(crate) fn footer(&self) -> &Footer {
        &self.inner.footer
    }

    /// Returns the name of the file.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the size of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// Returns the rows that are gone.
    pub(crate) fn dropped(&self) -> &[Range<u32>] {
        &self.dropped
    }

    /// Returns how many rows are there.
    pub(crate) fn live_count(&self) -> u64 {
        let dropped: u64 = self.dropped.iter().map(|range| u64::from(range.end - range.start)).sum();
        u64::from(self.inner.footer.rows) - dropped
    }

    /// Returns whether a row is there.
    pub(crate) fn is_live(&self, row: u32) -> bool {
        let after = self.dropped.partition_point(|range| range.end <= row);
        self.dropped.get(after).is_none_or(|range| row < range.start)
    }

    /// Returns the fingerprints of its ids; damaged ones are made again, so that appends go on.
    pub(crate) fn load_filter(&self, cache: &Cache, hasher: IdHasher) -> FaultResult<Arc<IdFilter>> {
        cache.get(self.inner.key, CacheKey::IdFilter, || {
            let read = self.one_block(&ColumnName::IdFilter);
            let filter = match read.map(|(raw, _)| IdFilter::unpack(&raw, self.rows())) {
                Ok(Some(filter)) => filter,
                Ok(None) | Err(Fault::Corrupt { .. }) => {
                    IdFilter::new(&self.hashes(&*self.load_ids(cache)?, hasher))
                }
                Err(fault) => return Err(fault),
            };
            let bytes = filter.heap_bytes();
            Ok((filter, bytes))
        })
    }

    /// Returns the hash of the id of each row.
    fn hashes(&self, ids: &Ids, hasher: IdHasher) -> Vec<u64> {
        let mut hashes = Vec::with_capacity(ids.len());
        for range in &self.inner.footer.tenants {
            let rows = range.rows.start as usize..range.rows.end as usize;
            hashes.extend(rows.map(|row| ids.with(row, |id| hasher.hash(range.tenant, id))));
        }
        hashes
    }

    /// Returns the ids of all rows.
    pub(crate) fn load_ids(&self, cache: &Cache) -> FaultResult<Arc<Ids>> {
        cache.get(self.inner.key, CacheKey::Ids, || {
            let (raw, at) = self.one_block(&ColumnName::Ids)?;
            let encoding = self.inner.footer.column(&ColumnName::Ids).map(|column| column.encoding);
            let ids = match encoding {
                Some(Encoding::Uuids) => Ids::unpack_uuids(&raw, self.rows()),
                _ => Ids::unpack_texts(raw, self.rows()),
            };
            let ids = ids.ok_or_else(|| Fault::corrupt(&self.inner.name, at, "the ids"))?;
            let bytes = ids.heap_bytes();
            Ok((ids, bytes))
        })
    }

    /// Returns a field that every row has.
    pub(super) fn cached_ints(&self, field: IntField, cache: &Cache) -> FaultResult<Arc<Vec<i64>>> {
        cache.get(self.inner.key, CacheKey::Ints(field), || {
            let values = self.load_ints(field)?;
            let bytes = values.capacity() * 8;
            Ok((values, bytes))
        })
    }

    /// Returns a number field as it is stored.
    pub(super) fn cached_numbers(&self, field: NumberField, cache: &Cache) -> FaultResult<Arc<Vec<f64>>> {
        cache.get(self.inner.key, CacheKey::Stored(field), || {
            let values = self.load_numbers(field)?;
            let bytes = values.capacity() * 8;
            Ok((values, bytes))
        })
    }

    /// Reads every block and checks it, for `doctor`.
    ///
    /// # Errors
    /// The first damage found.
    pub(crate) fn verify(&self) -> FaultResult<()> {
        for column in &self.inner.footer.columns {
            for block in &column.blocks {
                self.read_block(block)?;
            }
        }
        Ok(())
    }

    /// Copies the file under its name; a file that was replaced meanwhile is still the one that is copied. Tells how many bytes each
    /// step copied. The new name is not durable yet.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn copy_to(&self, target: &Arc<dyn Storage>, copied: &mut dyn FnMut(u64)) -> FaultResult<()> {
        let Inner { file, name, bytes, .. } = &*self.inner;
        let created = target.open(name, OpenMode::Create);
        let copy = created.map_err(|source| Fault::io("create", name, source))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        while offset < *bytes {
            let part = &mut buffer[..usize::try_from(bytes - offset).unwrap_or(COPY_BYTES).min(COPY_BYTES)];
            file.read_at(part, offset).map_err(|source| Fault::io("read", name, source))?;
            copy.write_at(part, offset).map_err(|source| Fault::io("write", name, source))?;
            offset += part.len() as u64;
            copied(part.len() as u64);
        }
        copy.sync_data().map_err(|source| Fault::io("sync", name, source))
    }

    fn read_block(&self, block: &Block) -> FaultResult<Vec<u8>> {
        let name = &self.inner.name;
        let damaged = |reason| Fault::corrupt(name, block.offset, reason);
        if block.raw_bytes > MAX_BLOCK_BYTES || block.offset + u64::from(block.bytes) > self.inner.bytes {
            return Err(damaged("a block beyond the file"));
        }
        let mut bytes = vec![0; block.bytes as usize];
        let read = self.inner.file.read_at(&mut bytes, block.offset);
        read.map_err(|source| Fault::io("read", name, source))?;
        if crc32c::crc32c(&bytes) != block.checksum {
            return Err(damaged("checksum of a block"));
        }
        if block.bytes == block.raw_bytes {
            return Ok(bytes);
        }
        let raw = DECOMPRESSOR.with_borrow_mut(|it| it.decompress(&bytes, block.raw_bytes as usize));
        raw.ok()
            .filter(|raw| raw.len() == block.raw_bytes as usize)
            .ok_or_else(|| damaged("a block does not unpack"))
    }

    /// Reads the only block of a column that every segment has.
    fn one_block(&self, name: &ColumnName) -> FaultResult<(Vec<u8>, u64)> {
        let column = self.inner.footer.column(name);
        let block = column.and_then(|column| column.blocks.first());
        let block =
            block.ok_or_else(|| Fault::corrupt(&self.inner.name, self.inner.bytes, "a column is missing"))?;
        Ok((self.read_block(block)?, block.offset))
    }

    fn read_dict(&self, column: &ColumnMeta) -> FaultResult<DictColumn> {
        let [entries, codes] = column.blocks.as_slice() else {
            return Err(Fault::corrupt(&self.inner.name, self.inner.bytes, "a dictionary without codes"));
        };
        let damaged = || Fault::corrupt(&self.inner.name, entries.offset, "a dictionary");
        let dictionary = read_dictionary(&self.read_block(entries)?).ok_or_else(damaged)?;
        let codes =
            read_codes(&self.read_block(codes)?, self.rows(), dictionary.codes()).ok_or_else(damaged)?;
        Ok(DictColumn { codes, dictionary })
    }
}

fn header_version(file: &Arc<dyn File>) -> std::io::Result<u32> {
    let mut header = [0; HEADER_BYTES as usize];
    file.read_at(&mut header, 0)?;
    Ok(u32_at(&header, 8))
}

fn read_dictionary(raw: &[u8]) -> Option<Dictionary> {
    let mut reader = Reader(raw);
    let mut dictionary = Dictionary::default();
    for _ in 0..reader.length()? {
        let kind = reader.u8()?;
        Kind::from_u8(kind)?;
        dictionary.kinds.push(kind);
        dictionary.bytes.extend_from_slice(reader.slice()?);
        dictionary.ends.push(u32::try_from(dictionary.bytes.len()).ok()?);
    }
    Some(dictionary)
}

fn read_codes(raw: &[u8], rows: usize, number: usize) -> Option<Codes> {
    let (width, planes) = raw.split_first()?;
    if planes.len() != rows * usize::from(*width) {
        return None;
    }
    let codes = match width {
        1 => Codes::U8(planes.to_vec()),
        2 => {
            let (low, high) = planes.split_at(rows);
            Codes::U16(low.iter().zip(high).map(|(low, high)| u16::from_le_bytes([*low, *high])).collect())
        }
        4 => {
            let byte = |row: usize, plane: usize| planes[plane * rows + row];
            let code = |row| u32::from_le_bytes([byte(row, 0), byte(row, 1), byte(row, 2), byte(row, 3)]);
            Codes::U32((0..rows).map(code).collect())
        }
        _ => return None,
    };
    (0..rows).all(|row| (codes.get(row) as usize) < number).then_some(codes)
}

impl Rows for Segment {
    fn key(&self) -> u64 {
        self.inner.key
    }

    fn rows(&self) -> usize {
        self.inner.footer.rows as usize
    }

    fn live_rows(&self, tenant: TenantId) -> Vec<Range<usize>> {
        let Some(range) = self.inner.footer.tenant(tenant) else { return Vec::new() };
        let mut live = Vec::new();
        let mut start = range.rows.start;
        let first = self.dropped.partition_point(|dropped| dropped.end <= start);
        for dropped in &self.dropped[first..] {
            if dropped.start >= range.rows.end {
                break;
            }
            if dropped.start > start {
                live.push(start as usize..dropped.start as usize);
            }
            start = start.max(dropped.end);
        }
        if start < range.rows.end {
            live.push(start as usize..range.rows.end as usize);
        }
        live
    }

    fn time_bounds(&self, tenant: TenantId) -> Option<(i64, i64)> {
        self.inner.footer.tenant(tenant).map(|range| (range.min_time, range.max_time))
    }

    fn load_ints(&self, field: IntField) -> FaultResult<Vec<i64>> {
        let (raw, at) = self.one_block(&ColumnName::Ints(field))?;
        unpack_ints(&raw, self.rows()).ok_or_else(|| Fault::corrupt(&self.inner.name, at, "integers"))
    }

    fn load_numbers(&self, field: NumberField) -> FaultResult<Vec<f64>> {
        let name = ColumnName::Numbers(field);
        if self.inner.footer.column(&name).is_none() {
            return Ok(vec![f64::NAN; self.rows()]);
        }
        let (raw, at) = self.one_block(&name)?;
        unpack_numbers(&raw, self.rows()).ok_or_else(|| Fault::corrupt(&self.inner.name, at, "numbers"))
    }

    fn keeps_dict(&self, field: TextField) -> bool {
        let column = self.inner.footer.column(&ColumnName::Text(field));
        column.is_none_or(|column| column.encoding == Encoding::Dict)
    }

    fn find_id(
        &self,
        cache: &Cache,
        hasher: IdHasher,
        tenant: TenantId,
        id: &[u8],
        hash: u64,
    ) -> FaultResult<Option<u32>> {
        let Some(range) = self.inner.footer.tenant(tenant) else { return Ok(None) };
        let is_between = self.inner.footer.ids(tenant).is_some_and(|ids| ids.contains(&IdOrder::of(id)));
        if !is_between || !self.load_filter(cache, hasher)?.may_hold(hash) {
            return Ok(None);
        }
        let ids = self.load_ids(cache)?;
        let index = cache.get(self.inner.key, CacheKey::IdIndex, || {
            let index = IdIndex::new(&self.hashes(&ids, hasher));
            let bytes = index.heap_bytes();
            Ok((index, bytes))
        })?;
        let is_it = |row: &&u32| range.rows.contains(row) && ids.with(**row as usize, |known| known == id);
        Ok(index.candidates(hash).iter().find(|row| is_it(row) && self.is_live(**row)).copied())
    }

    fn load_dict(&self, field: TextField) -> FaultResult<Option<DictColumn>> {
        match self.inner.footer.column(&ColumnName::Text(field)) {
            None => {
                let codes = Codes::U8(vec![0; self.rows()]);
                Ok(Some(DictColumn { codes, dictionary: Dictionary::default() }))
            }
            Some(column) if column.encoding == Encoding::Dict => self.read_dict(column).map(Some),
            Some(_) => Ok(None),
        }
    }

    fn load_dynamic(&self, path: &FieldPath) -> FaultResult<Option<Dynamic>> {
        let name = ColumnName::Dynamic(path.clone());
        match self.inner.footer.column(&name) {
            None => Ok(None),
            Some(column) if column.encoding == Encoding::Dict => {
                self.read_dict(column).map(|column| Some(Dynamic::Dict(column)))
            }
            Some(_) => {
                let (raw, at) = self.one_block(&name)?;
                let numbers = unpack_numbers(&raw, self.rows());
                let numbers = numbers.ok_or_else(|| Fault::corrupt(&self.inner.name, at, "numbers"))?;
                Ok(Some(Dynamic::Numbers(numbers)))
            }
        }
    }

    fn texts<'a>(&'a self, field: TextField, cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>> {
        Ok(Box::new(SegmentTexts::open(self, field, cache)?))
    }

    fn ids<'a>(&'a self, cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>> {
        Ok(Box::new(SegmentIds { ids: self.load_ids(cache)?, id: Vec::new() }))
    }

    fn records<'a>(&'a self, cache: &'a Cache) -> FaultResult<Box<dyn Records + 'a>> {
        Ok(Box::new(SegmentRecords::open(self, cache)?))
    }

    fn gather(
        &self,
        rows: &[usize],
        cache: &Cache,
        visit: &mut dyn FnMut(usize, &Record<'_>) -> FaultResult<()>,
    ) -> FaultResult<()> {
        super::gather::gather(self, rows, cache, visit)
    }
}

#[derive(Debug)]
struct SegmentIds {
    ids: Arc<Ids>,
    id: Vec<u8>,
}

impl Texts for SegmentIds {
    fn get(&mut self, row: usize) -> FaultResult<Option<&[u8]>> {
        self.id.clear();
        self.ids.with(row, |id| self.id.extend_from_slice(id));
        Ok(Some(&self.id))
    }
}

/// Texts of one field: through the dictionary, or block by block.
#[derive(Debug)]
struct SegmentTexts<'a> {
    segment: &'a Segment,
    field: TextField,
    cache: &'a Cache,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    Absent,
    Dict(Arc<DictColumn>),
    Blocks { blocks: &'a [Block], current: Option<(Range<usize>, Arc<TextBlock>)> },
}

impl<'a> SegmentTexts<'a> {
    fn open(segment: &'a Segment, field: TextField, cache: &'a Cache) -> FaultResult<Self> {
        let source = match segment.inner.footer.column(&ColumnName::Text(field)) {
            None => Source::Absent,
            Some(column) if column.encoding == Encoding::Dict => {
                let path = field.path();
                let read = || segment.read_dict(column);
                Source::Dict(match path {
                    Some(path) => cache.get(segment.inner.key, CacheKey::Dict(path), || {
                        let column = read()?;
                        let bytes = column.heap_bytes();
                        Ok((column, bytes))
                    })?,
                    None => Arc::new(read()?),
                })
            }
            Some(column) => Source::Blocks { blocks: &column.blocks, current: None },
        };
        Ok(Self { segment, field, cache, source })
    }
}

impl Texts for SegmentTexts<'_> {
    #[allow(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 rows and blocks")]
    fn get(&mut self, row: usize) -> FaultResult<Option<&[u8]>> {
        let (blocks, current) = match &mut self.source {
            Source::Absent => return Ok(None),
            Source::Dict(column) => {
                return Ok(column.dictionary.entry(column.codes.get(row)).map(|(_, bytes)| bytes));
            }
            Source::Blocks { blocks, current } => (blocks, current),
        };
        if !current.as_ref().is_some_and(|(rows, _)| rows.contains(&row)) {
            let index = blocks.partition_point(|block| block.first_row as usize <= row).saturating_sub(1);
            let block = &blocks[index];
            let segment = self.segment;
            let text =
                self.cache.get(segment.inner.key, CacheKey::Texts(self.field, index as u32), || {
                    let text = TextBlock::read(segment.read_block(block)?);
                    let text =
                        text.ok_or_else(|| Fault::corrupt(&segment.inner.name, block.offset, "texts"))?;
                    let bytes = text.heap_bytes();
                    Ok((text, bytes))
                })?;
            let first = block.first_row as usize;
            if row - first >= text.rows() {
                return Err(Fault::corrupt(&segment.inner.name, block.offset, "a block has too few rows"));
            }
            *current = Some((first..first + text.rows(), text));
        }
        Ok(current.as_ref().and_then(|(rows, text)| text.get(row - rows.start)))
    }
}

/// All columns of a segment at once.
struct SegmentRecords<'a> {
    ids: SegmentIds,
    ints: [Arc<Vec<i64>>; 4],
    numbers: [Arc<Vec<f64>>; NUMBER_FIELDS],
    texts: Vec<SegmentTexts<'a>>,
}

impl<'a> SegmentRecords<'a> {
    fn open(segment: &'a Segment, cache: &'a Cache) -> FaultResult<Self> {
        let ints = |field| segment.cached_ints(field, cache);
        let numbers = |field| segment.cached_numbers(field, cache);
        let texts = TextField::ALL.into_iter().map(|field| SegmentTexts::open(segment, field, cache));
        Ok(Self {
            ids: SegmentIds { ids: segment.load_ids(cache)?, id: Vec::new() },
            ints: [
                ints(IntField::Timestamp)?,
                ints(IntField::ReceivedAt)?,
                ints(IntField::Position)?,
                ints(IntField::Severity)?,
            ],
            numbers: [
                numbers(NumberField::ResponseTimeMs)?,
                numbers(NumberField::StatusCode)?,
                numbers(NumberField::RequestSizeBytes)?,
                numbers(NumberField::ResponseSizeBytes)?,
                numbers(NumberField::CacheHit)?,
            ],
            texts: texts.collect::<FaultResult<_>>()?,
        })
    }
}

impl Records for SegmentRecords<'_> {
    fn visit(
        &mut self,
        row: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> FaultResult<()>,
    ) -> FaultResult<()> {
        let mut texts = [None; TEXT_FIELDS];
        for (slot, column) in texts.iter_mut().zip(&mut self.texts) {
            *slot = column.get(row)?;
        }
        let record = Record {
            id: self.ids.get(row)?.unwrap_or_default(),
            timestamp: self.ints[0][row],
            received_at: self.ints[1][row],
            severity: u8::try_from(self.ints[3][row]).unwrap_or(0),
            texts,
            numbers: [
                self.numbers[0][row],
                self.numbers[1][row],
                self.numbers[2][row],
                self.numbers[3][row],
                self.numbers[4][row],
            ],
        };
        visit(&record)
    }
}
