//! Every interleaving of commits, watches that come and watches that go, on the real [`Hub`] and its
//! boxes, within the bounds below. A step is what one thread does under one lock; what the tree does
//! around it (the gate, the order of numbers, publishing) stands here as plain numbers. Planted
//! mistakes of the callers show that the check can fail.

use super::hub::{Hub, Mailbox, News};
use super::is_there;
use super::project::Watched;
use crate::error::Result;
use crate::key;
use crate::path::{Path, Pattern};
use crate::rows::{Changed, Rows, Visit};
use siltstone_kv::Commit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// What a caller could do wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mistake {
    None,
    /// A watch is registered while a commit stands in the gate.
    OutsideTheGate,
    /// The state is read before what was numbered at the registration is visible.
    StateTooEarly,
    /// News is taken out before its commit is visible.
    UnseenNews,
    /// What the state shows already is delivered again.
    NotPassedOver,
    /// A watch sleeps without looking once more.
    SleepsAtOnce,
    /// Whoever waits is woken before the commit is visible.
    WokenTooEarly,
}

/// Nothing is stored: deletions of subtrees are not part of this.
struct NoRows;

impl Rows for NoRows {
    fn get(&self, _: &[u8]) -> Result<Option<bytes::Bytes>> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }

    fn last(&self, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn changed_since(&self, _: &[u8], _: Commit) -> Result<Option<Commit>> {
        Ok(None)
    }
}

/// A thread that commits: to each of these paths in turn.
struct Writer {
    paths: Vec<&'static str>,
    at: WriterAt,
}

enum WriterAt {
    Outside,
    Prepared(Option<News>),
    Numbered(Option<News>, Commit),
    Visible(Option<News>, Commit),
}

/// A thread that watches a path, and stops after so many deliveries and one last look.
struct Watcher {
    path: &'static str,
    stops_after: usize,
    at: WatcherAt,
    id: u64,
    mailbox: Arc<Mailbox>,
    woken: Arc<Flag>,
    state: Commit,
    told: Vec<Commit>,
}

