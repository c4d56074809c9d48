//! Finding the ends of strings and values without reading them.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES << 7;

/// Returns the position of the next byte at or after `at` that ends a plain run of a string: a quote, a backslash or a control
/// character; the length of `bytes` when there is none.
///
/// Eight bytes at a time, with the zero-byte test of A. Mycroft (1987). The lowest marked byte is exact; marks above it may be
/// false, because a borrow travels upwards, and are not looked at.
#[inline]
pub(super) fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let marks = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let marks = marks & HIGH_BITS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// Returns the position after the closing quote of a string whose content starts at `at`.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = string_stop(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the position after the value that starts at `at`, by its quotes and brackets alone, at any depth and without recursion.
///
/// What stands between them is not checked.
pub(super) fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = string_end(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => at = structure(bytes, at + 1),
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => return None,
            _ => at = scalar_end(bytes, at),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Marks the bytes that open or close a string, an object or an array.
const STRUCTURE: [bool; 256] = {
    let mut marks = [false; 256];
    let mut index = 0;
    while index < 5 {
        marks[b"\"{}[]"[index] as usize] = true;
        index += 1;
    }
    marks
};

/// Returns the position of the next byte at or after `at` that opens or closes something; the length of `bytes` when there is none.
#[inline]
fn structure(bytes: &[u8], at: usize) -> usize {
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|byte| STRUCTURE[usize::from(*byte)]).unwrap_or(tail.len())
}

/// Returns the position after the run of a number or a word, at least one byte on.
fn scalar_end(bytes: &[u8], at: usize) -> usize {
    let is_end = |byte: &u8| {
        matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']' | b' ' | b'\n' | b'\r' | b'\t')
    };
    let tail = bytes.get(at + 1..).unwrap_or_default();
    at + 1 + tail.iter().position(is_end).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_every_position_of_a_word() {
        for stop in [b'"', b'\\', 0x1f, b'\n'] {
            for at in 0..40 {
                let mut bytes = vec![b'~'; 41];
                bytes[at] = stop;
                assert_eq!(string_stop(&bytes, 0), at);
            }
        }
        assert_eq!(string_stop("é\u{7f} !#[]".as_bytes(), 0), 8);
    }

    #[test]
    fn values_end_at_their_brackets() {
        for (text, rest) in [
            (r#"{"a":"}\"]","b":[1,{}]},2"#, ",2"),
            ("[1, 2 , [3]] ]", " ]"),
            ("12.5e3,", ","),
            ("true]", "]"),
            (r#""a,b""#, ""),
        ] {
            let end = value_end(text.as_bytes(), 0).unwrap();
            assert_eq!(&text[end..], rest);
        }
        for text in ["", "{", "[\"a]", "]", ","] {
            assert_eq!(value_end(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn a_million_brackets_need_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(value_end(deep.as_bytes(), 0), Some(deep.len()));
    }
}
