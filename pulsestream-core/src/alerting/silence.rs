//! Matchers over labels, and silences.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Labels;
use crate::error::{Error, FieldError, Result};
use crate::id::SilenceId;
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// How a [`Matcher`] compares. The value of an absent label is the empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchOp {
    /// Equal.
    #[serde(rename = "=")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// The whole value matches a regular expression.
    #[serde(rename = "=~")]
    Matches,
    /// The whole value does not match a regular expression.
    #[serde(rename = "!~")]
    DoesNotMatch,
}

/// A condition on one label. The names `rule`, `rule_id` and `severity` stand for those of the alert.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// Name of the label, for example `source.service`.
    pub label: Text,
    /// How it is compared.
    pub op: MatchOp,
    /// What it is compared with.
    pub value: Text,
}

/// Most matchers of one silence, route or inhibition.
pub const MAX_MATCHERS: usize = 32;
/// Longest regular expression of a matcher, in bytes.
pub const MAX_MATCHER_BYTES: usize = 1_024;

impl Matcher {
    /// Creates a matcher for equality.
    pub fn equal(label: impl Into<Text>, value: impl Into<Text>) -> Self {
        Self { label: label.into(), op: MatchOp::Equal, value: value.into() }
    }

    /// Returns whether the labels fulfil it. A regular expression that does not compile matches nothing; [`Self::validate`]
    /// refuses it beforehand.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map_or("", Text::as_str);
        match self.op {
            MatchOp::Equal => value == self.value.as_str(),
            MatchOp::NotEqual => value != self.value.as_str(),
            MatchOp::Matches => self.regex().is_ok_and(|regex| regex.is_match(value)),
            MatchOp::DoesNotMatch => self.regex().is_ok_and(|regex| !regex.is_match(value)),
        }
    }

    /// Checks the matcher.
    ///
    /// # Errors
    /// `Invalid` for an empty label, a text that is too long, or a regular expression that is wrong.
    pub fn validate(&self) -> Result<()> {
        let refuse = |code, message: String| Err(Error::invalid("matcher.validate", "", code, message));
        if self.label.is_empty() || self.label.len() > 256 {
            return refuse("length", "a label name must have 1 to 256 bytes".to_owned());
        }
        if self.value.len() > MAX_MATCHER_BYTES {
            return refuse("length", format!("a value must have at most {MAX_MATCHER_BYTES} bytes"));
        }
        if matches!(self.op, MatchOp::Matches | MatchOp::DoesNotMatch)
            && let Err(error) = self.regex()
        {
            return refuse("invalid_regex", error.to_string());
        }
        Ok(())
    }

    fn regex(&self) -> Result<regex::Regex, regex::Error> {
        regex::RegexBuilder::new(&format!("^(?:{})$", self.value)).size_limit(1 << 20).build()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Matches => "=~",
            MatchOp::DoesNotMatch => "!~",
        };
        write!(f, "{}{op}{:?}", self.label, self.value.as_str())
    }
}

/// Checks a list of matchers and adds what is wrong to `fields`, with pointers below `pointer`.
pub(super) fn check_matchers(matchers: &[Matcher], pointer: &str, fields: &mut Vec<FieldError>) {
    if matchers.len() > MAX_MATCHERS {
        fields.push(FieldError::new(pointer, "length", format!("must have at most {MAX_MATCHERS} matchers")));
    }
    for (index, matcher) in matchers.iter().enumerate() {
        if let Err(error) = matcher.validate() {
            let problems = error.fields().iter();
            fields.extend(problems.map(|problem| {
                FieldError::new(format!("{pointer}/{index}"), problem.code.clone(), problem.message.clone())
            }));
        }
    }
}

/// Keeps the notifications of matching alerts back for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Identity.
    pub id: SilenceId,
    /// Ascends by one with every change, from 1; set by the store.
    #[serde(default)]
    pub version: u64,
    /// All of them must match, at least one.
    pub matchers: Vec<Matcher>,
    /// When it starts.
    pub starts_at: Timestamp,
    /// When it ends; it does not apply at this instant any more.
    pub ends_at: Timestamp,
    /// Who made it.
    pub created_by: Text,
    /// Why.
    #[serde(default)]
    pub comment: Text,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(default)]
    pub updated_at: Timestamp,
}

impl Silence {
    /// Returns whether it applies at `now` to an alert with these labels.
    pub fn mutes(&self, labels: &Labels, now: Timestamp) -> bool {
        TimeRange::new(self.starts_at, self.ends_at).contains(now)
            && self.matchers.iter().all(|matcher| matcher.matches(labels))
    }

    /// Checks the silence.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        if self.matchers.is_empty() {
            fields.push(FieldError::new("/matchers", "length", "must have at least one matcher"));
        }
        check_matchers(&self.matchers, "/matchers", &mut fields);
        if self.ends_at <= self.starts_at {
            fields.push(FieldError::new("/ends_at", "out_of_range", "must be after starts_at"));
        }
        if self.created_by.is_empty() {
            fields.push(FieldError::new("/created_by", "required", "is required"));
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("silences.validate", fields)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_labels_are_empty() {
        let labels: Labels = [("service".into(), "shop".into())].into();
        let holds = |op, label: &str, value: &str| {
            Matcher { label: label.into(), op, value: value.into() }.matches(&labels)
        };
        assert!(holds(MatchOp::Equal, "service", "shop"));
        assert!(holds(MatchOp::Equal, "zone", ""));
        assert!(holds(MatchOp::NotEqual, "zone", "eu"));
        assert!(holds(MatchOp::Matches, "service", "sh.*|x"));
        assert!(!holds(MatchOp::Matches, "service", "ho"));
        assert!(holds(MatchOp::DoesNotMatch, "service", "ho"));
    }

    #[test]
    fn the_end_is_outside() {
        let silence = Silence {
            id: SilenceId::from_u128(1),
            version: 1,
            matchers: vec![Matcher::equal("service", "shop")],
            starts_at: Timestamp::from_seconds(10),
            ends_at: Timestamp::from_seconds(20),
            created_by: "ann".into(),
            comment: Text::default(),
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        };
        silence.validate().unwrap();
        let labels: Labels = [("service".into(), "shop".into())].into();
        let mutes: Vec<_> =
            [9, 10, 19, 20].map(|at| silence.mutes(&labels, Timestamp::from_seconds(at))).into();
        assert_eq!(mutes, [false, true, true, false]);
    }
}