#[derive(Clone, Copy, PartialEq)]
enum WatcherAt {
    Outside,
    /// Registered, and must wait for this commit.
    Waits(Commit),
    Looks,
    MaySleep,
    Sleeps,
    Gone,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct World {
    mistake: Mistake,
    hub: Hub,
    gate_is_taken: bool,
    last: Commit,
    visible: Commit,
    /// The path each commit wrote, from commit 1 on.
    history: Vec<&'static str>,
    writers: Vec<Writer>,
    watchers: Vec<Watcher>,
}

fn bytes_of(path: &str) -> Vec<u8> {
    key::encode(&path.parse::<Path>().unwrap())
}

impl World {
    fn new(
        mistake: Mistake,
        writers: &[&[&'static str]],
        watchers: &[(&'static str, usize)],
    ) -> Self {
        let writers = writers.iter().map(|paths| Writer {
            paths: paths.iter().rev().copied().collect(),
            at: WriterAt::Outside,
        });
        let watchers = watchers.iter().map(|&(path, stops_after)| Watcher {
            path,
            stops_after,
            at: WatcherAt::Outside,
            id: 0,
            mailbox: Arc::default(),
            woken: Arc::new(Flag(AtomicBool::new(false))),
            state: Commit::ZERO,
            told: Vec::new(),
        });
        Self {
            mistake,
            hub: Hub::default(),
            gate_is_taken: false,
            last: Commit::ZERO,
            visible: Commit::ZERO,
            history: Vec::new(),
            writers: writers.collect(),
            watchers: watchers.collect(),
        }
    }

    /// Whether thread `thread` can do its next step.
    fn can(&self, thread: usize) -> bool {
        if let Some(writer) = self.writers.get(thread) {
            return match writer.at {
                WriterAt::Outside => !writer.paths.is_empty() && !self.gate_is_taken,
                WriterAt::Prepared(_) | WriterAt::Visible(..) => true,
                WriterAt::Numbered(_, commit) => commit.0 == self.visible.0 + 1,
            };
        }
        let watcher = &self.watchers[thread - self.writers.len()];
        match watcher.at {
            WatcherAt::Outside => !self.gate_is_taken || self.mistake == Mistake::OutsideTheGate,
            WatcherAt::Waits(last) => {
                last <= self.visible || self.mistake == Mistake::StateTooEarly
            }
            WatcherAt::Looks | WatcherAt::MaySleep => true,
            WatcherAt::Sleeps => watcher.woken.0.load(Ordering::SeqCst),
            WatcherAt::Gone => false,
        }
    }

    fn step(&mut self, thread: usize) {
        if thread < self.writers.len() {
            self.write(thread);
        } else {
            self.watch(thread - self.writers.len());
        }
    }

    fn write(&mut self, writer: usize) {
        let woken_early = self.mistake == Mistake::WokenTooEarly;
        let writer = &mut self.writers[writer];
        writer.at = match std::mem::replace(&mut writer.at, WriterAt::Outside) {
            WriterAt::Outside => {
                self.gate_is_taken = true;
                let path = writer.paths.pop().unwrap();
                self.history.push(path);
                let changed = Changed::from([(bytes_of(path), Some(bytes::Bytes::new()))]);
                WriterAt::Prepared(self.hub.prepare(&NoRows, &changed, &[]).unwrap())
            }
            WriterAt::Prepared(news) => {
                self.last = Commit(self.last.0 + 1);
                self.gate_is_taken = false;
                if let Some(news) = &news {
                    news.number(self.last);
                    if woken_early {
                        news.deliver(&Ok(self.last));
                    }
                }
                WriterAt::Numbered(news, self.last)
            }
            WriterAt::Numbered(news, commit) => {
                self.visible = commit;
                WriterAt::Visible(news, commit)
            }
            WriterAt::Visible(news, commit) => {
                if let Some(news) = news.filter(|_| !woken_early) {
                    news.deliver(&Ok(commit));
                }
                WriterAt::Outside
            }
        };
    }

    fn watch(&mut self, watcher: usize) {
        let (visible, mistake) = (self.visible, self.mistake);
        let watcher = &mut self.watchers[watcher];
        watcher.at = match watcher.at {
            WatcherAt::Outside => {
                let pattern: Pattern = watcher.path.parse().unwrap();
                (watcher.id, watcher.mailbox) = self.hub.add(Arc::new(Watched::new(pattern)));
                WatcherAt::Waits(self.last)
            }
            WatcherAt::Waits(_) => {
                watcher.state = visible;
                WatcherAt::Looks
            }
            WatcherAt::Looks if watcher.told.len() == watcher.stops_after => {
                self.hub.remove(watcher.id);
                WatcherAt::Gone
            }
            WatcherAt::Looks => {
                let upto = if mistake == Mistake::UnseenNews {
                    Commit(u64::MAX)
                } else {
                    visible
                };
                match watcher.mailbox.look(|state| state.take(upto)) {
                    None => WatcherAt::MaySleep,
                    Some((commit, _)) => {
                        assert!(
                            commit <= visible,
                            "commit {commit} is told before it is visible"
                        );
                        let read = watcher.told.last().copied().unwrap_or(watcher.state);
                        if commit > read || mistake == Mistake::NotPassedOver {
                            watcher.told.push(commit);
                        }
                        WatcherAt::Looks
                    }
                }
            }
            WatcherAt::MaySleep => {
                watcher.woken.0.store(false, Ordering::SeqCst);
                let waker = Waker::from(watcher.woken.clone());
                let there = watcher.mailbox.look(|state| {
                    state.wake_by(&waker);
                    is_there(state, visible).is_some()
                });
                if there && mistake != Mistake::SleepsAtOnce {
                    WatcherAt::Looks
                } else {
                    WatcherAt::Sleeps
                }
            }
            WatcherAt::Sleeps => WatcherAt::Looks,
            WatcherAt::Gone => WatcherAt::Gone,
        };
    }

    /// Nobody can go on: everything that was to be told was told, once, in order.
    fn check_end(&self) {
        assert!(self.writers.iter().all(|writer| writer.paths.is_empty()));
        assert_eq!(self.visible.0, self.history.len() as u64);
        for watcher in &self.watchers {
            let mut expected: Vec<_> = (watcher.state.0 + 1..)
                .zip(&self.history[watcher.state.0 as usize..])
                .filter(|(_, path)| **path == watcher.path)
                .map(|(commit, _)| Commit(commit))
                .collect();
            expected.truncate(watcher.stops_after);
            assert_eq!(watcher.told, expected, "a watch of {}", watcher.path);
        }
        let gone = |watcher: &&Watcher| watcher.at == WatcherAt::Gone;
        let left = self.watchers.len() - self.watchers.iter().filter(gone).count();
        assert_eq!(self.hub.count(), left);
    }
}

/// Walks every order of steps, each from the start; how many there were.
fn walk(new: &dyn Fn() -> World) -> u64 {
    // Each step's thread, and those that could have made a step instead and have not yet.
    let mut schedule: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut orders = 0;
    loop {
        let mut world = new();
        let threads = world.writers.len() + world.watchers.len();
        for (thread, _) in &schedule {
            world.step(*thread);
        }
        loop {
            let mut able = (0..threads).filter(|&thread| world.can(thread));
            let Some(thread) = able.next() else { break };
            let others = able.collect();
            world.step(thread);
            schedule.push((thread, others));
        }
        world.check_end();
        orders += 1;
        // The next order differs in the last step that another thread could have made.
        while schedule.pop_if(|(_, others)| others.is_empty()).is_some() {}
        let Some((thread, others)) = schedule.last_mut() else {
            return orders;
        };
        *thread = others.remove(0);
    }
}

#[test]
fn s22_no_order_of_commits_and_watches_loses_doubles_or_swaps_a_change() {
    // Two writers and a watch that comes at any time and stays.
    let two_writers = || World::new(Mistake::None, &[&["a"], &["a"]], &[("a", 9)]);
    // A writer of two commits, and a watch that goes after the first.
    let goes = || World::new(Mistake::None, &[&["a", "a"]], &[("a", 1)]);
    // Two watches, of which one goes at once, while a commit is made; and one of another path.
    let two_watches = || World::new(Mistake::None, &[&["a"]], &[("a", 0), ("a", 9)]);
    let other_path = || World::new(Mistake::None, &[&["a"], &["b"]], &[("b", 1)]);
    let orders = [
        walk(&two_writers),
        walk(&goes),
        walk(&two_watches),
        walk(&other_path),
    ];
    println!("{orders:?} orders");
    assert!(orders.iter().all(|&orders| orders > 1_000), "{orders:?}");
}

#[test]
fn s22_each_mistake_of_a_caller_is_found() {
    for mistake in [
        Mistake::OutsideTheGate,
        Mistake::StateTooEarly,
        Mistake::UnseenNews,
        Mistake::NotPassedOver,
        Mistake::SleepsAtOnce,
        Mistake::WokenTooEarly,
    ] {
        let found = std::panic::catch_unwind(|| {
            walk(&|| World::new(mistake, &[&["a"], &["a"]], &[("a", 9)]))
        });
        assert!(found.is_err(), "{mistake:?} was not noticed");
    }
}
