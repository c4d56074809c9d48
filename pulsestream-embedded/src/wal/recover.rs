//! Reading the log when the store is opened.

use std::io;
use std::sync::Arc;

use super::DIRECTORY;
use super::frame::{ALIGNMENT, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, Frame, FrameKind};
use super::log::{Current, Full, Start, Wal, WalOptions};
use crate::error::{Fault, FaultResult};
use crate::storage::{OpenMode, Storage};

/// Files above this size are refused rather than read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What the log held.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The writing end.
    pub(crate) wal: Wal,
    /// Bytes of frames that a power loss tore and that were cut.
    pub(crate) truncated_bytes: u64,
}

/// Reads every batch from position `sealed` on and hands it to `apply` in order: first position, payload. A payload starts
/// with its number of events, u32.
///
/// # Errors
/// `Corrupt` when durable frames are damaged or missing, `Newer` for a later format, `Io`, and those of `apply`.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    options: WalOptions,
    sealed: u64,
    mut apply: impl FnMut(u64, &[u8]) -> FaultResult<()>,
) -> FaultResult<Recovered> {
    let Listing { files, spares, unfinished } = list(storage)?;
    let headers = files.iter().map(|name| read_header(storage, name)).collect::<FaultResult<Vec<_>>>()?;
    let mut expected = headers.first().map_or(sealed, |header| header.start);
    if expected > sealed {
        return Err(Fault::corrupt(&files[0], 24, "events before this file are missing"));
    }
    let mut start = Start {
        position: sealed,
        current: None,
        full: Vec::with_capacity(files.len()),
        spares,
        next_sequence: headers.last().map_or(1, |header| header.sequence + 1),
    };
    let mut truncated_bytes = 0;
    for (index, (name, header)) in files.iter().zip(&headers).enumerate() {
        let limit = headers.get(index + 1).map(|next| next.start);
        let bytes = read_file(storage, name)?;
        let mut replay = |position, payload: &[u8]| {
            if position < sealed { Ok(()) } else { apply(position, payload) }
        };
        let end = read_frames(name, *header, &bytes, limit, &mut expected, &mut replay)?;
        match limit {
            Some(limit) if limit != expected => {
                return Err(Fault::corrupt(name, end, "a durable frame is damaged or missing"));
            }
            Some(_) => start.full.push(Full { name: name.clone(), end: expected }),
            None => {
                truncated_bytes = torn_tail(name, *header, &bytes, end, expected)?;
                let capacity = bytes.len() as u64;
                let current = continue_file(storage, name, header.sequence, end, capacity)?;
                if truncated_bytes == 0 && expected >= sealed {
                    start.current = Some(current);
                } else {
                    start.full.push(Full { name: name.clone(), end: expected });
                }
            }
        }
    }
    for name in unfinished {
        storage.remove(&name).map_err(|source| Fault::io("remove", &name, source))?;
    }
    if !start.spares.is_empty() {
        storage.sync_dir(DIRECTORY).map_err(|source| Fault::io("sync", DIRECTORY, source))?;
    }
    start.position = expected.max(sealed);
    let wal = Wal::new(Arc::clone(storage), options, start);
    Ok(Recovered { wal, truncated_bytes })
}

#[derive(Default)]
struct Listing {
    files: Vec<String>,
    spares: Vec<String>,
    /// Files that a crash left while they were prepared.
    unfinished: Vec<String>,
}

fn list(storage: &Arc<dyn Storage>) -> FaultResult<Listing> {
    let listed = storage.list(DIRECTORY).map_err(|source| Fault::io("list", DIRECTORY, source))?;
    let mut listing = Listing::default();
    for name in listed {
        let path = format!("{DIRECTORY}/{name}");
        if name.ends_with(".wal") {
            listing.files.push(path);
        } else if name.ends_with(".spare") {
            listing.spares.push(path);
        } else if name.ends_with(".new") {
            listing.unfinished.push(path);
        }
    }
    Ok(listing)
}

