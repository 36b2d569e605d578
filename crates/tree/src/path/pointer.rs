//! JSON Pointers (RFC 6901). A pointer does not say what kind a container is, so one is read against
//! a document: see [`crate::View::resolve`].

use super::{Path, Segment};
use crate::error::{Error, Result};

impl Path {
    /// The path as a JSON Pointer: names and indices alike, `~` and `/` escaped.
    pub fn to_pointer(&self) -> String {
        let mut out = String::new();
        for segment in self.segments() {
            out.push('/');
            match segment {
                Segment::Field(name) | Segment::Key(name) => {
                    out.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                Segment::Index(index) => out.push_str(&index.to_string()),
                Segment::Sparse(index) => out.push_str(&index.to_string()),
            }
        }
        out
    }

    /// Reads a JSON Pointer where all containers are objects and dense arrays, and no name of a field
    /// is a number: a token that is one is an index.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn from_pointer(pointer: &str) -> Result<Path> {
        let step = |token: String| match index(&token) {
            Some(index) => Segment::Index(index),
            None => Segment::Field(token),
        };
        Ok(Path(tokens(pointer)?.into_iter().map(step).collect()))
    }
}

/// An index as RFC 6901 has it: no leading zeros.
pub(crate) fn index(token: &str) -> Option<u64> {
    let number = token.parse::<u64>().ok()?;
    (number.to_string() == token).then_some(number)
}

/// The tokens of a JSON Pointer, unescaped.
pub(crate) fn tokens(pointer: &str) -> Result<Vec<String>> {
    let fail = |at, what: &str| {
        Err(Error::Path {
            text: pointer.to_string(),
            at,
            what: what.into(),
        })
    };
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return fail(0, "a JSON Pointer starts with a slash");
    };
    let mut tokens = Vec::new();
    let mut at = 1;
    for token in rest.split('/') {
        for (tilde, _) in token.match_indices('~') {
            if !matches!(token.as_bytes().get(tilde + 1), Some(b'0' | b'1')) {
                return fail(at + tilde, "~ is followed by 0 or 1 in a JSON Pointer");
            }
        }
        tokens.push(token.replace("~1", "/").replace("~0", "~"));
        at += token.len() + 1;
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_the_rfc_are_read_and_printed() {
        // RFC 6901, section 5.
        for (pointer, path) in [
            ("", ""),
            ("/foo", "foo"),
            ("/foo/0", "foo[0]"),
            ("/", "''"),
            ("/a~1b", "'a/b'"),
            ("/c%d", "c%d"),
            ("/e^f", "e^f"),
            ("/i\\j", "'i\\\\j'"),
            ("/ ", "' '"),
            ("/m~0n", "m~n"),
            ("/a/01", "a.01"),
            ("/~01", "~1"),
        ] {
            let parsed = Path::from_pointer(pointer).unwrap();
            assert_eq!(parsed.to_string(), path, "{pointer}");
            assert_eq!(parsed.to_pointer(), pointer);
            assert_eq!(Path::parse(path).unwrap(), parsed);
        }
        for wrong in ["foo", "/a~", "/a~2"] {
            assert!(Path::from_pointer(wrong).is_err(), "{wrong}");
        }
    }
}
