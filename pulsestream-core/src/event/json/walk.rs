//! Finding values in a normal form by scanning its text.

use std::borrow::Cow;

use super::number::RawNumber;
use super::scan::value_end;
use super::string::RawString;
use crate::event::ValueRef;
use crate::text::Text;

/// A JSON value in normal form, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JsonRef<'a>(&'a str);

impl<'a> JsonRef<'a> {
    /// Wraps a text that is in normal form already, as stores keep it; another text finds nothing of sense.
    pub fn of_normal_form(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the normal form.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns the value: null is missing, an array or object is composite. Allocates only for a string with escapes.
    pub fn value(self) -> ValueRef<'a> {
        match self.0.as_bytes().first() {
            Some(b'"') => {
                RawString::split(self.0).map_or(ValueRef::Missing, |(text, _)| ValueRef::Text(text.decode()))
            }
            Some(b'{' | b'[') => ValueRef::Composite,
            Some(b't') => ValueRef::Bool(true),
            Some(b'f') => ValueRef::Bool(false),
            Some(b'-' | b'0'..=b'9') => ValueRef::Number(RawNumber::of_normal_form(self.0).value()),
            _ => ValueRef::Missing,
        }
    }

    /// Returns the value at a path of keys and array positions; `None` when there is none.
    pub fn find(self, path: &[Text]) -> Option<Self> {
        path.iter().try_fold(self, |value, segment| match value.0.as_bytes().first()? {
            b'{' => value.member(segment),
            b'[' => Elements::of(value).nth(array_position(segment)?),
            _ => None,
        })
    }

    /// Visits every leaf as [`JsonObject::leaves`](super::JsonObject::leaves) does.
    pub fn leaves(self, visit: &mut dyn FnMut(&[&str], ValueRef<'a>)) {
        leaves(self, visit);
    }

    fn member(self, wanted: &str) -> Option<Self> {
        for (key, value) in Members::of(self) {
            // Keys are sorted, so the search ends at the first one beyond.
            match key.with(|key| key.cmp(wanted)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// Takes the value at the start of `text`, and what follows it.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let (value, rest) = text.split_at_checked(value_end(text.as_bytes(), 0)?)?;
        Some((Self(value), rest))
    }
}

/// Reads an array position: digits without a leading zero.
fn array_position(segment: &str) -> Option<usize> {
    let is_canonical =
        segment.bytes().all(|byte| byte.is_ascii_digit()) && (segment == "0" || !segment.starts_with('0'));
    if is_canonical { segment.parse().ok() } else { None }
}

/// The members of an object, in the order of their keys.
pub(super) struct Members<'a>(&'a str);

impl<'a> Members<'a> {
    pub(super) fn of(object: JsonRef<'a>) -> Self {
        Self(object.0.strip_prefix('{').unwrap_or_default())
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (RawString<'a>, JsonRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = RawString::split(self.0)?;
        let (value, rest) = JsonRef::split(rest.strip_prefix(':')?)?;
        self.0 = rest.strip_prefix(',').unwrap_or_default();
        Some((key, value))
    }
}

/// The elements of an array.
struct Elements<'a>(&'a str);

impl<'a> Elements<'a> {
    fn of(array: JsonRef<'a>) -> Self {
        Self(array.0.strip_prefix('[').unwrap_or_default())
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = JsonRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = JsonRef::split(self.0)?;
        self.0 = rest.strip_prefix(',').unwrap_or_default();
        Some(value)
    }
}

/// Visits every leaf of the tree of objects below `object`.
pub(super) fn leaves<'a>(object: JsonRef<'a>, visit: &mut dyn FnMut(&[&str], ValueRef<'a>)) {
    // The path is handed out as plain slices. Keys with an escape, which are rare, are decoded beforehand, in their order.
    let mut decoded = Vec::new();
    if object.0.as_bytes().contains(&b'\\') {
        decode_keys(object, &mut decoded);
    }
    walk(object, &mut Vec::with_capacity(8), &mut decoded.iter(), visit);
}

fn decode_keys(object: JsonRef<'_>, decoded: &mut Vec<String>) {
    for (key, value) in Members::of(object) {
        if key.is_escaped() {
            decoded.push(key.decode().into_owned());
        }
        decode_keys(value, decoded);
    }
}

/// Recursion is as deep as a normal form, which is limited.
fn walk<'a: 'p, 'p>(
    object: JsonRef<'a>,
    path: &mut Vec<&'p str>,
    decoded: &mut std::slice::Iter<'p, String>,
    visit: &mut dyn FnMut(&[&str], ValueRef<'a>),
) {
    for (key, value) in Members::of(object) {
        let key = if key.is_escaped() { decoded.next().map_or("", String::as_str) } else { key.written() };
        path.push(key);
        if value.0.starts_with('{') && value.0 != "{}" {
            walk(value, path, decoded, visit);
        } else {
            visit(path, value.value());
        }
        path.pop();
    }
}

/// Iterates over the members of an object with decoded keys.
pub(super) fn members(object: JsonRef<'_>) -> impl Iterator<Item = (Cow<'_, str>, JsonRef<'_>)> {
    Members::of(object).map(|(key, value)| (key.decode(), value))
}