/// Walks the frames of one file, up to the position where the next file starts, and returns the offset after the last one.
fn read_frames(
    name: &str,
    header: FileHeader,
    bytes: &[u8],
    limit: Option<u64>,
    expected: &mut u64,
    apply: &mut impl FnMut(u64, &[u8]) -> FaultResult<()>,
) -> FaultResult<u64> {
    let mut offset = FILE_HEADER_BYTES;
    while limit.is_none_or(|limit| *expected < limit) {
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let Some((frame, payload)) = Frame::read(rest, header.sequence) else { break };
        if frame.position != *expected {
            return Err(Fault::corrupt(name, offset, "positions do not follow each other"));
        }
        if frame.kind == FrameKind::Batch {
            let count = payload.first_chunk().map(|count| u32::from_le_bytes(*count));
            let count = count.ok_or_else(|| Fault::corrupt(name, offset, "a batch without its count"))?;
            apply(frame.position, payload)?;
            *expected += u64::from(count);
        }
        offset += frame.padded_bytes();
    }
    Ok(offset)
}

/// Decides whether what follows the last good frame was torn by a power loss, and returns how many bytes of frames it cuts.
///
/// # Errors
/// `Corrupt` when a later frame proves that the damaged place was durable.
fn torn_tail(name: &str, header: FileHeader, bytes: &[u8], end: u64, expected: u64) -> FaultResult<u64> {
    let mut cut = Frame::torn_bytes(bytes.get(end as usize..).unwrap_or_default(), expected);
    let mut offset = end;
    while offset + FRAME_HEADER_BYTES as u64 <= bytes.len() as u64 {
        match Frame::read(&bytes[offset as usize..], header.sequence) {
            Some((frame, _)) if frame.durable > expected => {
                return Err(Fault::corrupt(name, end, "a durable frame is damaged"));
            }
            Some((frame, _)) => {
                offset += frame.padded_bytes();
                cut = cut.max(offset - end);
            }
            None => offset += ALIGNMENT,
        }
    }
    Ok(cut)
}

/// Opens the last file to go on behind its last frame, and makes what was read from it durable: a killed process may have
/// left it in the page cache only.
fn continue_file(
    storage: &Arc<dyn Storage>,
    name: &str,
    sequence: u64,
    offset: u64,
    capacity: u64,
) -> FaultResult<Current> {
    let file = storage.open(name, OpenMode::Write).map_err(|source| Fault::io("open", name, source))?;
    file.sync_data().map_err(|source| Fault::SyncFailed { file: name.to_owned(), source })?;
    Ok(Current { file, name: name.to_owned(), sequence, offset, capacity, unsynced: false })
}

fn read_header(storage: &Arc<dyn Storage>, name: &str) -> FaultResult<FileHeader> {
    let fault = |source| Fault::io("read", name, source);
    let file = storage.open(name, OpenMode::Read).map_err(fault)?;
    let mut bytes = [0; FILE_HEADER_BYTES as usize];
    file.read_at(&mut bytes, 0).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => Fault::corrupt(name, 0, "the file is shorter than its header"),
        _ => fault(source),
    })?;
    let header = FileHeader::read(&bytes, name)?;
    if name != format!("{DIRECTORY}/{:016x}.wal", header.sequence) {
        return Err(Fault::corrupt(name, 16, "the file has another file's name"));
    }
    Ok(header)
}

fn read_file(storage: &Arc<dyn Storage>, name: &str) -> FaultResult<Vec<u8>> {
    let fault = |source| Fault::io("read", name, source);
    let file = storage.open(name, OpenMode::Read).map_err(fault)?;
    let length = file.bytes().map_err(fault)?;
    if length > MAX_FILE_BYTES {
        return Err(Fault::corrupt(name, length, "the file is larger than any log file"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(&mut bytes, 0).map_err(fault)?;
    Ok(bytes)
}
