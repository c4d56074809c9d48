//! Ids of a segment: the ids themselves, fingerprints that say where an id may be, and an index that says where it is.

use std::hash::Hasher;
use std::ops::{Range, RangeInclusive};

use pulsestream_core::id::TenantId;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::bytes::{Reader, put_varint};

/// Hashes (tenant, id) with the key of the store, so that nobody can choose ids that collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdHasher([u8; 16]);

impl IdHasher {
    /// Uses the key of the store.
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// Returns the hash of an id of a tenant, 128 bits of SipHash-1-3: wide enough to stand for the id itself.
    pub(crate) fn wide_hash(self, tenant: TenantId, id: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&tenant.to_bytes());
        hasher.write(id);
        hasher.finish128().as_u128()
    }

    /// Returns the low half of the hash, which filters and indexes use.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub(crate) fn hash(self, tenant: TenantId, id: &[u8]) -> u64 {
        self.wide_hash(tenant, id) as u64
    }
}

/// The first bytes of an id, filled up with zeros. Ids that begin with the time or a number, as UUIDs of version 7 and ULIDs do, perhaps behind
/// a prefix, come in this order, so that most segments cannot have a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IdOrder([u128; 2]);

impl IdOrder {
    pub(super) const BYTES: usize = 32;
    const LEAST: Self = Self([0; 2]);
    const GREATEST: Self = Self([u128::MAX; 2]);
    /// Where no id is.
    pub(crate) const NONE: RangeInclusive<Self> = Self::GREATEST..=Self::LEAST;
    /// Where any id may be.
    pub(super) const ALL: RangeInclusive<Self> = Self::LEAST..=Self::GREATEST;

    /// Returns where an id stands.
    pub(crate) fn of(id: &[u8]) -> Self {
        let mut first = [0; Self::BYTES];
        let length = id.len().min(first.len());
        first[..length].copy_from_slice(&id[..length]);
        Self::from_bytes(first)
    }

    /// Makes a range reach to this place too.
    pub(crate) fn widen(self, range: &mut RangeInclusive<Self>) {
        if !range.contains(&self) {
            *range = self.min(*range.start())..=self.max(*range.end());
        }
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let half = |half: &[u8]| half.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        Self([half(&bytes[..16]), half(&bytes[16..])])
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.0[0].to_be_bytes());
        bytes[16..].copy_from_slice(&self.0[1].to_be_bytes());
        bytes
    }
}

/// The ids of a segment by row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// All of them are UUIDs in their canonical form.
    Uuids(Vec<[u8; 16]>),
    Texts {
        ends: Vec<u32>,
        bytes: Vec<u8>,
    },
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self::Uuids(Vec::new())
    }

    /// Adds the id of the next row.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "ids have at most 128 bytes and a segment fewer than 2^24 rows"
    )]
    pub(crate) fn push(&mut self, id: &[u8]) {
        if let Self::Uuids(uuids) = self {
            if let Some(uuid) = parse_uuid(id) {
                uuids.push(uuid);
                return;
            }
            let mut texts = Self::Texts { ends: Vec::new(), bytes: Vec::new() };
            for uuid in uuids.iter() {
                texts.push(&format_uuid(uuid));
            }
            *self = texts;
        }
        if let Self::Texts { ends, bytes } = self {
            bytes.extend_from_slice(id);
            ends.push(bytes.len() as u32);
        }
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Uuids(uuids) => uuids.len(),
            Self::Texts { ends, .. } => ends.len(),
        }
    }

    /// Hands the id of a row to `visit`.
    pub(crate) fn with<T>(&self, row: usize, visit: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Uuids(uuids) => visit(&format_uuid(&uuids[row])),
            Self::Texts { ends, bytes } => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before] as usize);
                visit(&bytes[start..ends[row] as usize])
            }
        }
    }

    /// Returns between which orders the ids of some rows are.
    pub(super) fn orders(&self, rows: Range<u32>) -> RangeInclusive<IdOrder> {
        let mut range = IdOrder::NONE;
        rows.for_each(|row| self.with(row as usize, IdOrder::of).widen(&mut range));
        range
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Uuids(uuids) => uuids.capacity() * 16,
            Self::Texts { ends, bytes } => ends.capacity() * 4 + bytes.capacity(),
        }
    }

    /// Writes them: UUIDs as 16 planes, texts as lengths and bytes.
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uuids(uuids) => {
                for plane in 0..16 {
                    out.extend(uuids.iter().map(|uuid| uuid[plane]));
                }
            }
            Self::Texts { ends, bytes } => {
                let mut start = 0;
                for end in ends {
                    put_varint(out, u64::from(end - start));
                    start = *end;
                }
                out.extend_from_slice(bytes);
            }
        }
    }

    pub(super) fn unpack_uuids(bytes: &[u8], rows: usize) -> Option<Self> {
        if bytes.len() != rows * 16 {
            return None;
        }
        let mut uuids = vec![[0; 16]; rows];
        for (plane, bytes) in bytes.chunks_exact(rows.max(1)).enumerate() {
            for (uuid, byte) in uuids.iter_mut().zip(bytes) {
                uuid[plane] = *byte;
            }
        }
        Some(Self::Uuids(uuids))
    }

    /// Takes the bytes over, so that not all ids are there twice meanwhile.
    pub(super) fn unpack_texts(mut bytes: Vec<u8>, rows: usize) -> Option<Self> {
        let mut reader = Reader(&bytes);
        let mut ends = Vec::with_capacity(rows);
        let mut end = 0_u32;
        for _ in 0..rows {
            end = end.checked_add(u32::try_from(reader.varint()?).ok()?)?;
            ends.push(end);
        }
        let lengths = bytes.len() - reader.0.len();
        if reader.0.len() != end as usize {
            return None;
        }
        bytes.drain(..lengths);
        Some(Self::Texts { ends, bytes })
    }
}

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Reads a lower-case hyphenated UUID.
pub(crate) fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    fn nibble(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    if text.len() != 36 || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut uuid = [0; 16];
    let mut at = 0;
    for byte in &mut uuid {
        at += usize::from(HYPHENS.contains(&at));
        *byte = nibble(text[at])? << 4 | nibble(text[at + 1])?;
        at += 2;
    }
    Some(uuid)
}

