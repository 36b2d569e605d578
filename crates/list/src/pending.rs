//! Transactions that came before something they build on. They wait under the name of the session
//! whose transactions are missing, and are tried again when it has as many as they need.

use std::collections::{BTreeMap, HashMap};

use crate::content::Content;
use crate::id::Session;
use crate::update::Part;

/// The most items that may wait.
pub(crate) const MAX_PENDING_ITEMS: usize = 4 << 20;

/// What a transaction waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) session: Session,
    /// How many transactions of it are needed.
    pub(crate) count: u32,
}

/// The rest of a part, from a transaction on that could not be applied.
#[derive(Clone, Debug)]
pub(crate) struct Parked<C: Content> {
    /// The sessions that the part's names mean.
    pub(crate) sessions: std::sync::Arc<[Session]>,
    pub(crate) part: Part<C>,
    pub(crate) items: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Pending<C: Content> {
    waiting: HashMap<Session, BTreeMap<u32, Vec<Parked<C>>>>,
    items: usize,
}

impl<C: Content> Default for Pending<C> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            items: 0,
        }
    }
}

impl<C: Content> Pending<C> {
    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    pub(crate) fn park(&mut self, missing: Missing, parked: Parked<C>) {
        let places = self
            .waiting
            .entry(missing.session)
            .or_default()
            .entry(missing.count)
            .or_default();
        // The same message twice waits once.
        if places.iter().any(|known| {
            known.part.first_tx == parked.part.first_tx
                && known.sessions[known.part.session as usize]
                    == parked.sessions[parked.part.session as usize]
                && known.part.txs >= parked.part.txs
        }) {
            return;
        }
        self.items += parked.items;
        places.push(parked);
    }

    /// Those that waited for no more than `count` transactions of `session`.
    pub(crate) fn take(&mut self, session: &Session, count: u32) -> Vec<Parked<C>> {
        let Some(waiting) = self.waiting.get_mut(session) else {
            return Vec::new();
        };
        let later = waiting.split_off(&(count.saturating_add(1)));
        let ready: Vec<_> = std::mem::replace(waiting, later)
            .into_values()
            .flatten()
            .collect();
        if waiting.is_empty() {
            self.waiting.remove(session);
        }
        self.items -= ready.iter().map(|parked| parked.items).sum::<usize>();
        ready
    }

    /// What is waited for, and the parts that wait for it; sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Missing, &Parked<C>)> {
        let mut sessions: Vec<_> = self.waiting.iter().collect();
        sessions.sort_by(|a, b| a.0.cmp(b.0));
        sessions.into_iter().flat_map(|(session, waiting)| {
            waiting.iter().flat_map(move |(&count, parked)| {
                parked.iter().map(move |parked| {
                    (
                        Missing {
                            session: session.clone(),
                            count,
                        },
                        parked,
                    )
                })
            })
        })
    }
}
