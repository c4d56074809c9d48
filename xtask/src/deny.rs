//! Reads the two lists of `deny.toml` that the policy check enforces.
//!
//! A TOML parser would be the largest dependency of this program; the file keeps its lists as plain arrays with one
//! entry a line, and an array that is not found is an error, so a reformatted file cannot pass for an empty policy.

use crate::command::Result;

/// What `deny.toml` says.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Names of allowed licences.
    pub(crate) licences: Vec<String>,
    /// Banned crates with the reason.
    pub(crate) banned: Vec<(String, String)>,
}

impl Rules {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let licences = array(text, "licenses", "allow")?
            .iter()
            .map(|entry| quoted(entry).map(str::to_owned).ok_or_else(|| malformed(entry).into()))
            .collect::<Result<_>>()?;
        let banned = array(text, "bans", "deny")?
            .iter()
            .map(|entry| match (value(entry, "crate"), value(entry, "reason")) {
                (Some(name), Some(reason)) => Ok((name.to_owned(), reason.to_owned())),
                _ => Err(malformed(entry).into()),
            })
            .collect::<Result<_>>()?;
        Ok(Self { licences, banned })
    }
}

/// The lines of `key = [ ... ]` inside `[section]`.
fn array<'a>(text: &'a str, section: &str, key: &str) -> Result<Vec<&'a str>> {
    let header = format!("[{section}]");
    let opening = format!("{key} = [");
    let entries: Vec<&str> = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .skip_while(|line| *line != opening)
        .skip(1)
        .take_while(|line| *line != "]")
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if entries.is_empty() {
        return Err(format!("deny.toml has no `{opening}` with one entry a line in [{section}]").into());
    }
    Ok(entries)
}

/// The text of `key = "text"` in an inline table.
fn value<'a>(entry: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = entry.split_once(&format!("{key} = "))?;
    quoted(rest)
}

/// The text between the first two quotes, which must come first.
fn quoted(entry: &str) -> Option<&str> {
    entry.strip_prefix('"')?.split_once('"').map(|(text, _)| text)
}

fn malformed(entry: &str) -> String {
    format!("deny.toml has an entry this check cannot read: {entry}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_read() {
        let rules = Rules::parse(include_str!("../../deny.toml")).unwrap();
        assert!(rules.licences.iter().any(|name| name == "Apache-2.0 WITH LLVM-exception"), "{rules:?}");
        assert!(rules.licences.iter().any(|name| name == "CDLA-Permissive-2.0"), "{rules:?}");
        assert!(
            rules.banned.iter().any(|(name, reason)| name == "evalexpr" && reason == "AGPL"),
            "{rules:?}"
        );
    }

    #[test]
    fn a_list_in_another_section_or_form_is_not_taken() {
        let licences = "[licenses]\nallow = [\n\"MIT\",\n]\n";
        let bans = "[bans]\ndeny = [\n{ crate = \"a\", reason = \"b\" },\n]\n";
        assert!(Rules::parse(&format!("{licences}{bans}")).is_ok());
        assert!(Rules::parse(licences).unwrap_err().to_string().contains("[bans]"));
        assert!(Rules::parse(&format!("[licenses]\nallow = [\"MIT\"]\n{bans}")).is_err());
        assert!(Rules::parse(&format!("[other]\nallow = [\n\"MIT\",\n]\n{bans}")).is_err());
        assert!(Rules::parse(&format!("{licences}[bans]\ndeny = [\n\"a\",\n]\n")).is_err());
    }
}