/// Writes a UUID lower-case and hyphenated.
pub(crate) fn format_uuid(uuid: &[u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in uuid {
        at += usize::from(HYPHENS.contains(&at));
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Rows for each bucket of a filter or an index, on average.
const BUCKET_ROWS: usize = 8;

/// The number of bits that choose the bucket.
fn bucket_bits(rows: usize) -> u32 {
    (rows / BUCKET_ROWS).max(1).next_power_of_two().trailing_zeros()
}

#[allow(clippy::cast_possible_truncation, reason = "at most 2^32 buckets")]
fn bucket(hash: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { (hash >> (64 - bits)) as usize }
}

/// Starts of the buckets for rows with these hashes: bucket `n` is `starts[n]..starts[n + 1]`.
fn starts(hashes: &[u64], bits: u32) -> Vec<u32> {
    let mut starts = vec![0_u32; (1 << bits) + 1];
    for hash in hashes {
        starts[bucket(*hash, bits) + 1] += 1;
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    starts
}

/// 24 bits of the hash of each id, in buckets: an id that is not there passes once in two million times.
///
/// A Bloom filter of the same size lets through more, and answers with several cache misses.
#[derive(Debug)]
pub(crate) struct IdFilter {
    bits: u32,
    starts: Vec<u32>,
    fingerprints: Vec<[u8; 3]>,
    /// A bit for each fingerprint, in memory only: most ids that are not there are told by one look.
    seen: Vec<u64>,
}

/// Bits of `seen` for each row.
const SEEN_BITS: usize = 8;

/// Returns the word and the bit of a hash, of which the low 24 bits count.
#[allow(clippy::cast_possible_truncation, reason = "at most 2^24 bits")]
fn place(hash: u64, words: &[u64]) -> (usize, u64) {
    let bits = words.len() as u64 * 64;
    let at = ((hash & 0xff_ffff) * bits) >> 24;
    ((at / 64) as usize, 1 << (at % 64))
}

fn fingerprint(hash: u64) -> [u8; 3] {
    let bytes = hash.to_le_bytes();
    [bytes[0], bytes[1], bytes[2]]
}

impl IdFilter {
    pub(super) fn new(hashes: &[u64]) -> Self {
        let bits = bucket_bits(hashes.len());
        let starts = starts(hashes, bits);
        let mut next = starts.clone();
        let mut fingerprints = vec![[0; 3]; hashes.len()];
        for hash in hashes {
            let slot = &mut next[bucket(*hash, bits)];
            fingerprints[*slot as usize] = fingerprint(*hash);
            *slot += 1;
        }
        Self::of(bits, starts, fingerprints)
    }

    fn of(bits: u32, starts: Vec<u32>, fingerprints: Vec<[u8; 3]>) -> Self {
        // No more than there are fingerprints.
        let size = (fingerprints.len() * SEEN_BITS).clamp(64, 1 << 24);
        let mut this = Self { bits, starts, fingerprints, seen: vec![0; size.div_ceil(64)] };
        for [low, middle, high] in &this.fingerprints {
            let (word, mask) = place(u64::from_le_bytes([*low, *middle, *high, 0, 0, 0, 0, 0]), &this.seen);
            this.seen[word] |= mask;
        }
        this
    }

    /// Returns whether an id with this hash may be there.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let (word, mask) = place(hash, &self.seen);
        if self.seen[word] & mask == 0 {
            return false;
        }
        let bucket = bucket(hash, self.bits);
        let (start, end) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        self.fingerprints[start..end].contains(&fingerprint(hash))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.starts.capacity() * 4 + self.fingerprints.capacity() * 3 + self.seen.capacity() * 8
    }

    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        for pair in self.starts.windows(2) {
            put_varint(out, u64::from(pair[1] - pair[0]));
        }
        out.extend(self.fingerprints.iter().flatten());
    }

    pub(super) fn unpack(bytes: &[u8], rows: usize) -> Option<Self> {
        let bits = bucket_bits(rows);
        let mut reader = Reader(bytes);
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        starts.push(0);
        let mut end = 0_u32;
        for _ in 0..1_usize << bits {
            end = end.checked_add(u32::try_from(reader.varint()?).ok()?)?;
            starts.push(end);
        }
        let (fingerprints, rest) = reader.0.as_chunks::<3>();
        if end as usize != rows || fingerprints.len() != rows || !rest.is_empty() {
            return None;
        }
        Some(Self::of(bits, starts, fingerprints.to_vec()))
    }
}

/// The rows of a segment by the hash of their id.
#[derive(Debug)]
pub(crate) struct IdIndex {
    bits: u32,
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl IdIndex {
    #[allow(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 rows")]
    /// Indexes rows by the hashes of their ids.
    pub(crate) fn new(hashes: &[u64]) -> Self {
        let bits = bucket_bits(hashes.len());
        let starts = starts(hashes, bits);
        let mut next = starts.clone();
        let mut rows = vec![0; hashes.len()];
        for (row, hash) in hashes.iter().enumerate() {
            let slot = &mut next[bucket(*hash, bits)];
            rows[*slot as usize] = row as u32;
            *slot += 1;
        }
        Self { bits, starts, rows }
    }

    /// Returns the rows whose id may have this hash.
    pub(crate) fn candidates(&self, hash: u64) -> &[u32] {
        let bucket = bucket(hash, self.bits);
        &self.rows[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    /// Returns the bytes held.
    pub(crate) fn heap_bytes(&self) -> usize {
        (self.starts.capacity() + self.rows.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_kept_as_bytes_until_something_else_comes() {
        let uuid = b"0190f3a0-1234-7abc-8def-0123456789ab";
        assert_eq!(&format_uuid(&parse_uuid(uuid).unwrap()), uuid);
        for other in ["", "0190F3A0-1234-7abc-8def-0123456789ab", "0190f3a0x1234-7abc-8def-0123456789ab"] {
            assert!(parse_uuid(other.as_bytes()).is_none());
        }
        let mut ids = Ids::new();
        ids.push(uuid);
        ids.push(uuid);
        let mut bytes = Vec::new();
        ids.pack(&mut bytes);
        assert_eq!(Ids::unpack_uuids(&bytes, 2).unwrap(), ids);
        ids.push(b"order-1");
        let mut bytes = Vec::new();
        ids.pack(&mut bytes);
        let back = Ids::unpack_texts(bytes.clone(), 3).unwrap();
        assert_eq!(back, ids);
        assert_eq!((0..3).map(|row| back.with(row, <[u8]>::len)).collect::<Vec<_>>(), [36, 36, 7]);
    }

    #[test]
    fn ids_that_begin_with_the_time_are_in_its_order() {
        let mut ids = Ids::new();
        for id in [
            "0190f3a0-1234-7abc-8def-0123456789ab",
            "0190f3a0-1233-7fff-8def-0123456789ab",
            "0190f3a1-0000-7000-8000-000000000000",
        ] {
            ids.push(id.as_bytes());
        }
        let order = |id: &str| IdOrder::of(id.as_bytes());
        let expected = order("0190f3a0-1233-7fff-8def-01234567")..=order("0190f3a1-0000-7000-8000-00000000");
        assert_eq!(ids.orders(0..3), expected);
        ids.push(b"a");
        assert_eq!(ids.orders(0..3), expected, "the same when one id is no UUID");
        assert_eq!(ids.orders(3..4), order("a")..=order("a"));
        assert!(order("") < order("a") && order("a") < order("ab") && order("ab") < order("b"));
    }

    #[test]
    fn filter_and_index_find_every_id() {
        let hasher = IdHasher::new([7; 16]);
        let tenant = TenantId::from_name("a");
        for rows in [0, 1, 7, 1_000, 20_000] {
            let hash = |row: usize| hasher.hash(tenant, format!("id {row}").as_bytes());
            let hashes: Vec<u64> = (0..rows).map(hash).collect();
            let filter = IdFilter::new(&hashes);
            let mut bytes = Vec::new();
            filter.pack(&mut bytes);
            let filter = IdFilter::unpack(&bytes, rows).unwrap();
            let index = IdIndex::new(&hashes);
            for (row, hash) in hashes.iter().enumerate() {
                assert!(filter.may_hold(*hash));
                assert!(index.candidates(*hash).contains(&(row as u32)));
            }
            let wrong = (rows..rows + 20_000).filter(|row| filter.may_hold(hash(*row))).count();
            assert!(wrong < 5, "{wrong} of 20,000 pass a filter of {rows}");
        }
    }
}
