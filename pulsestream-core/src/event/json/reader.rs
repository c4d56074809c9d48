//! A pull reader over JSON text that knows where it is and collects what it refuses.

use std::borrow::Cow;

use super::number::{MAX_NUMBER_BYTES, NumberFault, RawNumber};
use super::scan::{string_stop, value_end};
use super::string::{RawString, unit};
use super::{MAX_DEPTH, MAX_KEYS};
use crate::error::FieldError;

/// Refusals of one document, after which it is not read further.
const MAX_REFUSALS: usize = 64;

/// The document cannot be read further; the reason is the last of the reader's refusals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop;

/// The result of a step that may end the reading.
pub(crate) type Step<T> = Result<T, Stop>;

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// Returns the kind with its article, for messages.
    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }
}

/// Where the reader is within one open object or array.
#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Opened,
    Key(RawString<'a>),
    Index(usize),
}

/// Reads JSON text of RFC 8259 front to back.
///
/// Faults of the syntax end the reading with [`Stop`]. A value that is well-formed and refused (a NUL character, half a surrogate
/// pair, an infinite number) is noted with its JSON pointer, and the reading goes on.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Segment<'a>>,
    /// Length of `path` at which pointers begin.
    pointer_base: usize,
    /// Length of `path` at which the depth counts from 0.
    depth_base: usize,
    keys_left: usize,
    muted: bool,
    refusals: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            path: Vec::with_capacity(8),
            pointer_base: 0,
            depth_base: 0,
            keys_left: MAX_KEYS,
            muted: false,
            refusals: Vec::new(),
        }
    }

    /// Takes what was refused so far.
    pub(crate) fn take_refusals(&mut self) -> Vec<FieldError> {
        std::mem::take(&mut self.refusals)
    }

    /// Returns the position in bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Returns how many bytes follow.
    pub(crate) fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// Notes a refusal at the current place.
    ///
    /// # Errors
    /// [`Stop`] when there are too many.
    #[cold]
    pub(crate) fn refuse(
        &mut self,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Step<()> {
        self.refuse_at(None, code.into(), message.into())
    }

    /// Notes a refusal at the member `key` of the current place.
    #[cold]
    pub(super) fn refuse_member(
        &mut self,
        key: &str,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Step<()> {
        self.refuse_at(Some(key), Cow::Borrowed(code), message.into())
    }

    fn refuse_at(
        &mut self,
        member: Option<&str>,
        code: Cow<'static, str>,
        message: Cow<'static, str>,
    ) -> Step<()> {
        if self.muted {
            return Ok(());
        }
        if self.refusals.len() >= MAX_REFUSALS {
            self.refusals.push(FieldError::new(
                "",
                "too_many_errors",
                "more values are refused than are listed",
            ));
            return Err(Stop);
        }
        let mut pointer = self.pointer();
        if let Some(key) = member {
            push_segment(&mut pointer, key);
        }
        self.refusals.push(FieldError::new(pointer, code, message));
        Ok(())
    }

    /// Notes a fault of the syntax here and stops.
    #[cold]
    pub(crate) fn fault<T>(&mut self, expected: &str) -> Step<T> {
        let message = match self.text.as_bytes().get(self.at) {
            None => format!("{expected} expected, but the text ends at byte {}", self.at),
            Some(_) if self.text[self.at..].starts_with('\u{feff}') => {
                return self
                    .stop("byte_order_mark", format!("a byte order mark at byte {} is not JSON", self.at));
            }
            Some(byte) if byte.is_ascii_graphic() => {
                format!("{expected} expected, found `{}` at byte {}", char::from(*byte), self.at)
            }
            Some(byte) => format!("{expected} expected, found byte 0x{byte:02x} at byte {}", self.at),
        };
        self.stop("invalid_json", message)
    }

    /// Notes why the reading ends here, even where refusals are ignored.
    #[cold]
    fn stop<T>(&mut self, code: &'static str, message: String) -> Step<T> {
        let pointer = self.pointer();
        self.refusals.push(FieldError::new(pointer, code, message));
        Err(Stop)
    }

    /// Returns the JSON pointer (RFC 6901) of the current value.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.path[self.pointer_base.min(self.path.len())..] {
            match segment {
                Segment::Opened => {}
                Segment::Key(key) => push_segment(&mut pointer, &key.decode()),
                Segment::Index(index) => push_segment(&mut pointer, &index.to_string()),
            }
        }
        pointer
    }

    /// Reads the current value as a document of its own: pointers, depth and number of keys count from it.
    pub(crate) fn as_document<T>(&mut self, read: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let base = self.path.len();
        let pointer_base = std::mem::replace(&mut self.pointer_base, base);
        let result = self.within(read);
        if result.is_err() {
            self.path.truncate(base);
        }
        self.pointer_base = pointer_base;
        result
    }

    /// Reads a value whose depth and number of keys count on their own.
    pub(super) fn within<T>(&mut self, read: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let (depth_base, keys_left) = (self.depth_base, self.keys_left);
        self.depth_base = self.path.len();
        self.keys_left = MAX_KEYS;
        let result = read(self);
        (self.depth_base, self.keys_left) = (depth_base, keys_left);
        result
    }

    /// Reads a value whose refusals do not matter; its syntax does.
    pub(super) fn muted<T>(&mut self, read: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let muted = std::mem::replace(&mut self.muted, true);
        let result = read(self);
        self.muted = muted;
        result
    }

    /// Skips white space and returns the next byte.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            let byte = *bytes.get(self.at)?;
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Returns the kind of the next value.
    #[inline]
    pub(crate) fn kind(&mut self) -> Step<Kind> {
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => self.fault("a value"),
        }
    }

    /// Checks that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Step<()> {
        if self.peek().is_some() { self.fault("the end of the text") } else { Ok(()) }
    }

    /// Enters the object or array at the current position; `false` when it is nested too deeply, and then it is skipped.
    #[inline]
    pub(crate) fn enter(&mut self) -> Step<bool> {
        if self.path.len() - self.depth_base >= MAX_DEPTH {
            self.refuse("depth", format!("objects and arrays may be nested {MAX_DEPTH} deep"))?;
            self.skip_unread()?;
            return Ok(false);
        }
        self.at += 1;
        self.path.push(Segment::Opened);
        Ok(true)
    }

    /// Skips the next value by its brackets alone.
    #[cold]
    fn skip_unread(&mut self) -> Step<()> {
        self.peek();
        match value_end(self.text.as_bytes(), self.at) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => {
                self.at = self.text.len();
                self.fault("the end of an object or array")
            }
        }
    }

    /// Goes back to the value that starts at `position` and skips it by its brackets alone.
    #[cold]
    pub(crate) fn skip_from(&mut self, position: usize) -> Step<()> {
        self.at = position;
        self.skip_unread()
    }

    /// Moves to the next member of the entered object and returns its key; `None` at the end, which it leaves.
    // As for `string`.
    #[inline(always)]
    pub(crate) fn next_key(&mut self) -> Step<Option<RawString<'a>>> {
        let first = matches!(self.path.last(), Some(Segment::Opened));
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.path.pop();
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            _ if first => {}
            _ => return self.fault("`,` or `}`"),
        }
        if self.peek() != Some(b'"') {
            return self.fault("a key in quotes");
        }
        // What is wrong with a key is wrong with the object; the member before it is done.
        self.set_last(Segment::Opened);
        let key = self.string()?;
        if self.keys_left == 0 {
            return self.stop("too_many_keys", format!("a document may have {MAX_KEYS} keys"));
        }
        self.keys_left -= 1;
        if self.peek() != Some(b':') {
            return self.fault("`:`");
        }
        self.at += 1;
        self.set_last(Segment::Key(key));
        Ok(Some(key))
    }

    #[inline]
    fn set_last(&mut self, segment: Segment<'a>) {
        if let Some(last) = self.path.last_mut() {
            *last = segment;
        }
    }

    /// Moves to the next element of the entered array; `false` at the end, which it leaves.
    #[inline]
    pub(crate) fn next_element(&mut self) -> Step<bool> {
        let next = match self.path.last() {
            Some(Segment::Index(index)) => index + 1,
            _ => 0,
        };
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                self.path.pop();
                return Ok(false);
            }
            Some(b',') if next > 0 => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    return self.fault("a value");
                }
            }
            _ if next == 0 => {}
            _ => return self.fault("`,` or `]`"),
        }
        self.set_last(Segment::Index(next));
        Ok(true)
    }

    /// Reads the string at the current position, which is its quote.
    // Inlined always: its result does not fit the registers, and reading it back from memory at once takes longer than the rest.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Step<RawString<'a>> {
        let start = self.at + 1;
        let mut end = string_stop(self.text.as_bytes(), start);
        let escaped = self.text.as_bytes().get(end) != Some(&b'"');
        if escaped {
            end = self.end_of_escaped(end)?;
        }
        self.at = end + 1;
        Ok(RawString::new(&self.text[start - 1..=end], escaped))
    }

    /// Reads on at the first escape of a string, and returns where its closing quote is.
    #[cold]
    #[inline(never)]
    fn end_of_escaped(&mut self, mut at: usize) -> Step<usize> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {}
                Some(_) => {
                    self.at = at;
                    return self.fault("an escape instead of the control character");
                }
                None => {
                    self.at = at;
                    return self.fault("a closing quote");
                }
            }
            at += match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                Some(b'u') => match unit(bytes, at) {
                    None => {
                        self.at = at;
                        return self.fault("four hexadecimal digits after `\\u`");
                    }
                    Some(0) => {
                        self.refuse("nul_character", "a string must not hold the NUL character")?;
                        6
                    }
                    Some(0xd800..0xdc00) if matches!(unit(bytes, at + 6), Some(0xdc00..0xe000)) => 12,
                    Some(surrogate @ 0xd800..0xe000) => {
                        let message =
                            format!("a string must not hold half a surrogate pair, \\u{surrogate:04x}");
                        self.refuse("lone_surrogate", message)?;
                        6
                    }
                    Some(_) => 6,
                },
                _ => {
                    self.at = at;
                    return self.fault("an escape sequence of JSON");
                }
            };
            at = string_stop(bytes, at);
        }
        Ok(at)
    }

    /// Reads the number at the current position; `None` when it was refused.
    #[inline]
    pub(crate) fn number(&mut self) -> Step<Option<RawNumber<'a>>> {
        let (length, number) = RawNumber::read(&self.text[self.at..]);
        self.at += length;
        match number {
            Ok(number) => Ok(Some(number)),
            Err(NumberFault::Syntax) => self.fault("a number of JSON"),
            Err(NumberFault::Length) => {
                self.refuse("number_length", format!("a number may have {MAX_NUMBER_BYTES} bytes"))?;
                Ok(None)
            }
            Err(NumberFault::Infinite) => {
                self.refuse("infinite_number", "a number must be within the range of a double")?;
                Ok(None)
            }
        }
    }

    /// Reads `true` or `false`.
    #[inline]
    pub(crate) fn boolean(&mut self) -> Step<bool> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Reads the given word.
    #[inline]
    pub(crate) fn word(&mut self, word: &'static str) -> Step<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fault("`true`, `false` or `null`");
        }
        self.at += word.len();
        Ok(())
    }
}

/// Appends a reference token, escaped as RFC 6901 section 3 says, at most 256 characters of it.
pub(crate) fn push_segment(pointer: &mut String, key: &str) {
    pointer.push('/');
    for char in key.chars().take(256) {
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
