//! Tokens of the filter language.

use winnow::ascii::digit1;
use winnow::combinator::{alt, opt};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location};
use winnow::token::{any, literal, one_of, take_while};

use super::CompareOp;
use super::check::Problem;
use super::display::Quoted;

type Input<'a> = LocatingSlice<&'a str>;

/// What is wrong, and where: a byte offset into the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) problem: Problem,
}

impl Fault {
    pub(super) fn new(offset: usize, problem: Problem) -> Self {
        Self { offset, problem }
    }

    pub(super) fn syntax(offset: usize, message: impl Into<String>) -> Self {
        Self::new(offset, Problem::new("syntax", message.into()))
    }
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'a> {
    OpenParenthesis,
    CloseParenthesis,
    OpenBracket,
    CloseBracket,
    Comma,
    /// An operator made of signs.
    Sign(CompareOp),
    /// An operator of another language, and what it is called here.
    Foreign(&'a str, &'static str),
    /// A keyword or a path.
    Word(&'a str),
    Quoted(String),
    Number(f64),
    End,
}

impl Token<'_> {
    /// Returns whether it is this keyword; keywords have no case.
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Names the token in an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::OpenParenthesis => "`(`".into(),
            Token::CloseParenthesis => "`)`".into(),
            Token::OpenBracket => "`[`".into(),
            Token::CloseBracket => "`]`".into(),
            Token::Comma => "`,`".into(),
            Token::Sign(op) => format!("`{}`", op.as_str()),
            Token::Foreign(sign, _) => format!("`{sign}`"),
            Token::Word(word) => format!("`{}`", shortened(word)),
            Token::Quoted(text) => format!("the text {}", Quoted(&shortened(text))),
            Token::Number(number) => format!("the number {number}"),
            Token::End => "the end".into(),
        }
    }
}

/// The first 60 characters, for messages.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Reads tokens one at a time, so that a limit stops the reading of a hostile text early.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    input: Input<'a>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, input: LocatingSlice::new(source) }
    }

    /// Reads the next token and the byte offset where it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), Fault> {
        self.skip(char::is_whitespace);
        let start = self.offset();
        let Some(first) = self.rest().chars().next() else { return Ok((start, Token::End)) };
        let token = match first {
            '\'' | '"' => {
                self.bump();
                Token::Quoted(self.quoted(start, first)?)
            }
            '-' | '0'..='9' => Token::Number(self.number(start)?),
            _ if first == '_' || first.is_alphabetic() => Token::Word(self.word(start)?),
            _ => sign.parse_next(&mut self.input).map_err(|_| unexpected(start, first))?,
        };
        Ok((start, token))
    }

    fn offset(&self) -> usize {
        self.input.current_token_start()
    }

    fn rest(&self) -> &'a str {
        &self.source[self.offset()..]
    }

    fn bump(&mut self) -> Option<char> {
        any::<_, EmptyError>.parse_next(&mut self.input).ok()
    }

    fn skip(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        take_while::<_, _, EmptyError>(0.., belongs).parse_next(&mut self.input).unwrap_or_default()
    }

    fn number(&mut self, start: usize) -> Result<f64, Fault> {
        let digits = number.parse_next(&mut self.input);
        let tail = self.skip(|next| is_word(next) || matches!(next, '.' | '+'));
        if let (Ok(digits), true) = (digits, tail.is_empty()) {
            return match digits.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err(Fault::syntax(start, format!("`{}` is too big for a number", shortened(digits)))),
            };
        }
        let text = shortened(&self.source[start..self.offset()]);
        let hint = "numbers look like 500, -1.5 or 2e6 and have no unit";
        Err(Fault::syntax(start, format!("`{text}` is not a number; {hint}")))
    }

    /// Letters, digits, `_` and `-` in segments separated by dots; a segment after a dot may be in double quotes.
    fn word(&mut self, start: usize) -> Result<&'a str, Fault> {
        loop {
            self.skip(|next| is_word(next) || next == '.');
            let word = &self.source[start..self.offset()];
            if !(word.ends_with('.') && self.rest().starts_with('"')) {
                return Ok(word);
            }
            self.quoted_segment()?;
        }
    }

    /// Skips a quoted segment; [`FieldPath`](crate::event::FieldPath) reads what it means.
    fn quoted_segment(&mut self) -> Result<(), Fault> {
        let open = self.offset();
        self.bump();
        loop {
            self.skip(|next| !matches!(next, '"' | '\\'));
            match self.bump() {
                Some('"') => return Ok(()),
                Some(_) => {
                    self.bump();
                }
                None => {
                    return Err(Fault::syntax(open, "this name is never closed: a closing \" is missing"));
                }
            }
        }
    }

    /// Reads the rest of a quoted text after its opening quote.
    fn quoted(&mut self, open: usize, quote: char) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            text.push_str(self.skip(|next| next != quote && next != '\\'));
            let at = self.offset();
            match self.bump() {
                Some('\\') => {
                    if let Some(kind) = self.bump() {
                        text.push(self.escape(at, kind)?);
                    }
                }
                // A doubled quote is one quote, as in SQL.
                Some(_) if self.rest().starts_with(quote) => {
                    self.bump();
                    text.push(quote);
                }
                Some(_) => return Ok(text),
                None => {
                    let message = format!("this text is never closed: a closing {quote} is missing");
                    return Err(Fault::syntax(open, message));
                }
            }
        }
    }

    fn escape(&mut self, at: usize, kind: char) -> Result<char, Fault> {
        match kind {
            '\\' | '\'' | '"' => Ok(kind),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'u' => unicode.parse_next(&mut self.input).map_err(|_| {
                Fault::syntax(at, "a Unicode escape is written \\u{1F600} and names a character")
            }),
            _ => Err(Fault::syntax(
                at,
                format!(
                    "unknown escape `\\{}`; a backslash itself is written `\\\\`, \
                     and the escapes are \\\\ \\' \\\" \\n \\r \\t \\u{{...}}",
                    printable(kind)
                ),
            )),
        }
    }
}

