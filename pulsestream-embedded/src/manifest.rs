//! The manifest: which segments exist, and where the log takes over.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::id::TenantId;

use crate::bytes::{Reader, put_varint, u32_at, unzigzag, zigzag};
use crate::error::{Fault, FaultResult};
use crate::segment::{self, Footer};
use crate::storage::{OpenMode, Storage};

/// Its file.
pub(crate) const NAME: &str = "manifest";
const NEW_NAME: &str = "manifest.new";
const MAGIC: &[u8; 8] = b"PSMANI\r\n";
/// Version of the manifest format; version 1 had no summaries.
const VERSION: u32 = 2;
/// Magic, version u32, flags u32 before the content; CRC-32C u32 of all that after it.
const HEAD_BYTES: usize = 16;
const MAX_BYTES: u64 = 1 << 28;
/// Flags of a segment.
const ERASE: u8 = 1;
const SUMMARY: u8 = 2;

/// The state of the folder between two changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Key of the hash of ids, random for each store.
    pub(crate) hash_key: [u8; 16],
    /// Number of the next segment file.
    pub(crate) next_segment: u64,
    /// Everything before this position is in segments, the rest in the log.
    pub(crate) sealed: u64,
    /// The segments in the order of their positions.
    pub(crate) segments: Vec<SegmentEntry>,
}

/// A segment that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    /// Number of its file.
    pub(crate) number: u64,
    /// Rows that are gone, ascending and apart.
    pub(crate) dropped: Vec<Range<u32>>,
    /// Whether deleted rows wait to be erased from the file.
    pub(crate) erase: bool,
    /// What the file holds, in case it cannot be opened any more; `None` if version 1 wrote the manifest.
    pub(crate) summary: Option<Summary>,
}

/// Tells for which questions a segment is needed, without the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The positions it covers.
    pub(crate) positions: Range<u64>,
    /// The smallest and the largest timestamp.
    pub(crate) times: (i64, i64),
    /// Tenants with their smallest and largest timestamp; `None` if they are too many for the manifest.
    pub(crate) tenants: Option<Vec<(TenantId, i64, i64)>>,
}

/// Tenants of one segment that the manifest lists: it is written whole with every new segment.
const MAX_TENANTS: usize = 64;

impl Summary {
    /// Summarises a footer.
    pub(crate) fn of(footer: &Footer) -> Self {
        let tenants = &footer.tenants;
        let min = tenants.iter().map(|range| range.min_time).min();
        let max = tenants.iter().map(|range| range.max_time).max();
        let listed = || tenants.iter().map(|range| (range.tenant, range.min_time, range.max_time)).collect();
        Self {
            positions: footer.positions.clone(),
            times: (min.unwrap_or(0), max.unwrap_or(0)),
            tenants: (tenants.len() <= MAX_TENANTS).then(listed),
        }
    }

    /// Returns whether there may be events of a tenant between two timestamps, the ends included.
    pub(crate) fn may_hold(&self, tenant: TenantId, from: i64, to: i64) -> bool {
        let overlaps = |min: i64, max: i64| min <= to && from <= max;
        match &self.tenants {
            None => overlaps(self.times.0, self.times.1),
            Some(tenants) => tenants.iter().any(|(one, min, max)| *one == tenant && overlaps(*min, *max)),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.positions.start);
        put_varint(bytes, self.positions.end);
        put_varint(bytes, zigzag(self.times.0));
        put_varint(bytes, zigzag(self.times.1));
        put_varint(bytes, self.tenants.as_ref().map_or(0, |tenants| tenants.len() as u64 + 1));
        for (tenant, min, max) in self.tenants.iter().flatten() {
            bytes.extend_from_slice(&tenant.to_bytes());
            put_varint(bytes, zigzag(*min));
            put_varint(bytes, zigzag(*max));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let positions = reader.varint()?..reader.varint()?;
        let times = (unzigzag(reader.varint()?), unzigzag(reader.varint()?));
        let tenants = match reader.length()?.checked_sub(1) {
            None => None,
            Some(count) => {
                let mut tenants = Vec::new();
                for _ in 0..count {
                    let tenant = TenantId::from_bytes(*reader.take(16)?.first_chunk()?);
                    tenants.push((tenant, unzigzag(reader.varint()?), unzigzag(reader.varint()?)));
                }
                Some(tenants)
            }
        };
        Some(Self { positions, times, tenants })
    }
}

impl SegmentEntry {
    /// Describes a new segment.
    pub(crate) fn new(number: u64, footer: &Footer) -> Self {
        Self { number, dropped: Vec::new(), erase: false, summary: Some(Summary::of(footer)) }
    }

