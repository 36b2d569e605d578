//! Change feeds, in the writer's process and in a reader's: every durable commit once, in order, with
//! what it wrote; resumed where they were after crashes and restarts.

use crate::check::Checked;
use crate::commit::{Commit, Entry, Name, append, range_bytes};
use crate::values::{key_bytes, operand_bytes};
use crate::world::World;
use siltstone_kv::{ChangeKind, ChangeSet, Changes, Commit as Number, Error};
use siltstone_storage::Clock;
use std::collections::BTreeMap;
use std::time::Duration;

/// A log file may be this much larger than what is written to it after a place in it, with headers
/// of empty files.
const LOG_SLACK: u64 = 40_000;

/// A consumer, which remembers how far it got.
pub(crate) struct Feed {
    by_reader: bool,
    open: Option<Changes>,
    position: u64,
    /// When it was polled last.
    polled: Duration,
}

impl Feed {
    pub(crate) fn new(by_reader: bool) -> Self {
        Self {
            by_reader,
            open: None,
            position: 0,
            polled: Duration::ZERO,
        }
    }

    /// The writer's process ends; with `machine` everybody's.
    pub(crate) fn let_go(&mut self, machine: bool) {
        if machine || !self.by_reader {
            self.open = None;
        }
    }
}

/// One change without its keyspace, in a form that can be sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wrote {
    Range(Vec<u8>, Option<Vec<u8>>),
    Put(Vec<u8>, Vec<u8>, Option<u64>),
    Delete(Vec<u8>),
    Merge(Vec<u8>, Vec<Vec<u8>>),
}

impl World {
    pub(crate) fn follow(&mut self) -> Checked {
        let at = self.rng.usize(0..self.feeds.len());
        let mut feed = self.feeds.swap_remove(at);
        let checked = self.poll(&mut feed);
        feed.polled = self.clock.elapsed();
        let who = if feed.by_reader { "reader" } else { "writer" };
        let position = feed.position;
        self.feeds.push(feed);
        checked.map_err(|what| format!("feed of the {who} at {position}: {what}"))
    }