fn is_word(character: char) -> bool {
    matches!(character, '_' | '-') || character.is_alphanumeric()
}

fn number<'a>(input: &mut Input<'a>) -> Result<&'a str, EmptyError> {
    let fraction = ('.', digit1);
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    (opt('-'), digit1, opt(fraction), opt(exponent)).take().parse_next(input)
}

fn unicode(input: &mut Input<'_>) -> Result<char, EmptyError> {
    ('{', take_while(1..=6, |digit: char| digit.is_ascii_hexdigit()), '}')
        .verify_map(|(_, digits, _)| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32))
        .parse_next(input)
}

/// Longer signs come before their own beginnings.
fn sign<'a>(input: &mut Input<'a>) -> Result<Token<'a>, EmptyError> {
    fn of<'a>(text: &'static str, token: Token<'a>) -> impl Parser<Input<'a>, Token<'a>, EmptyError> {
        literal(text).value(token)
    }
    fn foreign<'a>(text: &'static str, here: &'static str) -> impl Parser<Input<'a>, Token<'a>, EmptyError> {
        literal(text).value(Token::Foreign(text, here))
    }
    alt((
        alt((foreign("==", "="), foreign("=~", "matches"), foreign("=>", ">="), foreign("=<", "<="))),
        alt((foreign("<>", "!="), foreign("&&", "and"), foreign("||", "or"), foreign("~", "matches"))),
        alt((
            of("!=", Token::Sign(CompareOp::Ne)),
            foreign("!", "not"),
            foreign("&", "and"),
            foreign("|", "or"),
        )),
        alt((of("<=", Token::Sign(CompareOp::Le)), of(">=", Token::Sign(CompareOp::Ge)))),
        alt((of("<", Token::Sign(CompareOp::Lt)), of(">", Token::Sign(CompareOp::Gt)))),
        alt((of("=", Token::Sign(CompareOp::Eq)), of(",", Token::Comma))),
        alt((of("(", Token::OpenParenthesis), of(")", Token::CloseParenthesis))),
        alt((of("[", Token::OpenBracket), of("]", Token::CloseBracket))),
    ))
    .parse_next(input)
}

fn unexpected(offset: usize, character: char) -> Fault {
    let hint = match character {
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' | '`' => {
            "; text is written in straight quotes, '...' or \"...\""
        }
        '{' | '}' => "; lists are written [...] and groups (...)",
        '*' | '%' => "; for a part of a text use contains, starts_with, ends_with or matches",
        _ => "",
    };
    Fault::syntax(offset, format!("unexpected character `{}`{hint}", printable(character)))
}

fn printable(character: char) -> String {
    if character.is_control() { character.escape_unicode().to_string() } else { character.to_string() }
}
