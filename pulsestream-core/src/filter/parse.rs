//! The parser of the filter language: recursive descent, one token ahead.

use super::check::{Problem, check_depth, check_in_length, check_operator, check_predicates, check_value};
use super::hint;
use super::lex::{Fault, Lexer, Token};
use super::{CompareOp, Expr};
use crate::event::{FieldPath, Value};
use crate::text::Text;

/// Reads a whole filter. The expression is within every limit except the canonical form.
pub(super) fn parse(source: &str) -> Result<Expr, Fault> {
    let mut parser = Parser::new(source)?;
    if parser.token == Token::End {
        let message = "the filter is empty; write `true` to match every event";
        return Err(Fault::new(0, Problem::new("empty", message)));
    }
    let expr = parser.any_of()?;
    match parser.token {
        Token::End => Ok(expr),
        _ => Err(parser.trailing(&expr)),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token to be read next, and where it starts.
    token: Token<'a>,
    at: usize,
    depth: usize,
    predicates: usize,
}

/// What follows a field.
pub(super) enum Operator {
    Compare(CompareOp),
    In,
    Exists,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Result<Self, Fault> {
        let mut lexer = Lexer::new(source);
        let (at, token) = lexer.next()?;
        Ok(Self { lexer, token, at, depth: 0, predicates: 0 })
    }

    /// Takes the token and its place.
    fn take(&mut self) -> Result<(usize, Token<'a>), Fault> {
        let (next_at, next) = self.lexer.next()?;
        Ok((std::mem::replace(&mut self.at, next_at), std::mem::replace(&mut self.token, next)))
    }

    fn take_if(&mut self, wanted: &Token<'_>) -> Result<bool, Fault> {
        let found = self.token == *wanted;
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn take_word(&mut self, keyword: &str) -> Result<bool, Fault> {
        let found = self.token.is_word(keyword);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    /// One level deeper, while `inside` is read.
    fn nested<T>(
        &mut self,
        at: usize,
        inside: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.depth += 1;
        check_depth(self.depth).map_err(|problem| Fault::new(at, problem))?;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn any_of(&mut self) -> Result<Expr, Fault> {
        let first = self.all_of()?;
        if !self.token.is_word("or") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_word("or")? {
            parts.push(self.all_of()?);
        }
        Ok(Expr::Or(parts))
    }

    fn all_of(&mut self) -> Result<Expr, Fault> {
        let first = self.negation()?;
        if !self.token.is_word("and") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_word("and")? {
            parts.push(self.negation()?);
        }
        Ok(Expr::And(parts))
    }

    fn negation(&mut self) -> Result<Expr, Fault> {
        let at = self.at;
        if self.take_word("not")? {
            return self.nested(at, |parser| Ok(Expr::Not(Box::new(parser.negation()?))));
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Expr, Fault> {
        let at = self.at;
        if self.take_if(&Token::OpenParenthesis)? {
            return self.nested(at, |parser| {
                let expr = parser.any_of()?;
                parser.close(at, &expr)?;
                Ok(expr)
            });
        }
        if self.take_word("true")? {
            return Ok(Expr::True);
        }
        self.predicates += 1;
        check_predicates(self.predicates).map_err(|problem| Fault::new(at, problem))?;
        match &self.token {
            Token::Quoted(_) => match self.take()?.1 {
                Token::Quoted(text) => Ok(Expr::Text(Text::from(text))),
                other => Err(hint::no_condition(at, &other)),
            },
            Token::Word(word) if word.eq_ignore_ascii_case("exists") => {
                self.take()?;
                self.exists_call()
            }
            Token::Word(word) if !hint::is_keyword(word) => {
                let field = hint::field(word, at)?;
                self.take()?;
                self.comparison(field)
            }
            other => Err(hint::no_condition(at, other)),
        }
    }

    /// `(field)` after `exists`.
    fn exists_call(&mut self) -> Result<Expr, Fault> {
        let open = self.at;
        if !self.take_if(&Token::OpenParenthesis)? {
            let found = self.token.describe();
            let message = format!("expected `(` after `exists`, found {found}; write exists(error.code)");
            return Err(Fault::syntax(self.at, message));
        }
        let Token::Word(word) = self.token else {
            let found = self.token.describe();
            return Err(Fault::syntax(self.at, format!("expected a field, found {found}")));
        };
        let field = hint::field(word, self.at)?;
        self.take()?;
        let expr = Expr::Exists(field);
        self.close(open, &expr)?;
        Ok(expr)
    }

    /// The `)` for the `(` at `open`, after `inside`.
    fn close(&mut self, open: usize, inside: &Expr) -> Result<(), Fault> {
        if self.take_if(&Token::CloseParenthesis)? {
            return Ok(());
        }
        if self.token == Token::End {
            return Err(Fault::syntax(open, "this `(` is never closed: a `)` is missing"));
        }
        Err(hint::no_connective(self.at, &self.token, inside, "`)`"))
    }

    fn trailing(&self, expr: &Expr) -> Fault {
        if self.token == Token::CloseParenthesis {
            return Fault::syntax(self.at, "this `)` closes nothing: no `(` is open");
        }
        hint::no_connective(self.at, &self.token, expr, "the end")
    }

    fn comparison(&mut self, field: FieldPath) -> Result<Expr, Fault> {
        let negated_at = self.at;
        let negated = self.take_word("not")?;
        let operator = self.operator(&field, negated)?;
        let build = |parser: &mut Self| match operator {
            Operator::Compare(op) => {
                let value = parser.literal(&field, Some(op))?;
                Ok(Expr::Compare { field, op, value })
            }
            Operator::In => {
                let values = parser.list(&field)?;
                Ok(Expr::In { field, values })
            }
            Operator::Exists => Ok(Expr::Exists(field)),
        };
        if negated {
            return self.nested(negated_at, |parser| Ok(Expr::Not(Box::new(build(parser)?))));
        }
        build(self)
    }

    /// Reads the operator; after `not` only the ones written as words.
    fn operator(&mut self, field: &FieldPath, negated: bool) -> Result<Operator, Fault> {
        let operator = match &self.token {
            Token::Sign(op) if !negated => Operator::Compare(*op),
            Token::Word(word) => match hint::operator_word(word) {
                Some(operator) => operator,
                None => return Err(hint::no_operator(self.at, &self.token, field, negated)),
            },
            other => return Err(hint::no_operator(self.at, other, field, negated)),
        };
        if let Operator::Compare(op) = operator {
            check_operator(field, op).map_err(|problem| Fault::new(self.at, problem))?;
        }
        self.take()?;
        Ok(operator)
    }

    /// Reads a literal that the field and the operator take; `op` is `None` inside a list.
    fn literal(&mut self, field: &FieldPath, op: Option<CompareOp>) -> Result<Value, Fault> {
        let at = self.at;
        let value = match &self.token {
            Token::Number(number) => Value::Number(*number),
            Token::Quoted(text) => Value::Text(Text::from(text.as_str())),
            word if word.is_word("true") => Value::Bool(true),
            word if word.is_word("false") => Value::Bool(false),
            other => return Err(hint::no_literal(at, other, field, op)),
        };
        check_value(field, op, &value).map_err(|problem| Fault::new(at, problem))?;
        self.take()?;
        Ok(value)
    }

    fn list(&mut self, field: &FieldPath) -> Result<Vec<Value>, Fault> {
        let open = self.at;
        if !self.take_if(&Token::OpenBracket)? {
            let found = self.token.describe();
            let message = format!("expected a list after `in`, found {found}; write ['a', 'b']");
            return Err(Fault::syntax(open, message));
        }
        let mut values = Vec::new();
        if self.take_if(&Token::CloseBracket)? {
            return Ok(values);
        }
        loop {
            check_in_length(values.len() + 1).map_err(|problem| Fault::new(self.at, problem))?;
            values.push(self.literal(field, None)?);
            if self.take_if(&Token::CloseBracket)? {
                return Ok(values);
            }
            if self.token == Token::End {
                return Err(Fault::syntax(open, "this `[` is never closed: a `]` is missing"));
            }
            if !self.take_if(&Token::Comma)? {
                let found = self.token.describe();
                return Err(Fault::syntax(self.at, format!("expected `,` or `]`, found {found}")));
            }
        }
    }
}