    /// Returns the name of the file inside the folder.
    pub(crate) fn file(&self) -> String {
        file_of(self.number)
    }
}

/// Returns the name of the segment file with a number.
pub(crate) fn file_of(number: u64) -> String {
    format!("{}/{number:016x}.seg", segment::DIRECTORY)
}

impl Manifest {
    /// Creates the manifest of an empty store.
    pub(crate) fn new(hash_key: [u8; 16]) -> Self {
        Self { hash_key, next_segment: 1, sealed: 0, segments: Vec::new() }
    }

    /// Reads the manifest of a folder, `None` if there is none.
    ///
    /// # Errors
    /// `Corrupt`, `Newer`, `Io`.
    pub(crate) fn load(storage: &Arc<dyn Storage>) -> FaultResult<Option<Self>> {
        let fault = |source| Fault::io("read", NAME, source);
        let file = match storage.open(NAME, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(fault)?,
        };
        let length = file.bytes().map_err(fault)?;
        if length > MAX_BYTES {
            return Err(Fault::corrupt(NAME, length, "the manifest is too long"));
        }
        let mut bytes = vec![0; length as usize];
        file.read_at(&mut bytes, 0).map_err(fault)?;
        Self::read(&bytes).map(Some)
    }

    /// Makes this the manifest of the folder.
    ///
    /// # Errors
    /// `Io` when nothing changed; `SyncFailed` when it is not known which manifest a crash would leave.
    pub(crate) fn store(&self, storage: &Arc<dyn Storage>) -> FaultResult<()> {
        let fault = |action, source| Fault::io(action, NEW_NAME, source);
        match storage.remove(NEW_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("remove", error)),
            _ => {}
        }
        let file = storage.open(NEW_NAME, OpenMode::Create).map_err(|source| fault("create", source))?;
        file.write_at(&self.to_bytes(), 0).map_err(|source| fault("write", source))?;
        // A new file at each attempt, so that a failed sync is never repeated on the same pages.
        file.sync_data().map_err(|source| fault("sync", source))?;
        storage.rename(NEW_NAME, NAME).map_err(|source| fault("rename", source))?;
        storage.sync_dir("").map_err(|source| Fault::SyncFailed { file: NAME.to_owned(), source })
    }

