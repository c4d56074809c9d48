//! Licence expressions as crates write them: SPDX `AND`, `OR`, `WITH`, parentheses, and the old `MIT/Apache-2.0`.

use crate::command::Result;

/// Whether the expression can be satisfied with allowed licences only.
///
/// A licence with an exception is one name, `Apache-2.0 WITH LLVM-exception`, and must be allowed as such.
pub(crate) fn is_satisfied(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { tokens: spaced.split_whitespace().peekable(), is_allowed };
    let satisfied = parser.alternatives()?;
    match parser.tokens.next() {
        None => Ok(satisfied),
        Some(token) => Err(format!("unexpected `{token}` in licence expression `{expression}`").into()),
    }
}

struct Parser<'a> {
    tokens: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    is_allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<bool> {
        let mut satisfied = self.conjunction()?;
        while self.tokens.next_if_eq(&"OR").is_some() {
            satisfied |= self.conjunction()?;
        }
        Ok(satisfied)
    }

    fn conjunction(&mut self) -> Result<bool> {
        let mut satisfied = self.licence()?;
        while self.tokens.next_if_eq(&"AND").is_some() {
            satisfied &= self.licence()?;
        }
        Ok(satisfied)
    }

    fn licence(&mut self) -> Result<bool> {
        match self.tokens.next() {
            Some("(") => {
                let satisfied = self.alternatives()?;
                match self.tokens.next() {
                    Some(")") => Ok(satisfied),
                    _ => Err("missing `)` in licence expression".into()),
                }
            }
            None | Some(")" | "AND" | "OR" | "WITH") => {
                Err("licence name missing in licence expression".into())
            }
            Some(name) if self.tokens.next_if_eq(&"WITH").is_some() => match self.tokens.next() {
                Some(exception) => Ok((self.is_allowed)(&format!("{name} WITH {exception}"))),
                None => Err(format!("exception name missing after `{name} WITH`").into()),
            },
            Some(name) => Ok((self.is_allowed)(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn satisfied(expression: &str) -> bool {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        is_satisfied(expression, &|name| allowed.contains(&name)).unwrap()
    }

    #[test]
    fn or_needs_one_side_and_and_needs_both() {
        assert!(satisfied("MIT"));
        assert!(satisfied("MIT OR GPL-3.0"));
        assert!(satisfied("GPL-3.0 OR MIT"));
        assert!(!satisfied("GPL-3.0"));
        assert!(!satisfied("MIT AND GPL-3.0"));
        assert!(satisfied("(MIT OR Apache-2.0) AND Unicode-3.0"));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(satisfied("MIT OR GPL-3.0 AND AGPL-3.0"));
        assert!(!satisfied("(MIT OR GPL-3.0) AND AGPL-3.0"));
        assert!(satisfied("AGPL-3.0 AND GPL-3.0 OR MIT"));
    }

    #[test]
    fn a_slash_is_the_old_or() {
        assert!(satisfied("MIT/Apache-2.0"));
        assert!(satisfied("GPL-3.0 / MIT"));
    }

    #[test]
    fn an_exception_is_part_of_the_name() {
        assert!(satisfied("Apache-2.0 WITH LLVM-exception"));
        assert!(!satisfied("MIT WITH LLVM-exception"));
        assert!(satisfied("GPL-2.0 WITH Classpath-exception-2.0 OR MIT"));
    }

    #[test]
    fn a_malformed_expression_is_an_error() {
        for expression in ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH", "()"] {
            assert!(is_satisfied(expression, &|_| true).is_err(), "{expression}");
        }
    }
}
