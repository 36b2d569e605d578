//! Paths with wildcards, for reads and watches: `*` is any one step, `[*]`, `{*}` and `(*)` any
//! element of that kind of array, `**` any number of steps. Pure.

use super::{Path, Segment, text};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A path in which steps may be wildcards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pattern(Vec<Step>);

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    /// This one.
    Is(Segment),
    /// Any one.
    Any,
    /// Any element of a dense array.
    AnyIndex,
    /// Any element of a sparse array.
    AnySparse,
    /// Any element of a keyed array.
    AnyKey,
    /// Any number of any.
    Many,
}

impl Step {
    fn matches(&self, segment: &Segment) -> bool {
        match self {
            Step::Is(this) => this == segment,
            Step::Any | Step::Many => true,
            Step::AnyIndex => matches!(segment, Segment::Index(_)),
            Step::AnySparse => matches!(segment, Segment::Sparse(_)),
            Step::AnyKey => matches!(segment, Segment::Key(_)),
        }
    }
}

impl Pattern {
    /// Reads a path or a pattern.
    ///
    /// # Errors
    /// [`Error::Path`] saying where and what.
    pub fn parse(text: &str) -> Result<Self> {
        let steps = text::parse(text)?;
        if steps.iter().filter(|step| **step == Step::Many).count() > 4 {
            return Err(Error::Path {
                text: text.to_string(),
                at: 0,
                what: "more than four **".into(),
            });
        }
        Ok(Self(steps))
    }

    /// The path, when there is no wildcard in it.
    pub fn into_path(self) -> Option<Path> {
        let segments = self.0.into_iter().map(|step| match step {
            Step::Is(segment) => Some(segment),
            _ => None,
        });
        segments.collect::<Option<Vec<_>>>().map(Path)
    }

    /// True when there is a wildcard in it.
    pub fn has_wildcards(&self) -> bool {
        self.0.iter().any(|step| !matches!(step, Step::Is(_)))
    }

    /// The path up to the first wildcard: everything that matches lies there or below.
    pub fn literal_prefix(&self) -> Path {
        let literal = self.0.iter().map_while(|step| match step {
            Step::Is(segment) => Some(segment.clone()),
            _ => None,
        });
        Path(literal.collect())
    }

    /// True when it names the node at `path`.
    pub fn matches(&self, path: &Path) -> bool {
        matches(&self.0, path.segments())
    }

    /// The nodes on the way to `path`, itself included, that it names: how many steps each has.
    pub fn matches_above(&self, path: &Path) -> impl Iterator<Item = usize> {
        let segments = path.segments();
        (0..=segments.len()).filter(move |depth| matches(&self.0, &segments[..*depth]))
    }

    /// True when it may name a node strictly below `path`.
    pub(crate) fn may_match_below(&self, path: &Path) -> bool {
        may_match_below(&self.0, path.segments())
    }
}

/// Glob matching with one place to come back to.
fn matches(steps: &[Step], segments: &[Segment]) -> bool {
    let (mut step, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if steps.get(step) == Some(&Step::Many) {
            step += 1;
            back = Some((step, at));
        } else if at == segments.len() && step == steps.len() {
            return true;
        } else if at < segments.len()
            && steps
                .get(step)
                .is_some_and(|step| step.matches(&segments[at]))
        {
            step += 1;
            at += 1;
        } else {
            match &mut back {
                Some((after, from)) if *from < segments.len() => {
                    *from += 1;
                    (step, at) = (*after, *from);
                }
                _ => return false,
            }
        }
    }
}

fn may_match_below(steps: &[Step], segments: &[Segment]) -> bool {
    match steps.split_first() {
        None => false,
        Some((Step::Many, _)) => true,
        Some((step, rest)) => match segments.split_first() {
            None => true,
            Some((segment, below)) => step.matches(segment) && may_match_below(rest, below),
        },
    }
}

impl From<Path> for Pattern {
    fn from(path: Path) -> Self {
        Self(path.0.into_iter().map(Step::Is).collect())
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            match step {
                Step::Is(segment) => text::print(segment, at == 0, f)?,
                Step::Any => write!(f, "{dot}*")?,
                Step::Many => write!(f, "{dot}**")?,
                Step::AnyIndex => f.write_str("[*]")?,
                Step::AnySparse => f.write_str("{*}")?,
                Step::AnyKey => f.write_str("(*)")?,
            }
        }
        Ok(())
    }
}

/// What names nodes: a pattern, a path, or the text of either.
pub trait ToPattern {
    /// The pattern.
    ///
    /// # Errors
    /// [`Error::Path`] for a text that is none.
    fn to_pattern(&self) -> Result<Pattern>;
}

impl ToPattern for Pattern {
    fn to_pattern(&self) -> Result<Pattern> {
        Ok(self.clone())
    }
}

impl ToPattern for Path {
    fn to_pattern(&self) -> Result<Pattern> {
        Ok(self.clone().into())
    }
}

impl ToPattern for str {
    fn to_pattern(&self) -> Result<Pattern> {
        Pattern::parse(self)
    }
}

impl ToPattern for String {
    fn to_pattern(&self) -> Result<Pattern> {
        Pattern::parse(self)
    }
}

impl<T: ToPattern + ?Sized> ToPattern for &T {
    fn to_pattern(&self) -> Result<Pattern> {
        (**self).to_pattern()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_what_they_say() {
        for (pattern, path, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a[0]", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a[*]", "a[7]", true),
            ("a[*]", "a.b", false),
            ("a{*}", "a{-7}", true),
            ("a(*).n", "a(k).n", true),
            ("**", "", true),
            ("**", "a.b[0]", true),
            ("a.**.z", "a.z", true),
            ("a.**.z", "a.b.c.z", true),
            ("a.**.z", "a.b.c.y", false),
            ("**.b.**.d", "a.b.b.c.d", true),
            ("**.b.c", "a.b.b.c", true),
            ("'*'", "a", false),
            ("'*'", "'*'", true),
        ] {
            let (of, at) = (Pattern::parse(pattern).unwrap(), Path::parse(path).unwrap());
            assert_eq!(of.matches(&at), expected, "{pattern} {path}");
            assert_eq!(of.to_string(), pattern);
        }
    }

    #[test]
    fn what_may_lie_below_is_known() {
        for (pattern, path, expected) in [
            ("a.b", "", true),
            ("a.b", "a", true),
            ("a.b", "a.b", false),
            ("a.*", "b", false),
            ("**.x", "b.c", true),
            ("a.*.c", "a.b", true),
            ("a.*.c", "a.b.c", false),
        ] {
            let (of, at) = (Pattern::parse(pattern).unwrap(), Path::parse(path).unwrap());
            assert_eq!(of.may_match_below(&at), expected, "{pattern} {path}");
        }
        let pattern = Pattern::parse("a.**").unwrap();
        let path = Path::parse("a.b.c").unwrap();
        assert_eq!(pattern.matches_above(&path).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(pattern.literal_prefix().to_string(), "a");
    }
}
