//! Texts of reports: short, printable, and without secrets.

/// How much of an answer a report holds, in bytes.
pub(crate) const MAX_RESPONSE_BYTES: usize = 1_024;

/// The texts that must not appear in a report. Has no `Debug` form, because it holds them.
#[derive(Default)]
pub(crate) struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    /// Adds a secret, and the forms in which a receiver may send it back: its words, and as JSON writes it.
    pub(crate) fn add(&mut self, secret: &str) {
        // Shorter texts protect nothing, and would blank out half of every answer.
        const MIN_BYTES: usize = 4;
        for form in std::iter::once(secret).chain(secret.split_whitespace()) {
            if form.len() < MIN_BYTES {
                continue;
            }
            let json = serde_json::Value::from(form).to_string();
            self.secrets.push(form.to_owned());
            self.secrets.push(json[1..json.len() - 1].to_owned());
        }
    }

    /// Returns `text` on one line, with every secret as `***`, cut to `max_bytes`.
    pub(crate) fn apply(&self, text: &str, max_bytes: usize) -> String {
        // The longest first, so that no part of one stays behind a shorter one.
        let mut secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut text = text.to_owned();
        for secret in secrets {
            if text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
        cut(&one_line(&text), max_bytes)
    }
}

/// Replaces control characters and line ends by spaces, and runs of spaces by one.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|char: char| char.is_control() || char.is_whitespace() || is_direction_mark(char))
    {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    line
}

/// Returns whether a character changes how others are shown: Unicode's bidirectional controls (UAX 9) and line separators.
pub(crate) fn is_direction_mark(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Cuts `text` to at most `max_bytes` bytes, at a character, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: char = '\u{2026}';
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = text[..end].trim_end().to_owned();
    cut.push(ELLIPSIS);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_form() {
        let mut mask = Mask::default();
        mask.add("Bearer can\"ary-secret");
        mask.add("canary");
        mask.add("a b");
        let answer = "you sent Bearer can\"ary-secret, \"can\\\"ary-secret\", canary\r\nset-cookie: a b";
        let shown = mask.apply(answer, 1_024);
        assert_eq!(shown, "you sent ***, \"***\", *** set-cookie: a b");
    }

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "\u{2026}");
        assert_eq!(cut("h\u{e4}\u{e4}\u{e4}\u{e4}", 6), "h\u{e4}\u{2026}");
        assert_eq!(one_line(" a\r\n\tb\u{1b}[31m \u{202e}c\0"), "a b [31m c");
    }
}
