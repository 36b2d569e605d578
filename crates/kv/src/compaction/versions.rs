//! Decides, version by version, what a flush or a compaction keeps. Pure; memory does not grow with
//! keys: it holds one entry.
//!
//! - A version goes when no retained commit reads it, or when the limits of the history policy say
//!   so and no pin needs it; then the oldest version kept carries the *truncated* mark. A deletion
//!   of a range supersedes a version as a newer version does.
//! - What goes below a merge goes into it: its operands become the merge's, or the merge a value.
//! - A tombstone goes when it is the oldest kept of its key, is old enough, and nothing older of
//!   that key can exist outside the inputs. Deleted keys never come back.
//! - A value that has expired becomes a tombstone.

use crate::error::Result;
use crate::hidden::Hidden;
use crate::operator::{self, MergeOperator};
use crate::options::History;
use crate::range_delete::RangeTree;
use crate::retention::Retention;
use crate::ttl;
use crate::types::{Commit, Kind, Tag};
use siltstone_storage::Timestamp;

/// Takes what is kept, in order.
pub(crate) trait Sink {
    fn keep(&mut self, key: &[u8], kept: Kept<'_>) -> Result<()>;
}

/// What there may be of a key outside the inputs. When in doubt: yes.
pub(crate) trait Outside {
    /// Anything written before `commit`?
    fn older(&self, key: &[u8], commit: Commit) -> bool;

    /// Anything written after `after` and before `before`?
    fn between(&self, key: &[u8], after: Commit, before: Commit) -> bool;
}

/// A version that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) commit: Commit,
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
    /// The first deletion of a range that hides it.
    pub(crate) hidden_at: Option<Commit>,
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
    /// Deletions of ranges that may hide something in the inputs.
    pub(crate) ranges: &'a RangeTree,
    /// Resolves merges; without one they are kept as they are.
    pub(crate) operator: Option<&'a dyn MergeOperator>,
    pub(crate) now: Timestamp,
    /// Commits that never happened here.
    pub(crate) hidden: &'a Hidden,
}

/// The decision, with what it must remember between entries.
pub(crate) struct VersionFilter<'a, O> {
    rules: Rules<'a>,
    outside: O,
    key: Vec<u8>,
    any: bool,
    newer: Option<Commit>,
    kept: u32,
    held: Held,
    /// When ranges that hold `key` were deleted, rising.
    range_deleted: Vec<Commit>,
    dropped: u64,
    expired: bool,
}

/// The last entry kept, until it is known what comes below it.
#[derive(Debug, Default)]
struct Held {
    some: bool,
    commit: Commit,
    tag: Option<Tag>,
    value: Vec<u8>,
    hidden_at: Option<Commit>,
}

impl<'a, O: Outside> VersionFilter<'a, O> {
    pub(crate) fn new(rules: Rules<'a>, outside: O) -> Self {
        Self {
            rules,
            outside,
            key: Vec::new(),
            any: false,
            newer: None,
            kept: 0,
            held: Held::default(),
            range_deleted: Vec::new(),
            dropped: 0,
            expired: false,
        }
    }

