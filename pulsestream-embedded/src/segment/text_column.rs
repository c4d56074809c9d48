//! A text field while a segment is written: a dictionary as long as it is worth it, else blocks of texts.

use super::format::{Block, ColumnName, Encoding};
use super::output::Output;
use super::text::TextBlockBuilder;
use crate::column::DictBuilder;
use crate::error::FaultResult;
use crate::field::TextField;

/// A dictionary of a wide field holds so many bytes before it is looked at whether it is worth it.
const MAX_TEXT_BYTES: usize = 512 << 10;

/// The texts of a field so far.
pub(super) enum TextColumn {
    /// May become a dictionary.
    Dict(DictBuilder),
    /// Blocks of texts.
    Blocks(TextBlocks),
}

/// Blocks that are written, and the one that is gathered.
pub(super) struct TextBlocks {
    current: TextBlockBuilder,
    blocks: Vec<Block>,
    first_row: u32,
    present: bool,
}

impl TextColumn {
    pub(super) fn new(field: TextField) -> Self {
        match field {
            TextField::Tags | TextField::Payload | TextField::Metadata | TextField::RequestId => {
                Self::Blocks(TextBlocks::new())
            }
            _ => Self::Dict(DictBuilder::default()),
        }
    }

    /// Adds the text of the next row.
    pub(super) fn push(
        &mut self,
        field: TextField,
        text: Option<&[u8]>,
        out: &mut Output,
    ) -> FaultResult<()> {
        match self {
            Self::Dict(builder) => builder.push_text(text),
            Self::Blocks(blocks) => blocks.push(text, out)?,
        }
        self.reconsider(field, out)
    }

    /// Adds the texts of the next rows, which is quicker than one after the other.
    pub(super) fn push_all<'a>(
        &mut self,
        field: TextField,
        mut texts: impl Iterator<Item = Option<&'a [u8]>>,
        out: &mut Output,
    ) -> FaultResult<()> {
        match self {
            Self::Dict(builder) => builder.push_texts(texts),
            Self::Blocks(blocks) => texts.try_for_each(|text| blocks.push(text, out))?,
        }
        self.reconsider(field, out)
    }

    /// Goes on as blocks in a wide field whose texts are mostly different, so that it does not fill the memory.
    fn reconsider(&mut self, field: TextField, out: &mut Output) -> FaultResult<()> {
        let Self::Dict(builder) = self else { return Ok(()) };
        let is_large = builder.distinct() > 4_096 || builder.text_bytes() > MAX_TEXT_BYTES;
        if field.is_wide() && is_large && builder.distinct() > builder.rows() / 4 {
            *self = Self::Blocks(blocks_of(builder, out)?);
        }
        Ok(())
    }

    /// Writes the rest and adds the column, unless no row has a text.
    pub(super) fn finish(self, field: TextField, out: &mut Output) -> FaultResult<()> {
        let blocks = match self {
            Self::Dict(builder) if builder.distinct() == 0 => return Ok(()),
            Self::Dict(builder) => {
                let is_wide = field.is_wide() && builder.distinct() > (builder.rows() / 4).max(256);
                if !is_wide {
                    let blocks = out.dict(&builder.finish())?;
                    out.add(ColumnName::Text(field), Encoding::Dict, blocks);
                    return Ok(());
                }
                blocks_of(&builder, out)?
            }
            Self::Blocks(blocks) => blocks,
        };
        if let Some(blocks) = blocks.finish(out)? {
            out.add(ColumnName::Text(field), Encoding::Texts, blocks);
        }
        Ok(())
    }
}

fn blocks_of(builder: &DictBuilder, out: &mut Output) -> FaultResult<TextBlocks> {
    let mut blocks = TextBlocks::new();
    for row in 0..builder.rows() {
        blocks.push(builder.text(row), out)?;
    }
    Ok(blocks)
}

impl TextBlocks {
    fn new() -> Self {
        Self { current: TextBlockBuilder::default(), blocks: Vec::new(), first_row: 0, present: false }
    }

    fn push(&mut self, text: Option<&[u8]>, out: &mut Output) -> FaultResult<()> {
        self.present |= text.is_some();
        self.current.push(text);
        if self.current.is_full() { self.close_block(out) } else { Ok(()) }
    }

    fn close_block(&mut self, out: &mut Output) -> FaultResult<()> {
        let rows = self.current.rows();
        let raw = self.current.take();
        self.blocks.push(out.block(&raw, self.first_row)?);
        self.first_row += rows;
        Ok(())
    }

    /// Returns the blocks, `None` if no row has a text.
    fn finish(mut self, out: &mut Output) -> FaultResult<Option<Vec<Block>>> {
        if !self.present {
            return Ok(None);
        }
        if self.current.rows() > 0 {
            self.close_block(out)?;
        }
        Ok(Some(self.blocks))
    }
}
