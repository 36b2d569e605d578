//! Decides, version by version, what a flush or a compaction keeps. Pure; memory does not grow with
//! keys: it holds one entry.
//!
//! - A version goes when no retained commit reads it, or when the limits of the history policy say
//!   so and no pin needs it; then the oldest version kept carries the *truncated* mark.
//! - A tombstone goes when it is the oldest kept of its key, is old enough, and nothing older of
//!   that key can exist outside the inputs. Deleted keys never come back.

use crate::error::Result;
use crate::options::History;
use crate::retention::Retention;
use crate::types::{Commit, Tag};

/// Takes what is kept, in order.
pub(crate) trait Sink {
    fn keep(&mut self, key: &[u8], commit: Commit, tag: Tag, value: &[u8]) -> Result<()>;
}

/// The rules of one run.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) retention: &'a Retention,
    pub(crate) history: &'a History,
    /// Some versions carry marks, or are to get them.
    pub(crate) limited: bool,
    /// Versions superseded at or before this commit are older than `max_age`.
    pub(crate) aged: Commit,
    /// Tombstones at or before this commit are older than `tombstone_age`.
    pub(crate) tombstones_aged: Commit,
}

/// The decision, with what it must remember between entries.
pub(crate) struct VersionFilter<'a, F> {
    rules: Rules<'a>,
    /// Is anything older of this key, written before this commit, possible outside the inputs?
    older_outside: F,
    key: Vec<u8>,
    any: bool,
    newer: Option<Commit>,
    kept: u32,
    held: Held,
    dropped: u64,
}

/// The last entry kept, until it is known whether it is the oldest of its key.
#[derive(Debug, Default)]
struct Held {
    some: bool,
    commit: Commit,
    tag: Option<Tag>,
    value: Vec<u8>,
}

impl<'a, F: Fn(&[u8], Commit) -> bool> VersionFilter<'a, F> {
    pub(crate) fn new(rules: Rules<'a>, older_outside: F) -> Self {
        Self {
            rules,
            older_outside,
            key: Vec::new(),
            any: false,
            newer: None,
            kept: 0,
            held: Held::default(),
            dropped: 0,
        }
    }

    /// How many versions went.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the next entry in order.
    pub(crate) fn push(
        &mut self,
        key: &[u8],
        commit: Commit,
        tag: Tag,
        value: &[u8],
        sink: &mut impl Sink,
    ) -> Result<()> {
        if !self.any || self.key != key {
            self.release(true, sink)?;
            self.any = true;
            self.key.clear();
            self.key.extend_from_slice(key);
            self.newer = None;
            self.kept = 0;
        }
        let newer = self.newer.replace(commit);
        if newer == Some(commit) || !self.rules.retention.needs(commit, newer) {
            self.dropped += 1;
            if tag.is_truncated() {
                // What it says about the versions below it, the one above it must say from now on.
                self.mark_held();
            }
            return Ok(());
        }
        let over = self.over_limit(commit, newer);
        if over && newer.is_some() {
            self.dropped += 1;
            self.mark_held();
            return Ok(());
        }
        self.release(false, sink)?;
        self.kept += 1;
        let (tag, value) = match over {
            // The newest version has expired: from now on the key is gone.
            true => (Tag::DELETE.truncated(), &b""[..]),
            false => (tag, value),
        };
        if tag.is_put() && !self.rules.limited {
            return sink.keep(key, commit, tag, value);
        }
        self.held.some = true;
        self.held.commit = commit;
        self.held.tag = Some(tag);
        self.held.value.clear();
        self.held.value.extend_from_slice(value);
        Ok(())
    }

    /// Call after the last entry.
    pub(crate) fn finish(&mut self, sink: &mut impl Sink) -> Result<()> {
        self.release(true, sink)
    }

    fn over_limit(&self, commit: Commit, newer: Option<Commit>) -> bool {
        let history = self.rules.history;
        if !history.truncates() || self.rules.retention.pinned(commit, newer) {
            return false;
        }
        let too_many = history.max_versions.is_some_and(|most| self.kept >= most);
        let too_old = history.max_age.is_some()
            && match newer {
                Some(newer) => newer <= self.rules.aged,
                None => history.expire && commit <= self.rules.aged,
            };
        too_many || too_old
    }

    fn mark_held(&mut self) {
        self.held.tag = self.held.tag.map(Tag::truncated);
    }

    fn release(&mut self, oldest: bool, sink: &mut impl Sink) -> Result<()> {
        if !self.held.some {
            return Ok(());
        }
        self.held.some = false;
        let tag = self.held.tag.take().expect("a held entry has a tag");
        if oldest && !tag.is_put() && self.tombstone_can_go(tag) {
            self.dropped += 1;
            return Ok(());
        }
        sink.keep(&self.key, self.held.commit, tag, &self.held.value)
    }

