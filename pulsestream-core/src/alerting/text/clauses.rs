//! Cuts the text of a rule into its head and its clauses.

use super::fault::Fault;
use crate::event::nearest_of;

/// The words that begin a clause.
pub(super) const CLAUSES: [&str; 11] =
    ["over", "within", "offset", "season", "periods", "where", "by", "for", "keep", "every", "no_data"];

/// A part of the text with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl<'a> Part<'a> {
    pub(super) fn new(text: &'a str, start: usize) -> Self {
        let lead = text.len() - text.trim_start().len();
        Self { text: text.trim(), start: start + lead }
    }

    /// Returns the part between two offsets of this part, trimmed.
    pub(super) fn slice(self, from: usize, to: usize) -> Self {
        Self::new(&self.text[from..to], self.start + from)
    }

    pub(super) fn fault(self, code: &'static str, message: impl Into<String>) -> Fault {
        Fault::new(self.start, code, message)
    }

    /// Returns the only word; a second one is probably a clause with a slip in its name.
    pub(super) fn one_word(self, what: &str) -> Result<Self, Fault> {
        let end = self.text.find(char::is_whitespace).unwrap_or(self.text.len());
        if end == 0 {
            return Err(self.fault("incomplete", format!("expected {what}")));
        }
        let rest = self.slice(end, self.text.len());
        if rest.text.is_empty() { Ok(self.slice(0, end)) } else { Err(unknown_clause(rest)) }
    }
}

/// Says that a clause was expected where `found` is.
pub(super) fn unknown_clause(found: Part<'_>) -> Fault {
    let word = found.text.split_whitespace().next().unwrap_or_default();
    let hint = nearest_of(word, CLAUSES.into_iter());
    let hint = hint.map(|near| format!("; did you mean `{near}`")).unwrap_or_default();
    let word: String = word.chars().take(40).collect();
    found.fault("unknown_clause", format!("`{word}` is no clause{hint}; clauses are {}", CLAUSES.join(", ")))
}

/// The head and the clauses, in the order of the text.
#[derive(Debug)]
pub(super) struct Clauses<'a> {
    pub(super) head: Part<'a>,
    found: Vec<(&'static str, Part<'a>)>,
}

impl<'a> Clauses<'a> {
    pub(super) fn cut(source: &'a str) -> Result<Self, Fault> {
        let mut marks: Vec<(&'static str, usize, usize)> = Vec::new();
        for (start, end) in words(source)? {
            // The clause `no_data` has a policy of the same name.
            let is_policy = |(clause, _, body): &(&str, usize, usize)| {
                *clause == "no_data" && source[*body..start].trim().is_empty()
            };
            if &source[start..end] == "no_data" && marks.last().is_some_and(is_policy) {
                continue;
            }
            if let Some(clause) = CLAUSES.into_iter().find(|clause| *clause == &source[start..end]) {
                if marks.iter().any(|(known, ..)| *known == clause) {
                    return Err(Fault::new(start, "duplicate", format!("`{clause}` is there already")));
                }
                marks.push((clause, start, end));
            }
        }
        let head_end = marks.first().map_or(source.len(), |(_, start, _)| *start);
        let ends = marks.iter().skip(1).map(|(_, start, _)| *start).chain([source.len()]);
        let found = marks
            .iter()
            .zip(ends)
            .map(|((clause, _, body), end)| (*clause, Part::new(&source[*body..end], *body)))
            .collect();
        Ok(Self { head: Part::new(&source[..head_end], 0), found })
    }

    /// Takes the body of a clause out.
    pub(super) fn take(&mut self, clause: &str) -> Option<Part<'a>> {
        let position = self.found.iter().position(|(name, _)| *name == clause)?;
        Some(self.found.remove(position).1)
    }

    /// Takes a clause out that must be there.
    pub(super) fn require(&mut self, clause: &str, example: &str) -> Result<Part<'a>, Fault> {
        let head = self.head;
        self.take(clause).ok_or_else(|| {
            Fault::new(head.start + head.text.len(), "incomplete", format!("`{clause} {example}` is missing"))
        })
    }

    /// Refuses what is left: clauses that the kind of the rule does not have.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.found.first() {
            None => Ok(()),
            Some((clause, body)) => {
                Err(body.fault("not_allowed", format!("this kind of rule has no `{clause}`")))
            }
        }
    }
}

/// Returns the words outside quotes, parentheses and brackets.
fn words(source: &str) -> Result<Vec<(usize, usize)>, Fault> {
    let mut words = Vec::new();
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut word_start = None;
    let mut chars = source.char_indices();
    while let Some((at, character)) = chars.next() {
        let is_word = !character.is_whitespace() && !"()[]'\",;".contains(character);
        if let Some(start) = word_start.filter(|_| !is_word)
            && open.is_empty()
        {
            words.push((start, at));
        }
        word_start = if is_word { word_start.or(Some(at)) } else { None };
        match character {
            '(' | '[' => open.push((character, at)),
            ')' | ']' => {
                let wanted = if character == ')' { '(' } else { '[' };
                if open.pop().is_none_or(|(opened, _)| opened != wanted) {
                    return Err(Fault::new(at, "unbalanced", format!("`{character}` closes nothing")));
                }
            }
            '\'' | '"' => loop {
                match chars.next() {
                    Some((_, '\\')) => {
                        chars.next();
                    }
                    Some((_, end)) if end == character => break,
                    Some(_) => {}
                    None => return Err(Fault::new(at, "unbalanced", "the quote is not closed")),
                }
            },
            _ => {}
        }
    }
    if let Some((opened, at)) = open.pop() {
        return Err(Fault::new(at, "unbalanced", format!("`{opened}` is not closed")));
    }
    if let Some(start) = word_start {
        words.push((start, source.len()));
    }
    Ok(words)
}

/// Returns the offset of the first of `wanted` outside quotes, parentheses and brackets.
pub(super) fn find_outside(text: &str, wanted: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(end) if character == end => quote = None,
            Some(_) => {}
            None if depth == 0 && wanted.contains(character) => return Some(at),
            None => match character {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                '\'' | '"' => quote = Some(character),
                _ => {}
            },
        }
    }
    None
}
