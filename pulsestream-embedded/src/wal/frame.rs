//! The bytes of a frame and of a file header.

use crate::bytes::{u32_at, u64_at};
use crate::error::{Fault, FaultResult};

/// Bytes before the payload of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// Frames start at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;
/// Bytes before the first frame of a file.
pub(super) const FILE_HEADER_BYTES: u64 = 64;
/// Version of the log format.
pub(super) const VERSION: u32 = 1;

const FILE_MAGIC: &[u8; 8] = b"PSWAL\r\n\0";
const FRAME_MAGIC: u32 = 0x4652_5350;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    /// A batch of events.
    Batch = 1,
    /// Nothing but the proof that everything before is durable.
    Marker = 2,
}

/// The header of a frame: magic u32, CRC-32C u32 of the rest and the payload, payload bytes u32, kind u8, zero u8 x3, first
/// position u64, durable position u64. All integers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    /// Bytes of the payload.
    pub(super) payload_bytes: u32,
    /// Position of the first event.
    pub(super) position: u64,
    /// Everything before this position was durable when the frame was written.
    pub(super) durable: u64,
}

impl Frame {
    /// Fills the first [`FRAME_HEADER_BYTES`] of `bytes`, whose rest is the payload, for the file with sequence `file`.
    pub(super) fn seal(self, bytes: &mut [u8], file: u64) {
        bytes[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&[self.kind as u8, 0, 0, 0]);
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        let checksum = checksum(file, &bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the frame at the start of `bytes`, or `None` if there is no whole frame of the file `file`.
    pub(super) fn read(bytes: &[u8], file: u64) -> Option<(Self, &[u8])> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        if u32_at(header, 0) != FRAME_MAGIC {
            return None;
        }
        let payload_bytes = u32_at(header, 8);
        let end = FRAME_HEADER_BYTES.checked_add(payload_bytes as usize)?;
        let whole = bytes.get(8..end)?;
        if checksum(file, whole) != u32_at(header, 4) {
            return None;
        }
        let kind = match header[12] {
            1 => FrameKind::Batch,
            2 => FrameKind::Marker,
            _ => return None,
        };
        let frame = Self { kind, payload_bytes, position: u64_at(header, 16), durable: u64_at(header, 24) };
        Some((frame, &bytes[FRAME_HEADER_BYTES..end]))
    }

    /// Returns how many bytes a damaged frame at the start of `bytes` claims, if its header names `position`.
    pub(super) fn torn_bytes(bytes: &[u8], position: u64) -> u64 {
        match bytes.get(..FRAME_HEADER_BYTES) {
            Some(header) if u32_at(header, 0) == FRAME_MAGIC && u64_at(header, 16) == position => {
                (FRAME_HEADER_BYTES as u64 + u64::from(u32_at(header, 8))).min(bytes.len() as u64)
            }
            _ => 0,
        }
    }

    /// Returns the bytes the frame takes in its file.
    pub(super) fn padded_bytes(self) -> u64 {
        padded(FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes))
    }
}

/// Rounds up to the alignment of frames.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The header of a file: magic, version u32, flags u32 (zero), sequence u64, start position u64, zeros, CRC-32C u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Number of the file; it is mixed into every checksum, so that frames of a former life are not read.
    pub(super) sequence: u64,
    /// Position of the first event of the file.
    pub(super) start: u64,
}

impl FileHeader {
    /// Returns the bytes of the header.
    pub(super) fn to_bytes(self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut bytes = [0; FILE_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `Newer` for a version or a flag this code does not know, `Corrupt` for anything else that is wrong.
    pub(super) fn read(bytes: &[u8; FILE_HEADER_BYTES as usize], file: &str) -> FaultResult<Self> {
        if &bytes[..8] != FILE_MAGIC {
            return Err(Fault::corrupt(file, 0, "no log file"));
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(Fault::corrupt(file, 0, "checksum of the file header"));
        }
        let (version, flags) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if version != VERSION || flags != 0 {
            return Err(Fault::Newer { file: file.to_owned(), version });
        }
        Ok(Self { sequence: u64_at(bytes, 16), start: u64_at(bytes, 24) })
    }
}

fn checksum(file: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file.to_le_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = vec![7; FRAME_HEADER_BYTES + 40];
        let frame = Frame { kind: FrameKind::Batch, payload_bytes: 40, position: 9, durable: 3 };
        frame.seal(&mut bytes, 5);
        assert_eq!(Frame::read(&bytes, 5).unwrap().0, frame);
        assert!(Frame::read(&bytes, 6).is_none(), "a frame of another file");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::read(&bytes, 5).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn file_header_round_trips_and_refuses() {
        let header = FileHeader { sequence: 4, start: 77 };
        let bytes = header.to_bytes();
        assert_eq!(FileHeader::read(&bytes, "f").unwrap(), header);
        let mut newer = bytes;
        newer[8] = 2;
        let checksum = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(FileHeader::read(&newer, "f"), Err(Fault::Newer { version: 2, .. })));
        let mut damaged = bytes;
        damaged[20] ^= 1;
        assert!(matches!(FileHeader::read(&damaged, "f"), Err(Fault::Corrupt { .. })));
    }
}