    fn tombstone_can_go(&self, tag: Tag) -> bool {
        let commit = self.held.commit;
        let mark_is_needed = tag.is_truncated()
            && self
                .rules
                .retention
                .next_retained(Commit::ZERO)
                .is_some_and(|first| first < commit);
        commit <= self.rules.tombstones_aged
            && !mark_is_needed
            && !(self.older_outside)(&self.key, commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::Rule;

    type Row = (&'static str, u64, Option<&'static str>);

    #[derive(Default)]
    struct Kept(Vec<(String, u64, bool, bool)>);

    impl Sink for Kept {
        fn keep(&mut self, key: &[u8], commit: Commit, tag: Tag, _: &[u8]) -> Result<()> {
            let key = String::from_utf8(key.to_vec()).unwrap();
            self.0
                .push((key, commit.0, tag.is_put(), tag.is_truncated()));
            Ok(())
        }
    }

    fn run(
        head: u64,
        history: &History,
        pins: &[u64],
        aged: u64,
        outside: bool,
        rows: &[Row],
    ) -> Vec<(String, u64, bool, bool)> {
        let pins = pins.iter().map(|p| Commit(*p));
        let rule = Rule::of(history);
        let retention = Retention::new(Commit(head), rule, Commit::MAX, pins);
        let rules = Rules {
            retention: &retention,
            history,
            limited: history.truncates(),
            aged: Commit(aged),
            tombstones_aged: Commit::MAX,
        };
        let mut filter = VersionFilter::new(rules, |_, _| outside);
        let mut kept = Kept::default();
        for (key, commit, value) in rows {
            let tag = if value.is_some() {
                Tag::PUT
            } else {
                Tag::DELETE
            };
            filter
                .push(
                    key.as_bytes(),
                    Commit(*commit),
                    tag,
                    value.unwrap_or("").as_bytes(),
                    &mut kept,
                )
                .unwrap();
        }
        filter.finish(&mut kept).unwrap();
        kept.0
    }

    fn commits(kept: &[(String, u64, bool, bool)]) -> Vec<u64> {
        kept.iter().map(|row| row.1).collect()
    }

    const FIVE: &[Row] = &[
        ("k", 5, Some("e")),
        ("k", 4, Some("d")),
        ("k", 3, Some("c")),
        ("k", 2, Some("b")),
        ("k", 1, Some("a")),
    ];

    #[test]
    fn only_versions_that_a_retained_commit_reads_are_kept() {
        assert_eq!(
            commits(&run(5, &History::head_only(), &[], 0, false, FIVE)),
            [5]
        );
        assert_eq!(
            commits(&run(5, &History::head_only(), &[2], 0, false, FIVE)),
            [5, 2]
        );
        let window = History {
            window: 3,
            ..History::default()
        };
        assert_eq!(commits(&run(5, &window, &[], 0, false, FIVE)), [5, 4, 3]);
        assert_eq!(commits(&run(9, &window, &[], 0, false, FIVE)), [5]);
        assert_eq!(
            commits(&run(5, &History::everything(), &[], 0, false, FIVE)),
            [5, 4, 3, 2, 1]
        );
    }

    #[test]
    fn the_oldest_of_the_newest_two_carries_the_mark_and_pins_override_the_limit() {
        let two = History {
            max_versions: Some(2),
            ..History::everything()
        };
        let kept = run(5, &two, &[], 0, false, FIVE);
        assert_eq!(commits(&kept), [5, 4]);
        assert_eq!((kept[0].3, kept[1].3), (false, true));
        let kept = run(5, &two, &[2], 0, false, FIVE);
        assert_eq!(commits(&kept), [5, 4, 2]);
        assert!(kept[1].3 && kept[2].3);
    }

    #[test]
    fn age_takes_superseded_versions_and_the_live_one_only_when_asked() {
        let aged = History {
            max_age: Some(std::time::Duration::from_secs(1)),
            ..History::everything()
        };
        let kept = run(5, &aged, &[], 3, false, FIVE);
        assert_eq!(commits(&kept), [5, 4, 3]);
        assert_eq!(commits(&run(5, &aged, &[], 5, false, FIVE)), [5]);
        let expire = History {
            expire: true,
            window: 1,
            ..aged
        };
        assert!(run(5, &expire, &[], 5, false, FIVE).is_empty());
        let kept = run(5, &expire, &[], 5, true, FIVE);
        assert_eq!(
            (kept[0].1, kept[0].2),
            (5, false),
            "a tombstone hides what is outside"
        );
    }

    #[test]
    fn a_tombstone_goes_only_with_everything_it_hides() {
        let rows: &[Row] = &[("a", 3, None), ("a", 1, Some("x")), ("b", 2, Some("y"))];
        let head = History::head_only();
        assert_eq!(commits(&run(3, &head, &[], 0, false, rows)), [2]);
        assert_eq!(commits(&run(3, &head, &[], 0, true, rows)), [3, 2]);
        assert_eq!(commits(&run(3, &head, &[1], 0, false, rows)), [3, 1, 2]);
    }
}
