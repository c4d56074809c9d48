//! Blocks of texts: a run of rows, compressed together.

use crate::bytes::{Reader, put_varint};

/// Unpacked bytes after which a block is closed.
pub(super) const BLOCK_BYTES: usize = 16 * 1024;

/// Gathers the texts of one block.
#[derive(Debug, Default)]
pub(super) struct TextBlockBuilder {
    lengths: Vec<u8>,
    bytes: Vec<u8>,
    rows: u32,
}

impl TextBlockBuilder {
    pub(super) fn push(&mut self, text: Option<&[u8]>) {
        put_varint(&mut self.lengths, text.map_or(0, |text| text.len() as u64 + 1));
        self.bytes.extend_from_slice(text.unwrap_or_default());
        self.rows += 1;
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() + self.lengths.len() >= BLOCK_BYTES
    }

    /// Returns the block: number of rows, lengths (0 for none, else one more), bytes. Starts a new one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.lengths.len() + self.bytes.len() + 5);
        put_varint(&mut block, u64::from(self.rows));
        block.extend_from_slice(&self.lengths);
        block.extend_from_slice(&self.bytes);
        self.lengths.clear();
        self.bytes.clear();
        self.rows = 0;
        block
    }
}

/// A block in memory.
#[derive(Debug)]
pub(super) struct TextBlock {
    /// Start of each text in the bytes; a missing text starts beyond them.
    starts: Vec<u32>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl TextBlock {
    /// Reads a block; `None` if the bytes are something else.
    pub(super) fn read(block: Vec<u8>) -> Option<Self> {
        let mut reader = Reader(&block);
        let rows = reader.length()?;
        let mut lengths = Vec::with_capacity(rows.min(block.len()));
        for _ in 0..rows {
            lengths.push(u32::try_from(reader.varint()?).ok()?);
        }
        let mut at = u32::try_from(block.len() - reader.0.len()).ok()?;
        let (mut starts, mut ends) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for length in lengths {
            match length.checked_sub(1) {
                None => {
                    starts.push(u32::MAX);
                    ends.push(u32::MAX);
                }
                Some(length) => {
                    starts.push(at);
                    at = at.checked_add(length)?;
                    ends.push(at);
                }
            }
        }
        (at as usize == block.len()).then_some(Self { starts, ends, bytes: block })
    }

    pub(super) fn rows(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        self.bytes.get(self.starts[row] as usize..self.ends[row] as usize)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.starts.capacity() + self.ends.capacity()) * 4 + self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_missing_is_not_empty() {
        let mut builder = TextBlockBuilder::default();
        let texts = [Some("a"), None, Some(""), Some("longer text"), None];
        for text in texts {
            builder.push(text.map(str::as_bytes));
        }
        let block = TextBlock::read(builder.take()).unwrap();
        for (row, text) in texts.into_iter().enumerate() {
            assert_eq!(block.get(row), text.map(str::as_bytes));
        }
        assert_eq!(block.rows(), 5);
        assert!(TextBlock::read(vec![1, 9, 0]).is_none());
    }
}