    fn poll(&mut self, feed: &mut Feed) -> Checked {
        let most = self.rng.usize(1..400);
        let head = self.head()?;
        if feed.position > head {
            return Err(format!("delivered, and then lost: the head is {head}"));
        }
        // Now and then it goes away and comes back.
        if self.rng.u8(0..10) == 0 {
            feed.open = None;
        }
        let mut changes = match feed.open.take() {
            Some(changes) => changes,
            None => match self.open_feed(feed)? {
                Some(changes) => changes,
                None => return Ok(()),
            },
        };
        self.note(format!("follow from {} for {most}", feed.position));
        for _ in 0..most {
            match changes.try_next() {
                Ok(Some(set)) => {
                    feed.position += 1;
                    self.durable = self.durable.max(feed.position);
                    self.check_set(feed.position, &set)?;
                    self.report.delivered += 1;
                }
                Ok(None) => {
                    if feed.position < self.durable {
                        return Err(format!("ended, with {} durable", self.durable));
                    }
                    break;
                }
                Err(Error::ChangesGone { after, oldest }) => {
                    return self.gone(feed, after.0, oldest.0, true);
                }
                Err(error) if !feed.by_reader => {
                    self.fits_the_fault("feed", &error)?;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        if changes.position().0 != feed.position {
            return Err(format!("its position is {}", changes.position()));
        }
        feed.open = Some(changes);
        Ok(())
    }

    fn open_feed(&mut self, feed: &mut Feed) -> Result<Option<Changes>, String> {
        let after = Number(feed.position);
        self.note(format!("open a feed after {after}"));
        let opened = match feed.by_reader {
            true => self.reader()?.changes(after),
            false => self.kv()?.changes(after),
        };
        match opened {
            Ok(changes) => Ok(Some(changes)),
            Err(Error::ChangesGone { after, oldest }) => {
                self.gone(feed, after.0, oldest.0, false).map(|()| None)
            }
            Err(error) if !feed.by_reader => {
                self.fits_the_fault("open a feed", &error).map(|()| None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The feed is told to start again at `oldest`: only when the log could go.
    fn gone(&mut self, feed: &mut Feed, after: u64, oldest: u64, open: bool) -> Checked {
        self.note(format!("the changes after {after} are gone up to {oldest}"));
        self.report.gone += 1;
        if after != feed.position || oldest <= after || oldest > self.head()? {
            return Err(format!("gone after {after} up to {oldest}"));
        }
        let kept = self.records.bytes_after(after);
        if kept.is_some_and(|bytes| bytes + LOG_SLACK < self.kept_log) {
            return Err(format!(
                "gone up to {oldest}, and only {kept:?} bytes of log ago"
            ));
        }
        if open && !(feed.by_reader && self.has_lapsed(feed.polled)) {
            return Err(format!("gone up to {oldest} under an open feed"));
        }
        feed.position = oldest;
        Ok(())
    }

    /// Compares what was delivered with what the commit wrote.
    fn check_set(&self, commit: u64, set: &ChangeSet) -> Checked {
        if set.commit.0 != commit {
            return Err(format!("delivered {}, expected {commit}", set.commit));
        }
        let Some(record) = self.records.get(commit) else {
            return Ok(());
        };
        let mut expected = expected(record);
        let mut delivered = delivered(set)?;
        // Of a keyspace that was dropped the name is gone.
        if delivered.iter().any(|(_, name)| name.is_none()) {
            let all = expected.iter_mut().chain(&mut delivered);
            all.for_each(|(_, name)| *name = None);
        }
        expected.sort();
        delivered.sort();
        match expected == delivered {
            true => Ok(()),
            false => Err(format!(
                "commit {commit}: delivered {delivered:?}, expected {expected:?}"
            )),
        }
    }
}

fn expected(commit: &Commit) -> Vec<(Wrote, Option<Name>)> {
    let mut all = Vec::new();
    for (name, from, to) in &commit.ranges {
        let (start, end) = range_bytes(*from, *to);
        all.push((Wrote::Range(start, Some(end)), Some(name.clone())));
    }
    for ((name, key), entry) in &commit.entries {
        let bytes = key_bytes(*key);
        let wrote = match entry {
            Entry::Put {
                value,
                appended,
                expires,
            } => {
                let value = Entry::value(*key, *value, appended);
                Wrote::Put(bytes, value, expires.map(|time| time.0))
            }
            Entry::Anew(operands) => {
                let mut value = Vec::new();
                append(&mut value, operands);
                Wrote::Put(bytes, value, None)
            }
            Entry::Delete => Wrote::Delete(bytes),
            Entry::Merge(operands) => {
                let operands = operands.iter().map(|nonce| operand_bytes(*nonce));
                Wrote::Merge(bytes, operands.collect())
            }
        };
        all.push((wrote, Some(name.clone())));
    }
    all
}

/// Of two writes to one key the later counts.
fn delivered(set: &ChangeSet) -> Result<Vec<(Wrote, Option<Name>)>, String> {
    let mut all = Vec::new();
    let mut keys = BTreeMap::new();
    for change in &set.changes {
        let (key, wrote) = match &change.write {
            ChangeKind::DeleteRange { start, end } => {
                if !keys.is_empty() {
                    return Err("a deletion of a range after a write to a key".into());
                }
                let end = end.as_ref().map(|end| end.to_vec());
                let wrote = Wrote::Range(start.to_vec(), end);
                all.push((wrote, change.keyspace_name.clone()));
                continue;
            }
            ChangeKind::Put {
                key,
                value,
                expires,
            } => {
                let expires = expires.map(|time| time.0);
                (key, Wrote::Put(key.to_vec(), value.to_vec(), expires))
            }
            ChangeKind::Delete { key } => (key, Wrote::Delete(key.to_vec())),
            ChangeKind::Merge { key, operands } => {
                let operands = operands.iter().map(|one| one.to_vec());
                (key, Wrote::Merge(key.to_vec(), operands.collect()))
            }
            other => return Err(format!("an unknown change {other:?}")),
        };
        let place = (change.keyspace, key.clone());
        keys.insert(place, (wrote, change.keyspace_name.clone()));
    }
    all.extend(keys.into_values());
    Ok(all)
}
