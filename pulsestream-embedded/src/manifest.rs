//! The manifest: which segments exist, and where the log takes over.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::bytes::{Reader, put_varint, u32_at};
use crate::error::{Fault, FaultResult};
use crate::segment;
use crate::storage::{OpenMode, Storage};

const NAME: &str = "manifest";
const NEW_NAME: &str = "manifest.new";
const MAGIC: &[u8; 8] = b"PSMANI\r\n";
/// Version of the manifest format.
const VERSION: u32 = 1;
/// Magic, version u32, flags u32 before the content; CRC-32C u32 of all that after it.
const HEAD_BYTES: usize = 16;
const MAX_BYTES: u64 = 1 << 28;

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
}

impl SegmentEntry {
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
            bytes.push(u8::from(entry.erase));
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
            let erase = reader.u8()? != 0;
            let mut dropped = Vec::new();
            let mut last = 0_u32;
            for _ in 0..reader.length()? {
                let start = last.checked_add(u32::try_from(reader.varint()?).ok()?)?;
                last = start.checked_add(u32::try_from(reader.varint()?).ok()?)?;
                dropped.push(start..last);
            }
            segments.push(SegmentEntry { number, dropped, erase });
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
        manifest.segments.push(SegmentEntry { number: 1, dropped: vec![0..4, 9..10], erase: true });
        manifest.segments.push(SegmentEntry { number: 7, dropped: Vec::new(), erase: false });
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
