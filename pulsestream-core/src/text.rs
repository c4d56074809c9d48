//! A short immutable string that stays inline up to 24 bytes.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// An immutable UTF-8 string; up to 24 bytes live inline, without an allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(CompactString);

impl Text {
    /// Returns the text as a string slice.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Makes the text in its place: a new one that is moved there is read back from memory before it has arrived there, which takes
    /// longer than writing it.
    #[inline]
    pub(crate) fn write(slot: &mut Option<Self>, text: &str) {
        if text.len() <= size_of::<Self>() {
            slot.insert(Self::default()).0.push_str(text);
        } else {
            *slot = Some(Self::from(text));
        }
    }

    /// Returns the bytes allocated on the heap, 0 for an inline text.
    pub fn heap_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.capacity() } else { 0 }
    }
}

/// Returns whether two byte strings are equal. Those of up to 64 bytes are compared word by word: comparing slices calls a function,
/// which takes longer than the comparison of a name or an id.
#[inline]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() || left.len() > 64 {
        return left == right;
    }
    if let (Some(left_end), Some(right_end)) = (left.last_chunk::<8>(), right.last_chunk::<8>()) {
        let (left, right) = (left.as_chunks::<8>().0, right.as_chunks::<8>().0);
        let words = left.iter().zip(right);
        return words.fold(left_end == right_end, |same, (left, right)| same & (left == right));
    }
    if let (Some(left_end), Some(right_end)) = (left.last_chunk::<4>(), right.last_chunk::<4>()) {
        return left_end == right_end && left.first_chunk::<4>() == right.first_chunk::<4>();
    }
    left.iter().zip(right).all(|(left, right)| left == right)
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for Text {
    #[inline]
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

impl Borrow<str> for Text {
    #[inline]
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(CompactString::new(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(CompactString::from(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_string()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn texts_of_every_length_are_compared_at_every_byte() {
        for length in 0..=70_u8 {
            let text: Vec<u8> = (0..length).map(|index| b'a' + index % 7).collect();
            assert!(same(&text, &text.clone()));
            assert!(!same(&text, &[&text, b"a".as_slice()].concat()));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 1;
                assert!(!same(&text, &other) && !same(&other, &text), "length {length}, byte {at}");
            }
        }
    }
}