    /// How many versions went.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// True when a value had expired.
    pub(crate) fn any_expired(&self) -> bool {
        self.expired
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
            self.start(key);
        }
        if self.rules.hidden.contains(commit) {
            self.dropped += 1;
            if tag.is_truncated() {
                self.mark_held();
            }
            return Ok(());
        }
        let newer = self.newer.replace(commit);
        if newer == Some(commit) {
            // A twin that a log replay made; its older copy may carry the mark.
            self.dropped += 1;
            if tag.is_truncated() {
                self.mark_held();
            }
            return Ok(());
        }
        let hidden_at = self.hidden_after(commit);
        let next = match (newer, hidden_at) {
            (Some(newer), Some(hidden)) => Some(newer.min(hidden)),
            (newer, hidden) => newer.or(hidden),
        };
        let (tag, value) = match ttl::is_expired(tag, value, || self.rules.now) {
            true => {
                self.expired = true;
                (tag.turned_into(Tag::DELETE), &b""[..])
            }
            false => (tag, value),
        };
        let over = self.over_limit(commit, next);
        let needed = self.rules.retention.needs(commit, next);
        let limited = needed && over && next.is_some();
        if (!needed || limited) && self.fold_into_held(commit, tag, value) {
            self.dropped += 1;
            if limited || tag.is_truncated() {
                // What it says about the versions below it, the one above it must say from now on.
                self.mark_held();
            }
            return Ok(());
        }
        self.release(false, sink)?;
        self.kept += 1;
        let (tag, value) = match over && next.is_none() {
            // The newest version has expired: from now on the key is gone.
            true => (Tag::DELETE.truncated(), &b""[..]),
            false => (tag, value),
        };
        if tag.is_put() && !self.rules.limited {
            let kept = Kept {
                commit,
                tag,
                value,
                hidden_at,
            };
            return sink.keep(key, kept);
        }
        self.held.some = true;
        self.held.commit = commit;
        self.held.tag = Some(tag);
        self.held.hidden_at = hidden_at;
        self.held.value.clear();
        self.held.value.extend_from_slice(value);
        Ok(())
    }

    /// Call after the last entry.
    pub(crate) fn finish(&mut self, sink: &mut impl Sink) -> Result<()> {
        self.release(true, sink)
    }

    fn start(&mut self, key: &[u8]) {
        self.any = true;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.newer = None;
        self.kept = 0;
        if !self.rules.ranges.is_empty() {
            let commits = &mut self.range_deleted;
            commits.clear();
            let mut note = |range: &crate::range_delete::RangeDelete| commits.push(range.commit);
            self.rules.ranges.for_each_covering(key, &mut note);
            commits.sort_unstable();
        }
    }

    /// The first deletion of a range that hides what was written at `commit`.
    fn hidden_after(&self, commit: Commit) -> Option<Commit> {
        let at = self.range_deleted.partition_point(|at| *at <= commit);
        self.range_deleted.get(at).copied()
    }

    fn over_limit(&self, commit: Commit, next: Option<Commit>) -> bool {
        let history = self.rules.history;
        if !history.truncates() || self.rules.retention.pinned(commit, next) {
            return false;
        }
        let too_many = history.max_versions.is_some_and(|most| self.kept >= most);
        let too_old = history.max_age.is_some()
            && match next {
                Some(next) => next <= self.rules.aged,
                None => history.expire && commit <= self.rules.aged,
            };
        too_many || too_old
    }

    fn mark_held(&mut self) {
        self.held.tag = self.held.tag.map(Tag::truncated);
    }

    /// Lets a version go; when the one held above it is a merge that builds on it, it goes into
    /// that. False when it cannot, and must stay.
    fn fold_into_held(&mut self, commit: Commit, tag: Tag, value: &[u8]) -> bool {
        let Some(held) = self
            .held
            .tag
            .filter(|held| self.held.some && held.is_merge())
        else {
            return true;
        };
        if self
            .hidden_after(commit)
            .is_some_and(|at| at <= self.held.commit)
        {
            // A deletion of a range lies between: the merge does not build on it.
            return true;
        }
        if self.outside.between(&self.key, commit, self.held.commit) {
            // What lies between would have to go in first.
            return false;
        }
        let base = match tag.kind() {
            Kind::Merge => {
                let newer = std::mem::take(&mut self.held.value);
                self.held.value.extend_from_slice(value);
                self.held.value.extend_from_slice(&newer);
                return true;
            }
            // The answer still changes when it expires; and nothing is fetched here.
            Kind::Put if tag.expires() || tag.points() => return false,
            Kind::Put => Some(value),
            Kind::Delete | Kind::RangeDelete | Kind::Ingested => None,
        };
        self.resolve_held(held, base)
    }

    /// Turns the held merge into a value. False when its operator is not there or refuses: then a
    /// read will say so, and nothing may be lost.
    fn resolve_held(&mut self, held: Tag, base: Option<&[u8]>) -> bool {
        let Some(operator) = self.rules.operator else {
            return false;
        };
        match operator::apply(operator, &self.key, base, &self.held.value) {
            Ok(value) => {
                self.held.value = value;
                self.held.tag = Some(held.turned_into(Tag::PUT));
                true
            }
            Err(_) => false,
        }
    }

    fn release(&mut self, oldest: bool, sink: &mut impl Sink) -> Result<()> {
        if !self.held.some {
            return Ok(());
        }
        let tag = self.held.tag.expect("a held entry has a tag");
        if oldest && tag.is_merge() && !self.outside.older(&self.key, self.held.commit) {
            self.resolve_held(tag, None);
        }
        self.held.some = false;
        let tag = self.held.tag.take().expect("a held entry has a tag");
        if oldest && tag.is_delete() && self.tombstone_can_go(tag) {
            self.dropped += 1;
            return Ok(());
        }
        let kept = Kept {
            commit: self.held.commit,
            tag,
            value: &self.held.value,
            hidden_at: self.held.hidden_at,
        };
        sink.keep(&self.key, kept)
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
            && !self.outside.older(&self.key, commit)
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
        fn keep(&mut self, key: &[u8], kept: super::Kept<'_>) -> Result<()> {
            let key = String::from_utf8(key.to_vec()).unwrap();
            let (tag, commit) = (kept.tag, kept.commit.0);
            self.0.push((key, commit, tag.is_put(), tag.is_truncated()));
            Ok(())
        }
    }

    struct Maybe(bool);

    impl Outside for Maybe {
        fn older(&self, _: &[u8], _: Commit) -> bool {
            self.0
        }

        fn between(&self, _: &[u8], _: Commit, _: Commit) -> bool {
            self.0
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
            ranges: &RangeTree::default(),
            operator: None,
            now: Timestamp(0),
            hidden: &Hidden::default(),
        };
        let mut filter = VersionFilter::new(rules, Maybe(outside));
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
