//! Writing the log.

use std::io;
use std::sync::Arc;

use super::DIRECTORY;
use super::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, Frame, FrameKind, padded};
use super::spares::{Spares, allocate};
use crate::error::{Fault, FaultResult};
use crate::storage::{File, OpenMode, Storage};

/// Small frames are gathered up to this size, so that one system call writes them all.
const GATHER_BYTES: usize = 256 * 1024;

/// Sizes of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalOptions {
    /// Bytes of a file; a larger frame gets a larger file.
    pub(crate) file_bytes: u64,
    /// How many files of former lives are kept for reuse.
    pub(crate) max_spares: usize,
}

/// The end of the log that is written to. One thread at a time uses it.
#[derive(Debug)]
pub(crate) struct Wal {
    storage: Arc<dyn Storage>,
    options: WalOptions,
    current: Option<Current>,
    /// Files before the current one, oldest first, that hold events which are in no segment yet.
    full: Vec<Full>,
    spares: Arc<Spares>,
    next_sequence: u64,
    /// Position that the next event gets.
    position: u64,
    /// Everything before this position is durable.
    durable: u64,
    poisoned: bool,
    gather: Vec<u8>,
    /// Whether another file was begun since that was asked last.
    rotated: bool,
}

/// The file that takes the next frame.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) file: Arc<dyn File>,
    pub(super) name: String,
    pub(super) sequence: u64,
    pub(super) offset: u64,
    pub(super) capacity: u64,
    pub(super) unsynced: bool,
}

/// A file that takes no more frames.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) name: String,
    /// Position after its last event.
    pub(super) end: u64,
}

/// What recovery found, from which writing goes on.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) position: u64,
    pub(super) current: Option<Current>,
    pub(super) full: Vec<Full>,
    pub(super) spares: Vec<String>,
    pub(super) next_sequence: u64,
}

impl Wal {
    /// Creates the writing end after recovery, which has made everything before its position durable.
    pub(super) fn new(storage: Arc<dyn Storage>, options: WalOptions, start: Start) -> Self {
        Self {
            spares: Arc::new(Spares::new(Arc::clone(&storage), options.file_bytes, start.spares)),
            storage,
            options,
            current: start.current,
            full: start.full,
            next_sequence: start.next_sequence,
            position: start.position,
            durable: start.position,
            poisoned: false,
            gather: Vec::new(),
            rotated: false,
        }
    }

    /// Returns the files that wait to be used.
    pub(crate) fn spares(&self) -> Arc<Spares> {
        Arc::clone(&self.spares)
    }

    /// Returns whether another file was begun since the last call.
    pub(crate) fn take_rotated(&mut self) -> bool {
        std::mem::take(&mut self.rotated)
    }

    /// Returns the position that the next event gets.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns whether an error made the log unusable.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Returns how many files hold events that are in no segment yet.
    pub(crate) fn files(&self) -> usize {
        self.full.len() + usize::from(self.current.is_some())
    }

    /// Makes room for frames of `bytes` in total, so that a full disk is found before anything is written.
    ///
    /// # Errors
    /// `Io` when there is no room: nothing changed and a later call may succeed.
    pub(crate) fn reserve(&mut self, bytes: u64) -> FaultResult<()> {
        if self.poisoned {
            return Err(Fault::Poisoned);
        }
        match &self.current {
            Some(current) if current.offset + bytes <= current.capacity => Ok(()),
            _ => self.rotate(bytes),
        }
    }

