//! The filter and order texts of MLflow's searches, read into clauses.
//!
//! A filter is clauses joined by AND: `metrics.loss < 0.1 AND tags."my tag" LIKE '%x%'`. There is
//! no OR, NOT, BETWEEN or nesting, and a last AND with nothing after it is accepted. What a key
//! may be, and which operators it takes, is for the search that asks to say.

use crate::error::Error;

/// One comparison of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// The part before the first dot, such as `metrics`; absent for a bare name.
    pub prefix: Option<String>,
    /// The name, without its quotes.
    pub key: String,
    /// How it is compared.
    pub op: Op,
    /// What it is compared with.
    pub value: Operand,
}

/// How a clause compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Like,
    Ilike,
    /// A regular expression finds something in it.
    Rlike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

/// The right side of a clause.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Text(String),
    Number(f64),
    List(Vec<String>),
    Nothing,
}

/// One key of an order, and whether it goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    /// As in [`Clause::prefix`].
    pub prefix: Option<String>,
    /// As in [`Clause::key`].
    pub key: String,
    /// The smallest first.
    pub ascending: bool,
}

impl Op {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Like => "LIKE",
            Self::Ilike => "ILIKE",
            Self::Rlike => "RLIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }
}

/// Reads a filter.
///
/// # Errors
/// [`Error::Invalid`] that begins with `Invalid clause(s) in filter string`.
pub fn parse_filter(text: &str) -> Result<Vec<Clause>, Error> {
    let wrong = |reason: &str| {
        Error::Invalid(format!(
            "Invalid clause(s) in filter string: {text:?}: {reason}"
        ))
    };
    let tokens = tokens(text).map_err(|reason| wrong(&reason))?;
    let mut reader = Reader { tokens, next: 0 };
    let mut clauses = Vec::new();
    while reader.peek().is_some() {
        clauses.push(reader.clause().map_err(|reason| wrong(&reason))?);
        match reader.take() {
            None => break,
            Some(token) if token.is_word("AND") => {}
            Some(token) => {
                return Err(wrong(&format!(
                    "expected AND, found {}; only AND joins clauses",
                    token.shown()
                )));
            }
        }
    }
    Ok(clauses)
}

