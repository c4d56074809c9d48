//! A fast keyed hash for tables in memory. It never reaches the disk.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes short byte strings by folding products. Its key is random, so that nobody can choose values that collide; SipHash, which
/// promises more, takes several times as long for the short values of columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FastHash {
    key: u64,
    multiplier: u64,
}

impl Default for FastHash {
    fn default() -> Self {
        let random = RandomState::new();
        Self { key: random.hash_one(0_u8), multiplier: random.hash_one(1_u8) | 1 }
    }
}

impl FastHash {
    /// Returns the hash of bytes that belong to a kind.
    pub(crate) fn of(self, kind: u8, bytes: &[u8]) -> u64 {
        let mut state = self.key ^ (bytes.len() as u64) << 8 ^ u64::from(kind);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state = self.fold(state ^ u64::from_le_bytes(*word));
        }
        // The length is in the state already, so that bytes may be taken twice and nothing need be copied.
        let last = match (bytes.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (Some(last), ..) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => match rest {
                [first, .., last] => {
                    u64::from(*first) << 16 | u64::from(rest[rest.len() / 2]) << 8 | u64::from(*last)
                }
                [only] => u64::from(*only),
                [] => 0,
            },
        };
        // Twice, so that the low bits, which choose the slot, depend on every bit.
        self.fold(self.fold(state ^ last).rotate_left(32))
    }

    #[allow(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
    fn fold(self, value: u64) -> u64 {
        let product = u128::from(value ^ self.key) * u128::from(self.multiplier);
        (product as u64) ^ (product >> 64) as u64
    }
}

impl BuildHasher for FastHash {
    type Hasher = FastHasher;

    fn build_hasher(&self) -> FastHasher {
        FastHasher { hash: *self, state: 0 }
    }
}

/// [`FastHash`] for maps of the standard library.
#[derive(Debug)]
pub(crate) struct FastHasher {
    hash: FastHash,
    state: u64,
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.state = self.state.rotate_left(5) ^ self.hash.of(0, bytes);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn values_of_every_length_are_told_apart_at_every_byte() {
        let hash = FastHash::default();
        for length in 0..=70 {
            let value: Vec<u8> = (0..length).map(|index| b'a' + index % 7).collect();
            let mut hashes = HashSet::from([hash.of(0, &value)]);
            for at in 0..value.len() {
                let mut other = value.clone();
                other[at] ^= 1;
                assert!(hashes.insert(hash.of(0, &other)), "length {length}, byte {at}");
            }
        }
    }

    #[test]
    fn numbered_values_spread_over_the_slots() {
        let hash = FastHash::default();
        let of = |number: u32| hash.of(1, format!("user-{number}").as_bytes());
        let hashes: HashSet<u64> = (0..50_000).map(of).collect();
        assert_eq!(hashes.len(), 50_000);
        // 50,000 balls leave 1/e of 50,000 slots empty; a hash that clusters leaves more.
        let slots: HashSet<u64> = hashes.iter().map(|hash| hash % 65_536).collect();
        assert!(slots.len() > 33_000, "{}", slots.len());
        assert_ne!(hash.of(1, b"a"), hash.of(2, b"a"));
        assert_ne!(hash.of(1, b""), hash.of(1, b"\0"));
        assert_ne!(hash.of(1, b"12345678"), FastHash::default().of(1, b"12345678"));
    }
}