    /// Writes batches: each buffer is [`FRAME_HEADER_BYTES`] of room for the header, then the payload; the number says how
    /// many positions it takes. [`Self::reserve`] the sum of their [`frame_bytes`] first.
    ///
    /// # Errors
    /// `Io` when a write failed: none of the batches counts, and the log goes on in another file. `SyncFailed` when the sync
    /// failed: the log is poisoned.
    pub(crate) fn write(&mut self, batches: &mut [(&mut [u8], u32)], sync: bool) -> FaultResult<()> {
        let Some(current) = self.current.as_mut().filter(|_| !self.poisoned) else {
            return Err(Fault::Poisoned);
        };
        let mut gathered = Gather { bytes: &mut self.gather, at: current.offset, file: &current.file };
        let (mut position, mut offset) = (self.position, current.offset);
        let mut written = Ok(());
        for (buffer, events) in batches.iter_mut() {
            let payload_bytes = (buffer.len() - FRAME_HEADER_BYTES) as u32;
            let frame = Frame { kind: FrameKind::Batch, payload_bytes, position, durable: self.durable };
            frame.seal(buffer, current.sequence);
            written = gathered.add(buffer, offset);
            if written.is_err() {
                break;
            }
            offset += frame.padded_bytes();
            position += u64::from(*events);
        }
        if let Err(source) = written.and_then(|()| gathered.flush()) {
            return Err(self.abandon(source));
        }
        current.unsynced = true;
        current.offset = offset;
        self.position = position;
        if sync { self.sync() } else { Ok(()) }
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// `SyncFailed`, and the log is poisoned: after a failed sync the kernel may have dropped the dirty pages, so a second
    /// sync that succeeds would prove nothing.
    pub(crate) fn sync(&mut self) -> FaultResult<()> {
        if self.poisoned {
            return Err(Fault::Poisoned);
        }
        if let Some(current) = &mut self.current
            && current.unsynced
        {
            if let Err(source) = current.file.sync_data() {
                self.poisoned = true;
                return Err(Fault::SyncFailed { file: current.name.clone(), source });
            }
            current.unsynced = false;
        }
        self.durable = self.position;
        Ok(())
    }

    /// Writes the proof that everything before it is durable, when the store is closed.
    ///
    /// # Errors
    /// Those of a write or a sync.
    pub(crate) fn mark(&mut self) -> FaultResult<()> {
        self.sync()?;
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.offset + FRAME_HEADER_BYTES as u64 > current.capacity {
            return Ok(());
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let (position, durable) = (self.position, self.durable);
        let marker = Frame { kind: FrameKind::Marker, payload_bytes: 0, position, durable };
        marker.seal(&mut bytes, current.sequence);
        let written = current.file.write_at(&bytes, current.offset);
        written.map_err(|source| Fault::io("write", &current.name, source))?;
        current.offset += marker.padded_bytes();
        current.unsynced = true;
        self.sync()
    }

    /// Takes back the files whose events are all before `position`, which segments now hold.
    ///
    /// # Errors
    /// `Io` when a file cannot be renamed or removed.
    pub(crate) fn release(&mut self, position: u64) -> FaultResult<()> {
        let mut renamed_now = Vec::new();
        while self.full.first().is_some_and(|full| full.end <= position) {
            let full = self.full.remove(0);
            if self.spares.len() + renamed_now.len() < self.options.max_spares {
                let spare = full.name.replace(".wal", ".spare");
                let renamed = self.storage.rename(&full.name, &spare);
                renamed.map_err(|source| Fault::io("rename", &full.name, source))?;
                renamed_now.push(spare);
            } else {
                let removed = self.storage.remove(&full.name);
                removed.map_err(|source| Fault::io("remove", &full.name, source))?;
            }
        }
        if !renamed_now.is_empty() {
            // Before a spare gets another header its old name must be gone for good.
            let synced = self.storage.sync_dir(DIRECTORY);
            synced.map_err(|source| Fault::io("sync", DIRECTORY, source))?;
            self.spares.add(renamed_now);
        }
        Ok(())
    }

    /// Gives the room of files that wait to be used again back to the disk; returns whether there was one.
    pub(crate) fn remove_spares(&mut self) -> bool {
        let spares = self.spares.take_all();
        spares.iter().filter(|spare| self.storage.remove(spare).is_ok()).count() > 0
    }

    /// After a failed write the bytes behind the last good frame are unknown: the next frame goes to a fresh file, whose
    /// header says where it starts, so recovery never reads them.
    fn abandon(&mut self, source: io::Error) -> Fault {
        let Some(current) = self.current.take() else { return Fault::Poisoned };
        self.full.push(Full { name: current.name.clone(), end: self.position });
        // Without this, a crash before the next file exists could bring the refused batch back.
        let erased = current.file.write_at(&[0; FRAME_HEADER_BYTES], current.offset);
        match erased.and_then(|()| current.file.sync_data()) {
            Ok(()) => {
                self.durable = self.position;
                Fault::io("write", &current.name, source)
            }
            // Nobody knows how much of the batch is on the disk.
            Err(_) => {
                self.poisoned = true;
                Fault::SyncFailed { file: current.name, source }
            }
        }
    }

    fn rotate(&mut self, bytes: u64) -> FaultResult<()> {
        self.sync()?;
        let capacity = self.options.file_bytes.max(FILE_HEADER_BYTES + padded(bytes));
        let sequence = self.next_sequence;
        let name = format!("{DIRECTORY}/{sequence:016x}.wal");
        let (file, preparing, capacity) = self.prepare(sequence, capacity)?;
        let header = FileHeader { sequence, start: self.position };
        let io = |action, source| Fault::io(action, &name, source);
        file.write_at(&header.to_bytes(), 0).map_err(|source| io("write", source))?;
        if let Err(source) = file.sync_data() {
            self.poisoned = true;
            return Err(Fault::SyncFailed { file: preparing, source });
        }
        self.storage.rename(&preparing, &name).map_err(|source| io("rename", source))?;
        self.next_sequence += 1;
        self.rotated = true;
        if let Some(current) = self.current.take() {
            self.full.push(Full { name: current.name, end: self.position });
        }
        if let Err(source) = self.storage.sync_dir(DIRECTORY) {
            self.poisoned = true;
            return Err(Fault::SyncFailed { file: name, source });
        }
        let offset = FILE_HEADER_BYTES;
        self.current = Some(Current { file, name, sequence, offset, capacity, unsynced: false });
        Ok(())
    }

    /// Returns a file of at least `capacity` bytes that are really allocated, with its name for now.
    fn prepare(&mut self, sequence: u64, capacity: u64) -> FaultResult<(Arc<dyn File>, String, u64)> {
        let fault = |action, name: &str, source| Fault::io(action, name, source);
        while let Some(spare) = self.spares.take() {
            let file = self.storage.open(&spare, OpenMode::Write);
            let file = file.map_err(|source| fault("open", &spare, source))?;
            let length = file.bytes().map_err(|source| fault("stat", &spare, source))?;
            if length >= capacity {
                return Ok((file, spare, length));
            }
            self.storage.remove(&spare).map_err(|source| fault("remove", &spare, source))?;
        }
        let name = format!("{DIRECTORY}/{sequence:016x}.new");
        let file = allocate(&self.storage, &name, capacity)?;
        Ok((file, name, capacity))
    }
}

/// Frames that wait to be written with one system call.
struct Gather<'a> {
    bytes: &'a mut Vec<u8>,
    at: u64,
    file: &'a Arc<dyn File>,
}

impl Gather<'_> {
    fn add(&mut self, frame: &[u8], offset: u64) -> io::Result<()> {
        if self.bytes.len() + frame.len() > GATHER_BYTES {
            self.flush()?;
        }
        if frame.len() > GATHER_BYTES {
            return self.file.write_at(frame, offset);
        }
        if self.bytes.is_empty() {
            self.at = offset;
        }
        self.bytes.extend_from_slice(frame);
        let whole = padded(self.bytes.len() as u64) as usize;
        self.bytes.resize(whole, 0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = if self.bytes.is_empty() { Ok(()) } else { self.file.write_at(self.bytes, self.at) };
        self.bytes.clear();
        written
    }
}

/// Returns the bytes that a batch with a buffer of this length takes in the log.
pub(crate) fn frame_bytes(buffer_bytes: usize) -> u64 {
    padded(buffer_bytes as u64)
}
