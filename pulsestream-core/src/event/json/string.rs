//! Strings of a document: decoding, and the form with the fewest escapes.

use std::borrow::Cow;

use super::scan::{string_end, string_stop};

/// A string literal, checked. One without an escape is kept with both quotes, any other without the first: the slice alone tells
/// them apart, and two registers hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawString<'a>(&'a str);

impl<'a> RawString<'a> {
    /// Wraps a literal with its quotes, and says whether there is an escape in it.
    #[inline]
    pub(super) fn new(quoted: &'a str, escaped: bool) -> Self {
        Self(if escaped { &quoted[1..] } else { quoted })
    }

    /// Takes the literal in normal form at the start of `text`, and what follows it.
    #[inline]
    pub(super) fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let stop = string_stop(text.as_bytes(), 1);
        let (end, escaped) = match text.as_bytes().get(stop)? {
            b'"' => (stop + 1, false),
            _ => (string_end(text.as_bytes(), stop)?, true),
        };
        let (quoted, rest) = text.split_at_checked(end)?;
        Some((Self::new(quoted, escaped), rest))
    }

    #[inline]
    pub(super) fn is_escaped(self) -> bool {
        self.0.as_bytes().first() != Some(&b'"')
    }

    /// Returns the content as it is written.
    #[inline]
    pub(super) fn written(self) -> &'a str {
        &self.0[usize::from(!self.is_escaped())..self.0.len() - 1]
    }

    /// Hands over the text that the literal stands for.
    // The text of a literal without escapes stays in registers this way, which a `Cow` does not.
    #[inline]
    pub(crate) fn with<T>(self, visit: impl FnOnce(&str) -> T) -> T {
        if self.is_escaped() { visit(&self.unescape()) } else { visit(self.written()) }
    }

    /// Returns the text that the literal stands for; allocates only when it holds an escape.
    #[inline]
    pub(crate) fn decode(self) -> Cow<'a, str> {
        if self.is_escaped() { Cow::Owned(self.unescape()) } else { Cow::Borrowed(self.written()) }
    }

    #[cold]
    fn unescape(self) -> String {
        let mut text = String::with_capacity(self.0.len());
        self.pieces(|piece| match piece {
            Piece::Plain(run) => text.push_str(run),
            Piece::Char(char) => text.push(char),
        });
        text
    }

    /// Appends the literal in normal form, with its quotes.
    #[inline]
    pub(super) fn push_normal(self, out: &mut String) {
        if self.is_escaped() { self.push_escaped(out) } else { out.push_str(self.0) }
    }

    #[cold]
    fn push_escaped(self, out: &mut String) {
        out.push('"');
        self.pieces(|piece| match piece {
            Piece::Plain(run) => out.push_str(run),
            Piece::Char('"') => out.push_str("\\\""),
            Piece::Char('\\') => out.push_str("\\\\"),
            Piece::Char('\n') => out.push_str("\\n"),
            Piece::Char('\r') => out.push_str("\\r"),
            Piece::Char('\t') => out.push_str("\\t"),
            Piece::Char('\u{8}') => out.push_str("\\b"),
            Piece::Char('\u{c}') => out.push_str("\\f"),
            Piece::Char(control) if control < ' ' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let code = control as usize;
                out.push_str("\\u00");
                out.push(HEX[code >> 4 & 0xf].into());
                out.push(HEX[code & 0xf].into());
            }
            Piece::Char(char) => out.push(char),
        });
        out.push('"');
    }

    /// Splits into runs without an escape and characters that were escaped; the reader has checked the escapes.
    fn pieces(self, mut visit: impl FnMut(Piece<'a>)) {
        let mut rest = self.written();
        loop {
            let run = string_stop(rest.as_bytes(), 0);
            if run > 0 {
                visit(Piece::Plain(&rest[..run]));
            }
            let Some(escape) = rest.as_bytes().get(run + 1) else { return };
            let (char, length) = match escape {
                b'u' => escaped_char(&rest.as_bytes()[run..]),
                b'n' => ('\n', 2),
                b'r' => ('\r', 2),
                b't' => ('\t', 2),
                b'b' => ('\u{8}', 2),
                b'f' => ('\u{c}', 2),
                other => (char::from(*other), 2),
            };
            visit(Piece::Char(char));
            rest = &rest[run + length..];
        }
    }
}

enum Piece<'a> {
    Plain(&'a str),
    Char(char),
}

/// Reads `\uXXXX` or a surrogate pair of them at the start of `bytes`; a half pair is U+FFFD. Returns the length as well.
fn escaped_char(bytes: &[u8]) -> (char, usize) {
    match unit(bytes, 0) {
        Some(high @ 0xd800..0xdc00) => match unit(bytes, 6) {
            Some(low @ 0xdc00..0xe000) => (pair(high, low), 12),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        Some(unit) => (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        None => (char::REPLACEMENT_CHARACTER, 2),
    }
}

fn pair(high: u32, low: u32) -> char {
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Reads the UTF-16 unit of an escape `\uXXXX` at `at`.
pub(super) fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else { return None };
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}
