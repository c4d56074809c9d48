//! Numbers of a document.

use std::fmt::Write;

/// The longest number literal, in bytes. The normal form of every double is shorter.
pub(super) const MAX_NUMBER_BYTES: usize = 400;

/// A number literal, checked against the grammar of RFC 8259 section 6.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawNumber<'a> {
    pub(super) text: &'a str,
    exponent: bool,
}

/// Why a literal is no number with a normal form.
pub(super) enum NumberFault {
    /// It does not follow the grammar.
    Syntax,
    /// It is longer than [`MAX_NUMBER_BYTES`].
    Length,
    /// It is beyond the largest double.
    Infinite,
}

impl<'a> RawNumber<'a> {
    /// Reads the literal at the start of `text` and returns its length with it.
    #[inline]
    pub(super) fn read(text: &'a str) -> (usize, Result<Self, NumberFault>) {
        /// Doubles end below 1.8e308, which has 309 digits.
        const SURELY_FINITE_BYTES: usize = 308;
        let Some((length, exponent)) = grammar(text.as_bytes()) else { return (0, Err(NumberFault::Syntax)) };
        let number = Self { text: &text[..length], exponent };
        if length > MAX_NUMBER_BYTES {
            return (length, Err(NumberFault::Length));
        }
        if (exponent || length > SURELY_FINITE_BYTES) && !number.value().is_finite() {
            return (length, Err(NumberFault::Infinite));
        }
        (length, Ok(number))
    }

    /// Wraps a literal in normal form.
    pub(super) fn of_normal_form(text: &'a str) -> Self {
        Self { text, exponent: false }
    }

    /// Returns the nearest double.
    pub(crate) fn value(self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }

    /// Returns the number when it is written as digits alone and fits.
    pub(crate) fn whole(self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// Appends the normal form: as written, without an exponent, and zero without a sign.
    #[inline]
    pub(super) fn push_normal(self, out: &mut String) {
        if self.exponent {
            let value = self.value();
            // Writing to a string cannot fail.
            let _ = if value == 0.0 { out.write_str("0") } else { write!(out, "{value}") };
        } else if self.is_negative_zero() {
            out.push('0');
        } else {
            out.push_str(self.text);
        }
    }

    fn is_negative_zero(self) -> bool {
        self.text.as_bytes().starts_with(b"-0")
            && self.text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'))
    }
}

/// Returns the length of the number at the start of `bytes` and whether it has an exponent.
#[inline]
fn grammar(bytes: &[u8]) -> Option<(usize, bool)> {
    let digits = |at: usize| bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    match (bytes.get(at)?, digits(at)) {
        (_, 0) => return None,
        (b'0', count) if count > 1 => return None,
        (_, count) => at += count,
    }
    if bytes.get(at) == Some(&b'.') {
        match digits(at + 1) {
            0 => return None,
            count => at += 1 + count,
        }
    }
    let exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
    if exponent {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        match digits(at) {
            0 => return None,
            count => at += count,
        }
    }
    Some((at, exponent))
}
