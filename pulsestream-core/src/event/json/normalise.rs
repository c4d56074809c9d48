//! Writes a value in normal form while it is read.

use super::JsonObject;
use super::reader::{Kind, Reader, Step};
use super::string::RawString;

/// A buffer that one larger document left behind is given back.
const KEPT_BYTES: usize = 1 << 20;

/// Where one member of an open object stands in the output.
#[derive(Debug, Clone, Copy)]
struct Member {
    key_start: usize,
    key_end: usize,
    end: usize,
    escaped: bool,
}

/// Buffers for writing normal forms, kept from one document to the next.
#[derive(Debug, Default)]
pub(crate) struct Normaliser {
    out: String,
    members: Vec<Member>,
    sorted: String,
}

impl Normaliser {
    /// Creates buffers for a document of so many bytes, up to a limit.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: String::with_capacity(bytes.min(KEPT_BYTES)), ..Self::default() }
    }

    /// Reads the object at the reader's position; the caller has seen its bracket. What was refused is with the reader.
    pub(crate) fn object(&mut self, reader: &mut Reader<'_>) -> Step<JsonObject> {
        self.start();
        reader.within(|reader| self.members(reader))?;
        Ok(if self.out == "{}" { JsonObject::default() } else { JsonObject(self.out.as_str().into()) })
    }

    /// Reads a value of any kind for its syntax alone.
    pub(crate) fn ignore(&mut self, reader: &mut Reader<'_>) -> Step<()> {
        self.start();
        reader.muted(|reader| self.value(reader))
    }

    fn start(&mut self) {
        for buffer in [&mut self.out, &mut self.sorted] {
            buffer.clear();
            if buffer.capacity() > KEPT_BYTES {
                buffer.shrink_to(KEPT_BYTES);
            }
        }
        self.members.clear();
    }

    /// Recursion is as deep as the reader lets it enter.
    fn value(&mut self, reader: &mut Reader<'_>) -> Step<()> {
        match reader.kind()? {
            Kind::String => reader.string()?.push_normal(&mut self.out),
            Kind::Number => {
                if let Some(number) = reader.number()? {
                    number.push_normal(&mut self.out);
                }
            }
            Kind::Object => self.members(reader)?,
            Kind::Array => {
                if reader.enter()? {
                    self.out.push('[');
                    let start = self.out.len();
                    while reader.next_element()? {
                        if self.out.len() > start {
                            self.out.push(',');
                        }
                        self.value(reader)?;
                    }
                    self.out.push(']');
                }
            }
            Kind::Bool => self.out.push_str(if reader.boolean()? { "true" } else { "false" }),
            Kind::Null => {
                reader.word("null")?;
                self.out.push_str("null");
            }
        }
        Ok(())
    }

    fn members(&mut self, reader: &mut Reader<'_>) -> Step<()> {
        if !reader.enter()? {
            return Ok(());
        }
        let first = self.members.len();
        let mut ascending = true;
        self.out.push('{');
        let start = self.out.len();
        while let Some(key) = reader.next_key()? {
            if self.members.len() > first {
                self.out.push(',');
            }
            let key_start = self.out.len();
            key.push_normal(&mut self.out);
            let key_end = self.out.len();
            self.out.push(':');
            let member = Member { key_start, key_end, end: key_end, escaped: key.is_escaped() };
            if ascending && let Some(previous) = self.members[first..].last() {
                ascending =
                    key_of(&self.out, previous, |left| key_of(&self.out, &member, |right| left < right));
            }
            let index = self.members.len();
            self.members.push(member);
            self.value(reader)?;
            self.members[index].end = self.out.len();
        }
        if !ascending {
            self.sort(first, start, reader)?;
        }
        self.members.truncate(first);
        self.out.push('}');
        Ok(())
    }

    /// Brings the members from `first` on, which stand from `start` to the end of the output, into the order of their keys.
    fn sort(&mut self, first: usize, start: usize, reader: &mut Reader<'_>) -> Step<()> {
        let Self { out, members, sorted } = self;
        let members = &mut members[first..];
        members.sort_unstable_by(|left, right| {
            key_of(out, left, |left| key_of(out, right, |right| left.cmp(right)))
        });
        for pair in members.windows(2) {
            let equal = key_of(out, &pair[0], |left| key_of(out, &pair[1], |right| left == right));
            if equal {
                key_of(out, &pair[1], |key| {
                    reader.refuse_member(key, "duplicate_key", "an object must have each key once")
                })?;
            }
        }
        sorted.clear();
        for member in members.iter() {
            if !sorted.is_empty() {
                sorted.push(',');
            }
            sorted.push_str(&out[member.key_start..member.end]);
        }
        out.truncate(start);
        out.push_str(sorted);
        Ok(())
    }
}

/// Hands over the decoded key of a member.
#[inline]
fn key_of<T>(out: &str, member: &Member, visit: impl FnOnce(&str) -> T) -> T {
    RawString::new(&out[member.key_start..member.key_end], member.escaped).with(visit)
}