/// Reads one item of an order: `metrics.loss DESC`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_order(text: &str) -> Result<OrderKey, Error> {
    let wrong =
        |reason: &str| Error::Invalid(format!("Invalid order_by clause '{text}': {reason}"));
    let tokens = tokens(text).map_err(|reason| wrong(&reason))?;
    let mut reader = Reader { tokens, next: 0 };
    let (prefix, key) = reader.key().map_err(|reason| wrong(&reason))?;
    let ascending = match reader.take() {
        None => true,
        Some(token) if token.is_word("ASC") => true,
        Some(token) if token.is_word("DESC") => false,
        Some(token) => {
            return Err(wrong(&format!(
                "expected ASC or DESC, found {}",
                token.shown()
            )));
        }
    };
    if reader.peek().is_some() {
        return Err(wrong("an item of order_by holds one key"));
    }
    Ok(OrderKey {
        prefix,
        key,
        ascending,
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name, a number or a keyword, with quoted parts of a dotted name already joined.
    Word {
        prefix: Option<String>,
        name: String,
        quoted: bool,
    },
    Text(String),
    Symbol(&'static str),
}

impl Token {
    fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Self::Word { prefix: None, name, quoted: false } if name.eq_ignore_ascii_case(keyword))
    }

    fn shown(&self) -> String {
        match self {
            Self::Word {
                prefix: Some(prefix),
                name,
                ..
            } => format!("'{prefix}.{name}'"),
            Self::Word { name, .. } => format!("'{name}'"),
            Self::Text(text) => format!("the text '{text}'"),
            Self::Symbol(symbol) => format!("'{symbol}'"),
        }
    }
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn clause(&mut self) -> Result<Clause, String> {
        let (prefix, key) = self.key()?;
        let op = self.op()?;
        let value = match op {
            Op::IsNull | Op::IsNotNull => Operand::Nothing,
            Op::In | Op::NotIn => Operand::List(self.list()?),
            _ => self.value()?,
        };
        Ok(Clause {
            prefix,
            key,
            op,
            value,
        })
    }

    fn key(&mut self) -> Result<(Option<String>, String), String> {
        match self.take() {
            Some(Token::Word { prefix, name, .. }) => Ok((prefix, name)),
            Some(other) => Err(format!("expected a key, found {}", other.shown())),
            None => Err("expected a key".to_owned()),
        }
    }

    fn op(&mut self) -> Result<Op, String> {
        let token = self.take().ok_or("expected an operator")?;
        let symbol = match &token {
            Token::Symbol(symbol) => *symbol,
            Token::Word { .. } => "",
            Token::Text(_) => return Err(format!("expected an operator, found {}", token.shown())),
        };
        Ok(match symbol {
            "=" => Op::Eq,
            "!=" | "<>" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            _ if token.is_word("LIKE") => Op::Like,
            _ if token.is_word("ILIKE") => Op::Ilike,
            _ if token.is_word("RLIKE") => Op::Rlike,
            _ if token.is_word("IN") => Op::In,
            _ if token.is_word("NOT") && self.take_word("IN") => Op::NotIn,
            _ if token.is_word("IS") => {
                let not = self.take_word("NOT");
                match self.take_word("NULL") {
                    true if not => Op::IsNotNull,
                    true => Op::IsNull,
                    false => return Err("expected NULL after IS".to_owned()),
                }
            }
            _ => return Err(format!("expected an operator, found {}", token.shown())),
        })
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(keyword));
        if found {
            self.next += 1;
        }
        found
    }

    fn value(&mut self) -> Result<Operand, String> {
        match self.take() {
            Some(Token::Text(text)) => Ok(Operand::Text(text)),
            // A double-quoted value looks like a quoted key.
            Some(Token::Word {
                prefix: None,
                name,
                quoted: true,
            }) => Ok(Operand::Text(name)),
            Some(Token::Word { prefix, name, .. }) => {
                let text = prefix.map_or(name.clone(), |prefix| format!("{prefix}.{name}"));
                let number = text.parse().map_err(|_| {
                    format!("the value {text} is neither a number nor a quoted text")
                })?;
                Ok(Operand::Number(number))
            }
            Some(other) => Err(format!("expected a value, found {}", other.shown())),
            None => Err("expected a value".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        if self.take() != Some(Token::Symbol("(")) {
            return Err("expected '(' after IN".to_owned());
        }
        let mut items = Vec::new();
        loop {
            match self.value()? {
                Operand::Text(text) => items.push(text),
                _ => return Err("a list holds quoted texts".to_owned()),
            }
            match self.take() {
                Some(Token::Symbol(")")) => return Ok(items),
                Some(Token::Symbol(",")) if self.peek() == Some(&Token::Symbol(")")) => {
                    self.next += 1;
                    return Ok(items);
                }
                Some(Token::Symbol(",")) => {}
                _ => return Err("expected ',' or ')' in the list".to_owned()),
            }
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SYMBOLS: [&str; 10] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else if rest.starts_with('\'') {
            let (inner, after) = quoted(rest)?;
            tokens.push(Token::Text(inner));
            rest = after;
        } else {
            let (token, after) = word(rest)?;
            tokens.push(token);
            rest = after;
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// Reads a text that begins with its quote; the quote written twice stands for itself.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().unwrap_or('\'');
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            inner.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            inner.push(quote);
        } else {
            return Ok((inner, &text[at + quote.len_utf8()..]));
        }
    }
    Err(format!("{text} has no closing quote"))
}

/// Reads a dotted name such as `metrics.loss` or `` tags.`a b` ``, or a number.
fn word(text: &str) -> Result<(Token, &str), String> {
    if text.starts_with('`') || text.starts_with('"') {
        let (name, rest) = quoted(text)?;
        let token = Token::Word {
            prefix: None,
            name,
            quoted: true,
        };
        return Ok((token, rest));
    }
    let ends = |c: char| c.is_whitespace() || "'\"`=!<>(),".contains(c);
    let end = text.find(ends).unwrap_or(text.len());
    let (bare, rest) = text.split_at(end);
    if bare.is_empty() {
        let found: String = text.chars().take(1).collect();
        return Err(format!("unexpected {found}"));
    }
    if let Some(prefix) = bare.strip_suffix('.')
        && (rest.starts_with('`') || rest.starts_with('"'))
    {
        let (name, rest) = quoted(rest)?;
        let token = Token::Word {
            prefix: Some(prefix.to_owned()),
            name,
            quoted: true,
        };
        return Ok((token, rest));
    }
    let (prefix, name) = match bare.split_once('.') {
        Some((prefix, name)) => (Some(prefix.to_owned()), name.to_owned()),
        None => (None, bare.to_owned()),
    };
    let token = Token::Word {
        prefix,
        name,
        quoted: false,
    };
    Ok((token, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Clause {
        let mut clauses = parse_filter(text).unwrap();
        assert_eq!(clauses.len(), 1, "{text}");
        clauses.remove(0)
    }

    fn text(value: &str) -> Operand {
        Operand::Text(value.to_owned())
    }

    #[test]
    fn keys_may_be_bare_dotted_or_quoted() {
        assert_eq!(one("name = 'model'").key, "name");
        for filter in [
            "tags.`a b.c` = 'x'",
            "tags.\"a b.c\"='x'",
            "tags.\"a b.c\" = \"x\"",
        ] {
            let clause = one(filter);
            assert_eq!(clause.prefix.as_deref(), Some("tags"), "{filter}");
            assert_eq!(clause.key, "a b.c", "{filter}");
            assert_eq!(clause.value, text("x"), "{filter}");
        }
        assert_eq!(one("metrics.a.b > 1").key, "a.b");
        assert_eq!(one("`name` = 'x'").key, "name");
    }

    #[test]
    fn values_are_texts_numbers_and_lists() {
        assert_eq!(one("metrics.a >= -1.5e3").value, Operand::Number(-1500.0));
        assert_eq!(one("params.a = 'it''s'").value, text("it's"));
        let clause = one("run_id not in ('a', \"b\",)");
        assert_eq!(clause.op, Op::NotIn);
        assert_eq!(clause.value, Operand::List(vec!["a".into(), "b".into()]));
        assert_eq!(one("tags.x is not null").op, Op::IsNotNull);
        assert_eq!(one("tags.x IS NULL").value, Operand::Nothing);
    }

    #[test]
    fn clauses_are_joined_by_and_only() {
        let clauses = parse_filter("a = 'x' and metrics.b<2 AND ").unwrap();
        assert_eq!(clauses.len(), 2);
        assert_eq!(parse_filter("  ").unwrap(), []);
        for wrong in [
            "a = 'x' OR b = 'y'",
            "NOT a = 'x'",
            "(a = 'x')",
            "a BETWEEN 1 AND 2",
            "a = 'x' b = 'y'",
            "a =",
            "a",
            "= 'x'",
            "a = x",
            "a = 'x",
            "a IN 'x'",
            "a IN ()",
            "a IN ('x'",
            "a IS 'x'",
            "AND",
            "a = 'x'; DROP TABLE runs",
        ] {
            let error = parse_filter(wrong).unwrap_err().to_string();
            assert!(error.starts_with("Invalid clause(s)"), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_order_is_one_key_and_its_direction() {
        let order = parse_order("metrics.`a b` DESC").unwrap();
        assert_eq!((order.key.as_str(), order.ascending), ("a b", false));
        assert!(parse_order("name").unwrap().ascending);
        assert!(parse_order("name ASC").unwrap().ascending);
        for wrong in ["", "name UP", "name, other", "name ASC DESC"] {
            assert!(parse_order(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_filter(&text);
            let _ = parse_order(&text);
        }

        #[test]
        fn any_quoted_text_is_read_back(value in ".*", key in "[^`]+") {
            let filter = format!("tags.`{key}` = '{}'", value.replace('\'', "''"));
            let clause = one(&filter);
            prop_assert_eq!(clause.key, key);
            prop_assert_eq!(clause.value, Operand::Text(value));
        }
    }
}
