//! A batch as it stands in the log, which is also how it is kept in memory.

use std::ops::RangeInclusive;

use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;

use crate::bytes::u32_at;
use crate::record;
use crate::segment::{IdHasher, IdOrder};
use crate::wal::FRAME_HEADER_BYTES;

/// Number of events u32, tenant 16 bytes; then for each event its length u32 and its record.
const HEAD_BYTES: usize = 20;
const LENGTH_BYTES: usize = 4;

/// A batch on its way into the log: room for the frame header, then the payload.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(crate) tenant: TenantId,
    pub(crate) buffer: Vec<u8>,
    /// Start of each record in the buffer.
    pub(crate) starts: Vec<u32>,
    /// Hash of each id.
    pub(crate) hashes: Vec<u128>,
    /// Between which orders the ids are.
    pub(crate) id_range: RangeInclusive<IdOrder>,
}

impl EncodedBatch {
    /// Encodes events and frees them.
    #[allow(clippy::cast_possible_truncation, reason = "the caller has checked that a batch is below 1 GiB")]
    pub(crate) fn encode(tenant: TenantId, events: Vec<Event>, hasher: IdHasher) -> Self {
        let mut buffer = Vec::with_capacity(FRAME_HEADER_BYTES + HEAD_BYTES + events.len() * 640);
        buffer.resize(FRAME_HEADER_BYTES, 0);
        buffer.extend_from_slice(&(events.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&tenant.to_bytes());
        let mut starts = Vec::with_capacity(events.len());
        let mut hashes = Vec::with_capacity(events.len());
        let mut id_range = IdOrder::NONE;
        let mut rest = events.into_iter();
        while let [event, next @ ..] = rest.as_slice() {
            next.first().inspect(|next| record::fetch(next));
            let length_at = buffer.len();
            buffer.extend_from_slice(&[0; LENGTH_BYTES]);
            starts.push(buffer.len() as u32);
            record::encode(event, &mut buffer);
            let length = (buffer.len() - length_at - LENGTH_BYTES) as u32;
            buffer[length_at..length_at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            let id = event.id.as_str().as_bytes();
            hashes.push(hasher.wide_hash(tenant, id));
            IdOrder::of(id).widen(&mut id_range);
            // Now, while what it holds is at hand.
            drop(rest.next());
        }
        Self { tenant, buffer, starts, hashes, id_range }
    }

    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns the bytes of an event.
    pub(crate) fn record(&self, row: usize) -> &[u8] {
        record_at(&self.buffer, self.starts[row])
    }

    /// Returns a batch of the chosen events only.
    #[allow(clippy::cast_possible_truncation, reason = "it is smaller than this one")]
    pub(crate) fn keep(self, keep: &[bool]) -> Self {
        let count = keep.iter().filter(|keep| **keep).count();
        if count == keep.len() {
            return self;
        }
        let mut buffer = self.buffer[..FRAME_HEADER_BYTES + HEAD_BYTES].to_vec();
        buffer[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 4].copy_from_slice(&(count as u32).to_le_bytes());
        let (mut starts, mut hashes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for row in (0..keep.len()).filter(|row| keep[*row]) {
            let record = self.record(row);
            buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
            starts.push(buffer.len() as u32);
            buffer.extend_from_slice(record);
            hashes.push(self.hashes[row]);
        }
        Self { tenant: self.tenant, buffer, starts, hashes, id_range: self.id_range }
    }
}

/// A batch that is in the log.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) tenant: TenantId,
    /// Position of the first event.
    pub(crate) position: u64,
    buffer: Vec<u8>,
    starts: Vec<u32>,
}

impl Batch {
    /// Takes over what was written.
    pub(crate) fn new(encoded: EncodedBatch, position: u64) -> Self {
        Self { tenant: encoded.tenant, position, buffer: encoded.buffer, starts: encoded.starts }
    }

    /// Reads a payload of the log; `None` if it is something else.
    pub(crate) fn read(payload: &[u8], position: u64) -> Option<Self> {
        let head = payload.get(..HEAD_BYTES)?;
        let tenant = TenantId::from_bytes(*head[4..].first_chunk()?);
        let mut starts = Vec::new();
        let mut at = HEAD_BYTES;
        for _ in 0..u32_at(head, 0) {
            let length = u32::from_le_bytes(*payload.get(at..)?.first_chunk()?);
            at += LENGTH_BYTES;
            starts.push(u32::try_from(at).ok()?);
            let end = at.checked_add(length as usize)?;
            record::Record::decode(payload.get(at..end)?)?;
            at = end;
        }
        (at == payload.len()).then(|| Self { tenant, position, buffer: payload.to_vec(), starts })
    }

    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns the bytes of an event.
    pub(crate) fn record(&self, row: usize) -> &[u8] {
        record_at(&self.buffer, self.starts[row])
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buffer.capacity() + self.starts.capacity() * 4
    }
}

fn record_at(buffer: &[u8], start: u32) -> &[u8] {
    let start = start as usize;
    &buffer[start..start + u32_at(buffer, start - LENGTH_BYTES) as usize]
}
