//! What a child said before it was killed, and what follows from it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::ops::Range;

use pulsestream_core::{Error, ErrorKind, Result};

use crate::load;

/// One line of a child. It is written with one call, so the parent sees all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// These events are about to be appended.
    Submitted(Range<u64>),
    /// These events were acknowledged.
    Acknowledged(Range<u64>),
    /// This event is about to be deleted.
    Deleting(u64),
    /// The deletion of this event was acknowledged.
    Deleted(u64),
    /// Aging events before this number are about to be dropped.
    Retaining(u64),
    /// That was acknowledged.
    Retained(u64),
    /// The counter among rules and accounts is about to become this.
    Counting(u64),
    /// It did.
    Counted(u64),
    /// A call failed, with an error of this kind.
    Failed(String),
    /// So many bytes were taken at most.
    Memory(u64),
    /// The child came to its end.
    Done,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted(numbers) => write!(f, "submitted {} {}", numbers.start, numbers.end),
            Self::Acknowledged(numbers) => write!(f, "acknowledged {} {}", numbers.start, numbers.end),
            Self::Deleting(number) => write!(f, "deleting {number}"),
            Self::Deleted(number) => write!(f, "deleted {number}"),
            Self::Retaining(number) => write!(f, "retaining {number}"),
            Self::Retained(number) => write!(f, "retained {number}"),
            Self::Counting(number) => write!(f, "counting {number}"),
            Self::Counted(number) => write!(f, "counted {number}"),
            Self::Failed(kind) => write!(f, "failed {kind}"),
            Self::Memory(bytes) => write!(f, "memory {bytes}"),
            Self::Done => write!(f, "done"),
        }
    }
}

impl Line {
    /// Tells the parent; a line that does not get out now goes before the next one.
    pub(crate) fn say(&self) {
        let _ = self.write();
    }

    /// Tells the parent what is about to be done, which must not be done when the parent cannot know it.
    ///
    /// # Errors
    /// `Unavailable` when the line did not get out.
    pub(crate) fn announce(&self) -> Result<()> {
        self.write().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "torture.announce", "the parent cannot be told")
                .with_source(error)
        })
    }

    fn write(&self) -> std::io::Result<()> {
        std::io::stdout().lock().write_all(format!("{self}\n").as_bytes())
    }

    /// Reads a line; `None` for one that is not whole.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let name = words.next()?;
        if name == "failed" {
            return words.next().map(|kind| Self::Failed(kind.to_owned()));
        }
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(match name {
            "submitted" => Self::Submitted(number()?..number()?),
            "acknowledged" => Self::Acknowledged(number()?..number()?),
            "deleting" => Self::Deleting(number()?),
            "deleted" => Self::Deleted(number()?),
            "retaining" => Self::Retaining(number()?),
            "retained" => Self::Retained(number()?),
            "counting" => Self::Counting(number()?),
            "counted" => Self::Counted(number()?),
            "memory" => Self::Memory(number()?),
            "done" => Self::Done,
            _ => return None,
        })
    }
}

/// What a store may, must and must not hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub(crate) submitted: BTreeSet<u64>,
    pub(crate) acknowledged: BTreeSet<u64>,
    deleting: BTreeSet<u64>,
    /// What must not come back.
    gone: BTreeSet<u64>,
    /// Aging events that were acknowledged before the retention under way was asked for.
    going: BTreeSet<u64>,
    /// Aging events before this may be gone.
    cut: u64,
    counting: u64,
    counted: u64,
    /// Kinds of the errors that a child met.
    pub(crate) failures: Vec<String>,
    /// Bytes of memory that a child took at most.
    pub(crate) memory_bytes: u64,
    /// Whether the last child came to its end.
    pub(crate) is_done: bool,
}

impl Ledger {
    /// Writes down a line.
    pub(crate) fn note(&mut self, line: Line) {
        match line {
            Line::Submitted(numbers) => self.submitted.extend(numbers),
            Line::Acknowledged(numbers) => self.acknowledged.extend(numbers),
            Line::Deleting(number) => {
                self.deleting.insert(number);
            }
            Line::Deleted(number) => {
                self.gone.insert(number);
            }
            Line::Retaining(cut) => {
                let old = self.acknowledged.range(..cut).filter(|number| load::is_aging(**number));
                self.going = old.copied().collect();
                self.cut = self.cut.max(cut);
            }
            Line::Retained(_) => self.gone.append(&mut self.going),
            Line::Counting(number) => self.counting = number,
            Line::Counted(number) => self.counted = number,
            Line::Failed(kind) => self.failures.push(kind),
            Line::Memory(bytes) => self.memory_bytes = self.memory_bytes.max(bytes),
            Line::Done => self.is_done = true,
        }
    }

    /// Returns whether an event has to be there.
    pub(crate) fn must_hold(&self, number: u64) -> bool {
        let may_have_aged = load::is_aging(number) && number < self.cut;
        self.acknowledged.contains(&number) && !self.deleting.contains(&number) && !may_have_aged
    }

    /// Returns whether an event may be there.
    pub(crate) fn may_hold(&self, number: u64) -> bool {
        self.submitted.contains(&number) && !self.gone.contains(&number)
    }

    /// Returns the values that the counter may have.
    pub(crate) fn counter(&self) -> std::ops::RangeInclusive<u64> {
        self.counted..=self.counting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_and_torn_ones_do_not_count() {
        let lines = [
            Line::Submitted(3..9),
            Line::Acknowledged(3..9),
            Line::Deleting(4),
            Line::Deleted(4),
            Line::Retaining(7),
            Line::Retained(7),
            Line::Counting(1),
            Line::Counted(1),
            Line::Failed("unavailable".to_owned()),
            Line::Memory(5),
            Line::Done,
        ];
        for line in lines {
            assert_eq!(Line::read(&line.to_string()), Some(line));
        }
        for torn in ["", "subm", "submitted 3", "retained"] {
            assert_eq!(Line::read(torn), None, "{torn}");
        }
    }

    #[test]
    fn what_is_asked_to_go_may_be_there_until_it_is_acknowledged() {
        let mut ledger = Ledger::default();
        let aging = (0..).find(|number| load::is_aging(*number)).unwrap_or(0);
        for line in [Line::Submitted(0..1_000), Line::Acknowledged(0..900), Line::Deleting(1)] {
            ledger.note(line);
        }
        let state = |ledger: &Ledger, number| (ledger.must_hold(number), ledger.may_hold(number));
        assert_eq!(state(&ledger, 0), (true, true));
        assert_eq!(state(&ledger, 1), (false, true));
        assert_eq!(state(&ledger, 950), (false, true));
        assert_eq!(state(&ledger, 1_000), (false, false));
        ledger.note(Line::Deleted(1));
        assert_eq!(state(&ledger, 1), (false, false));
        ledger.note(Line::Retaining(aging + 1));
        assert_eq!(state(&ledger, aging), (false, true));
        assert_eq!(state(&ledger, aging + 1), (true, true));
        ledger.note(Line::Retained(aging + 1));
        assert_eq!(state(&ledger, aging), (false, false));
    }
}
