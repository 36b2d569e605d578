//! Paths as text. `parse(print(p)) == p` for every path.

use super::Segment;
use super::pattern::Step;
use crate::error::{Error, Result};
use std::fmt::{self, Write};

/// Characters of ASCII that a name may have without quotes.
const BARE: [bool; 128] = {
    let mut bare = [true; 128];
    let (with_meaning, mut at) = (b".[]{}()'\"\\*/, \x7f", 0);
    while at < with_meaning.len() {
        bare[with_meaning[at] as usize] = false;
        at += 1;
    }
    let mut control = 0;
    while control < 0x20 {
        bare[control] = false;
        control += 1;
    }
    bare
};

/// True for a character that a name may have without quotes.
fn is_bare(c: char) -> bool {
    match BARE.get(c as usize) {
        Some(bare) => *bare,
        None => !(c.is_whitespace() || c.is_control()),
    }
}

/// How many bytes a name without quotes has at the start of `text`.
fn bare_len(text: &str) -> usize {
    let bare = |&byte: &u8| byte < 128 && BARE[usize::from(byte)];
    let ascii = text.bytes().take_while(bare).count();
    match text.as_bytes().get(ascii) {
        Some(128..) => {
            let rest = &text[ascii..];
            ascii + rest.find(|c| !is_bare(c)).unwrap_or(rest.len())
        }
        _ => ascii,
    }
}

/// Prints one step.
pub(super) fn print(segment: &Segment, first: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match segment {
        Segment::Field(name) => {
            if !first {
                f.write_char('.')?;
            }
            print_name(name, f)
        }
        Segment::Index(index) => write!(f, "[{index}]"),
        Segment::Sparse(index) => write!(f, "{{{index}}}"),
        Segment::Key(key) => {
            f.write_char('(')?;
            print_name(key, f)?;
            f.write_char(')')
        }
    }
}

fn print_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !name.is_empty() && name.chars().all(is_bare) {
        return f.write_str(name);
    }
    f.write_char('\'')?;
    for c in name.chars() {
        match c {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('\'')
}

/// Reads a path or a pattern.
pub(super) fn parse(text: &str) -> Result<Vec<Step>> {
    let mut reader = Reader { text, at: 0 };
    let mut steps = Vec::new();
    while reader.at < text.len() {
        let step = match reader.peek() {
            Some('[') => reader.index()?,
            Some('{') => reader.sparse()?,
            Some('(') => reader.key()?,
            Some('.') if !steps.is_empty() => {
                reader.at += 1;
                reader.field()?
            }
            Some('.') => return reader.fail("a path starts with a name, without a dot"),
            _ if steps.is_empty() => reader.field()?,
            Some(c) if matches!(steps.last(), Some(Step::Is(Segment::Field(_)))) => {
                return reader.fail(format!("{c:?} in a name; quote it, as in 'a{c}b'"));
            }
            _ => return reader.fail("expected a dot, [, { or ( between two steps"),
        };
        steps.push(step);
    }
    Ok(steps)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::Path {
            text: self.text.to_string(),
            at: self.at,
            what: what.into(),
        })
    }

    /// Takes `end` when it comes next.
    fn take(&mut self, end: &str) -> bool {
        let found = self.text[self.at..].starts_with(end);
        if found {
            self.at += end.len();
        }
        found
    }

    fn close(&mut self, end: &str) -> Result<()> {
        match self.take(end) {
            true => Ok(()),
            false => self.fail(format!("expected {end}")),
        }
    }

    fn field(&mut self) -> Result<Step> {
        if self.take("**") {
            return Ok(Step::Many);
        }
        if self.take("*") {
            return Ok(Step::Any);
        }
        Ok(Step::Is(Segment::Field(self.name("a name")?)))
    }

    fn key(&mut self) -> Result<Step> {
        self.at += 1;
        let step = match self.take("*") {
            true => Step::AnyKey,
            false => Step::Is(Segment::Key(self.name("a key")?)),
        };
        self.close(")")?;
        Ok(step)
    }

    fn index(&mut self) -> Result<Step> {
        self.at += 1;
        let step = match self.take("*") {
            true => Step::AnyIndex,
            false => Step::Is(Segment::Index(self.number("an index")?)),
        };
        self.close("]")?;
        Ok(step)
    }

    fn sparse(&mut self) -> Result<Step> {
        self.at += 1;
        let step = match self.take("*") {
            true => Step::AnySparse,
            false => Step::Is(Segment::Sparse(self.number("an index")?)),
        };
        self.close("}")?;
        Ok(step)
    }

    /// A number as it would be printed.
    fn number<N: std::str::FromStr + fmt::Display>(&mut self, what: &str) -> Result<N> {
        let rest = &self.text[self.at..];
        let len = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '-'))
            .unwrap_or(rest.len());
        let digits = &rest[..len];
        match digits.parse::<N>() {
            Ok(number) if number.to_string() == digits => {
                self.at += len;
                Ok(number)
            }
            _ => self.fail(format!("{digits:?} is not {what}")),
        }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            self.at += 1;
            return self.quoted(quote);
        }
        let rest = &self.text[self.at..];
        let len = bare_len(rest);
        if len == 0 {
            return self.fail(format!("{what} is missing (write '' for an empty one)"));
        }
        self.at += len;
        Ok(rest[..len].to_string())
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == quote {
                self.at += 1;
                return Ok(name);
            }
            match c {
                '\\' => name.push(self.escape()?),
                c => {
                    self.at += c.len_utf8();
                    name.push(c);
                }
            }
        }
        self.fail(format!("the end of the text, before the closing {quote}"))
    }

    fn escape(&mut self) -> Result<char> {
        let escaped = self.text[self.at + 1..].chars().next();
        let simple = match escaped {
            Some(c @ ('\\' | '\'' | '"')) => Some(c),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            _ => None,
        };
        if let Some(c) = simple {
            self.at += 2;
            return Ok(c);
        }
        let braced = self.text[self.at..].strip_prefix("\\u{");
        let hex = braced
            .and_then(|rest| rest.split_once('}'))
            .map(|(hex, _)| hex);
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match (hex, code.and_then(char::from_u32)) {
            (Some(hex), Some(c)) => {
                self.at += 4 + hex.len();
                Ok(c)
            }
            _ => self.fail(r#"an unknown escape; there are \\ \' \" \n \r \t and \u{1f}"#),
        }
    }
}
