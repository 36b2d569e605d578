//! Subscriptions: whoever mirrors the list is told what changed, never the whole of it.

use crate::content::Content;
use crate::delta::{self, Delta};
use crate::doc::Change;
use crate::id::Frontier;
use crate::sequence::Sequence;

/// Where a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// An edit of this copy.
    Local,
    /// Another copy's transactions.
    Remote,
    /// Undo or redo on this copy.
    Undo,
}

/// One change, told after it was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event<T> {
    /// Where it came from.
    pub origin: Origin,
    /// What it did to the list; never empty.
    pub delta: Vec<Delta<T>>,
}

/// Names a subscription, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription(u64);

type Listener<T> = Box<dyn FnMut(&Event<T>) + Send>;

pub(crate) struct Listeners<T> {
    all: Vec<(u64, Listener<T>)>,
    next: u64,
}

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            next: 0,
        }
    }
}

/// More changes at once than this are told as the difference of two versions.
const MANY: usize = 48;

impl<C: Content> Sequence<C> {
    /// Calls `listener` after every change from now on, until the subscription is ended. A listener
    /// that applies each delta to a mirror has what the list shows.
    pub fn subscribe(
        &mut self,
        listener: impl FnMut(&Event<C::Owned>) + Send + 'static,
    ) -> Subscription {
        self.listeners.next += 1;
        self.listeners
            .all
            .push((self.listeners.next, Box::new(listener)));
        self.doc.changes.get_or_insert_default();
        Subscription(self.listeners.next)
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&mut self, subscription: Subscription) -> bool {
        let before = self.listeners.all.len();
        self.listeners.all.retain(|(id, _)| *id != subscription.0);
        if self.listeners.all.is_empty() {
            self.doc.changes = None;
        }
        self.listeners.all.len() < before
    }

    /// The version to tell changes from, if anyone listens.
    pub(crate) fn before_many(&self) -> Option<Frontier> {
        self.doc.changes.is_some().then(|| self.doc.frontier())
    }

    /// Tells listeners what changed since the last time. `before` is the version it changed from,
    /// where much may have.
    #[inline]
    pub(crate) fn tell(&mut self, origin: Origin, before: Option<&Frontier>) {
        if self
            .doc
            .changes
            .as_ref()
            .is_some_and(|changes| !changes.is_empty())
        {
            self.tell_changes(origin, before);
        }
    }

    #[cold]
    fn tell_changes(&mut self, origin: Origin, before: Option<&Frontier>) {
        let changes: Vec<Change> = self
            .doc
            .changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let many = before.filter(|_| changes.len() > MANY);
        let versions = many.and_then(|before| {
            let now = self.doc.frontier();
            Some((
                self.doc.shown_at(before).ok()?,
                self.doc.shown_at(&now).ok()?,
            ))
        });
        let delta = match versions {
            Some((before, now)) => self.doc.diff(&before, &now),
            None => delta::join(&self.doc, &changes),
        };
        if delta.iter().all(|step| matches!(step, Delta::Retain(_))) {
            return;
        }
        let event = Event { origin, delta };
        for (_, listener) in &mut self.listeners.all {
            listener(&event);
        }
    }
}