    /// Returns the bytes of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.hash_key);
        put_varint(&mut bytes, self.next_segment);
        put_varint(&mut bytes, self.sealed);
        put_varint(&mut bytes, self.segments.len() as u64);
        for entry in &self.segments {
            put_varint(&mut bytes, entry.number);
            bytes.push(u8::from(entry.erase) * ERASE + u8::from(entry.summary.is_some()) * SUMMARY);
            if let Some(summary) = &entry.summary {
                summary.write(&mut bytes);
            }
            put_varint(&mut bytes, entry.dropped.len() as u64);
            let mut last = 0;
            for range in &entry.dropped {
                put_varint(&mut bytes, u64::from(range.start - last));
                put_varint(&mut bytes, u64::from(range.end - range.start));
                last = range.end;
            }
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> FaultResult<Self> {
        let damaged = |offset, reason| Fault::corrupt(NAME, offset, reason);
        let Some(end) = bytes.len().checked_sub(4).filter(|end| *end >= HEAD_BYTES) else {
            return Err(damaged(bytes.len() as u64, "the manifest is too short"));
        };
        if &bytes[..8] != MAGIC {
            return Err(damaged(0, "no manifest"));
        }
        let (version, flags) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if version > VERSION || flags != 0 {
            return Err(Fault::Newer { file: NAME.to_owned(), version });
        }
        if crc32c::crc32c(&bytes[..end]) != u32_at(bytes, end) {
            return Err(damaged(end as u64, "checksum of the manifest"));
        }
        Self::read_content(&bytes[HEAD_BYTES..end]).ok_or_else(|| damaged(HEAD_BYTES as u64, "the manifest"))
    }

    fn read_content(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let hash_key = *reader.take(16)?.first_chunk()?;
        let (next_segment, sealed) = (reader.varint()?, reader.varint()?);
        let mut segments = Vec::new();
        for _ in 0..reader.length()? {
            let number = reader.varint()?;
            let flags = reader.u8()?;
            if flags & !(ERASE | SUMMARY) != 0 {
                return None;
            }
            let summary = if flags & SUMMARY != 0 { Some(Summary::read(&mut reader)?) } else { None };
            let mut dropped = Vec::new();
            let mut last = 0_u32;
            for _ in 0..reader.length()? {
                let start = last.checked_add(u32::try_from(reader.varint()?).ok()?)?;
                last = start.checked_add(u32::try_from(reader.varint()?).ok()?)?;
                dropped.push(start..last);
            }
            segments.push(SegmentEntry { number, dropped, erase: flags & ERASE != 0, summary });
        }
        reader.0.is_empty().then_some(Self { hash_key, next_segment, sealed, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::SimFs;

    #[test]
    fn round_trips_and_sees_every_flipped_byte() {
        let storage: Arc<dyn Storage> = Arc::new(SimFs::new());
        assert!(Manifest::load(&storage).unwrap().is_none());
        let mut manifest = Manifest::new([3; 16]);
        let tenants = Some(vec![(TenantId::from_name("one"), -5, 7)]);
        let summaries = [
            None,
            Some(Summary { positions: 3..900, times: (-5, 7), tenants }),
            Some(Summary { positions: 900..1_000, times: (0, 9), tenants: None }),
        ];
        for (number, summary) in (1..).zip(summaries) {
            let (dropped, erase) = (vec![0..4, 9..10], number == 1);
            manifest.segments.push(SegmentEntry { number, dropped, erase, summary });
        }
        manifest.sealed = 1 << 40;
        manifest.store(&storage).unwrap();
        manifest.store(&storage).unwrap();
        assert_eq!(Manifest::load(&storage).unwrap().unwrap(), manifest);
        let bytes = manifest.to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(Manifest::read(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_summary_tells_who_needs_the_segment() {
        let [one, two] = ["one", "two"].map(TenantId::from_name);
        let mut summary = Summary { positions: 0..9, times: (10, 30), tenants: Some(vec![(one, 10, 20)]) };
        let needs = |summary: &Summary, tenant, from, to| summary.may_hold(tenant, from, to);
        assert!(needs(&summary, one, 20, 99) && needs(&summary, one, i64::MIN, 10));
        assert!(!needs(&summary, one, 21, 99) && !needs(&summary, two, 0, 99));
        summary.tenants = None;
        assert!(needs(&summary, two, 25, 99) && !needs(&summary, two, 31, 99));
    }

    #[test]
    fn a_power_loss_leaves_the_old_or_the_new_one() {
        let old = Manifest::new([1; 16]);
        let mut new = old.clone();
        new.sealed = 5;
        for cut in 0.. {
            let fs = SimFs::new();
            let storage: Arc<dyn Storage> = Arc::new(fs.clone());
            old.store(&storage).unwrap();
            fs.cut_power_after(cut);
            let stored = new.store(&storage).is_ok();
            for seed in 0..20 {
                let after: Arc<dyn Storage> = Arc::new(fs.after_power_loss(seed));
                let found = Manifest::load(&after).unwrap().unwrap();
                assert!(found == new || (found == old && !stored), "cut {cut} seed {seed}");
            }
            if stored {
                break;
            }
        }
    }
}
