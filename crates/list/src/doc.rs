//! The list itself, whatever its elements hold: the order, the contents, and what each session did.
//! Local edits come in by position, those of others by name ([`crate::apply`]).

mod edits;

use std::collections::HashMap;
use std::ops::Range;

use crate::births::Births;
use crate::bits::Bits;
use crate::content::Content;
use crate::error::{Error, Result};
use crate::id::{Frontier, OpId, Session};
use crate::log::{Dependency, SessionLog};
use crate::order::{Children, Rank};
use crate::pending::Pending;
use crate::permit::{Action, Permit, Request};
use crate::sequence::Edit;
use crate::tree::{Elem, Entry, MAX_ELEMS, Tree};

/// Elements `elem ..`, up to the next row, are a session's `number ..`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) elem: Elem,
    pub(crate) session: u32,
    pub(crate) number: u32,
}

/// Where a moved element stands, and who won.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) slot: Elem,
    pub(crate) deleted: bool,
}

/// Elements that were moved, and the places made for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    pub(crate) of: HashMap<Elem, Moved>,
    /// The element for which a place was made, whether it stands there or not.
    pub(crate) slots: HashMap<Elem, Elem>,
}

/// The values an element was set to; the first is the one it was inserted with.
#[derive(Clone, Debug)]
pub(crate) struct SetValues<V> {
    pub(crate) inserted: V,
    pub(crate) winner: Rank,
}

/// One visible change: at `position`, `removed` elements went, then those of `added` came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) position: u32,
    pub(crate) removed: u32,
    pub(crate) added: Option<Entry>,
}

#[derive(Clone)]
pub(crate) struct Doc<C: Content> {
    pub(crate) tree: Tree,
    pub(crate) content: C,
    pub(crate) births: Births,
    /// Elements that have a child on their right, or on their left.
    pub(crate) right: Bits,
    pub(crate) left: Bits,
    pub(crate) children: Option<Children>,
    /// Whether a next element of the last session may continue the last chain.
    pub(crate) joins_last: bool,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) logs: Vec<SessionLog<C::Item>>,
    pub(crate) names: HashMap<Session, u32>,
    pub(crate) moves: Moves,
    pub(crate) sets: HashMap<Elem, SetValues<C::Item>>,
    /// Elements of refused transactions: in the order, never shown.
    pub(crate) void: Bits,
    /// History before this version is gone.
    pub(crate) shallow: Option<Frontier>,
    me: Session,
    pub(crate) my_log: u32,
    /// How many transactions of each session this copy's last one knew.
    known: Vec<u32>,
    /// Whether others' transactions came since.
    heard: bool,
    /// The highest Lamport counter.
    pub(crate) lamport: u32,
    pub(crate) time: u64,
    pub(crate) pending: Pending<C>,
    /// Visible changes, noted while someone wants them.
    pub(crate) changes: Option<Vec<Change>>,
    pub(crate) permit: Option<Permit>,
}

const NOT_YET: u32 = u32::MAX;
/// So many sessions are found quicker by looking at each than by hashing a name.
const FEW: usize = 12;

impl<C: Content> Doc<C> {
    pub(crate) fn new(me: Session) -> Self {
        Self {
            tree: Tree::default(),
            content: C::default(),
            births: Births::default(),
            right: Bits::default(),
            left: Bits::default(),
            children: None,
            joins_last: false,
            arrivals: Vec::new(),
            logs: Vec::new(),
            names: HashMap::new(),
            moves: Moves::default(),
            sets: HashMap::new(),
            void: Bits::default(),
            shallow: None,
            me,
            my_log: NOT_YET,
            known: Vec::new(),
            heard: false,
            lamport: 0,
            time: 0,
            pending: Pending::default(),
            changes: None,
            permit: None,
        }
    }

    pub(crate) fn me(&self) -> &Session {
        &self.me
    }

    /// Edits from now on are `me`'s.
    pub(crate) fn set_me(&mut self, me: Session) {
        self.my_log = self.log_of(&me).unwrap_or(NOT_YET);
        self.me = me;
        // What the session knew last is in its dependencies; to name more than needed does no harm.
        self.known.clear();
        self.heard = true;
    }

    /// Whether nothing was ever written or received here, and nothing is in the way of taking in a
    /// history whole.
    pub(crate) fn is_untouched(&self) -> bool {
        self.logs.is_empty()
            && self.pending.is_empty()
            && self.permit.is_none()
            && self.changes.is_none()
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.tree.visible()
    }

    #[inline]
    pub(crate) fn has_right(&self, elem: Elem) -> bool {
        self.right.get(elem)
    }

    #[inline]
    pub(crate) fn has_left(&self, elem: Elem) -> bool {
        self.left.get(elem)
    }

    /// The session and the session's number of `elem`.
    pub(crate) fn origin(&self, elem: Elem) -> (u32, u32) {
        let row = match self.arrivals.last() {
            Some(last) if elem >= last.elem => *last,
            _ => self.arrivals[self.arrivals.partition_point(|row| row.elem <= elem) - 1],
        };
        (row.session, row.number + (elem - row.elem))
    }

    /// The stable name of `elem`.
    pub(crate) fn op_id(&self, elem: Elem) -> OpId {
        let (session, number) = self.origin(elem);
        let log = &self.logs[session as usize];
        let (tx, change) = log.tx_of(log.item_of(number));
        OpId {
            session: log.id.clone(),
            tx,
            change,
        }
    }

    /// The element that `id` inserted, if this copy has it.
    pub(crate) fn elem_of(&self, id: &OpId) -> Option<Elem> {
        let log = &self.logs[self.log_of(&id.session)? as usize];
        if id.tx >= log.txs {
            return None;
        }
        let (from, to) = (log.item_at(id.tx), log.item_at(id.tx + 1));
        let item = from.checked_add(id.change).filter(|&item| item < to)?;
        let row = log
            .inserts
            .partition_point(|run| run.item <= item)
            .checked_sub(1)?;
        let run = log.inserts[row];
        if item - run.item >= run.len {
            return None;
        }
        let elem = log.elem(run.number + (item - run.item))?;
        (!self.moves.slots.contains_key(&elem)).then_some(elem)
    }

    /// The index of `session`'s log, if the session is known.
    #[inline]
    pub(crate) fn log_of(&self, session: &Session) -> Option<u32> {
        if self.logs.len() > FEW {
            return self.names.get(session).copied();
        }
        let (author, nonce, branch) = (session.author(), session.nonce(), session.branch());
        let found = self
            .logs
            .iter()
            .position(|log| log.id.is(author, nonce, branch));
        found.map(|log| log as u32)
    }

    /// The session of this name if it is among the first, so that a message need not bring its own.
    pub(crate) fn known_session(
        &self,
        author: &str,
        nonce: u64,
        branch: Option<&str>,
    ) -> Option<&Session> {
        let first = &self.logs[..self.logs.len().min(FEW)];
        let found = first.iter().find(|log| log.id.is(author, nonce, branch));
        found.map(|log| &log.id)
    }

    pub(crate) fn session_index(&mut self, session: &Session) -> u32 {
        if let Some(index) = self.log_of(session) {
            return index;
        }
        let index = self.logs.len() as u32;
        self.logs.push(SessionLog::new(session.clone()));
        self.names.insert(session.clone(), index);
        index
    }

    pub(crate) fn own_log_if_any(&self) -> Option<u32> {
        self.log_of(&self.me)
    }

    #[inline]
    pub(crate) fn own_log(&mut self) -> u32 {
        if self.my_log == NOT_YET {
            self.begin_own_log()
        } else {
            self.my_log
        }
    }

    #[cold]
    fn begin_own_log(&mut self) -> u32 {
        self.my_log = self.session_index(&self.me.clone());
        self.my_log
    }

    /// Notes that the next elements are `session`'s.
    #[inline]
    pub(crate) fn arrive(&mut self, session: u32) {
        if self
            .arrivals
            .last()
            .is_none_or(|last| last.session != session)
        {
            let number = self.logs[session as usize].numbers;
            self.arrivals.push(Arrival {
                elem: self.births.elems(),
                session,
                number,
            });
            self.joins_last = false;
        }
    }

    pub(crate) fn room(&self, count: usize) -> Result<()> {
        if count > (MAX_ELEMS - self.births.elems()) as usize {
            return Err(Error::Full { limit: MAX_ELEMS });
        }
        Ok(())
    }

    pub(crate) fn check_position(&self, position: usize) -> Result<u32> {
        let len = self.len() as usize;
        if position > len {
            return Err(Error::OutOfRange { position, len });
        }
        Ok(position as u32)
    }

    pub(crate) fn check_range(&self, range: &Range<usize>) -> Result<Range<u32>> {
        let len = self.len() as usize;
        if range.start > range.end || range.end > len {
            return Err(Error::BadRange {
                range: range.clone(),
                len,
            });
        }
        Ok(range.start as u32..range.end as u32)
    }

    /// Asks the permission check, if there is one, whether this copy's author may do this to the elements
    /// at `range`, or insert `inserts` new ones.
    #[inline]
    pub(crate) fn ask(&self, action: Action, range: Range<u32>, inserts: u32) -> Result<()> {
        match &self.permit {
            None => Ok(()),
            Some(permit) => self.ask_about(permit, action, range, inserts),
        }
    }

    #[cold]
    fn ask_about(
        &self,
        permit: &Permit,
        action: Action,
        range: Range<u32>,
        inserts: u32,
    ) -> Result<()> {
        let (by, time) = (&self.me, self.time);
        let refused = |reason| Error::Refused {
            author: by.author().to_owned(),
            reason,
        };
        if action == Action::Insert {
            return permit(&Request {
                by,
                time,
                action,
                of: by,
                count: inserts,
            })
            .map_err(refused);
        }
        for position in range {
            let (session, _) = self.origin(self.elem_at(position));
            let of = &self.logs[session as usize].id;
            permit(&Request {
                by,
                time,
                action,
                of,
                count: 1,
            })
            .map_err(refused)?;
        }
        Ok(())
    }

    /// When the change `id`, which is known, was made.
    pub(crate) fn time_of(&self, id: &OpId) -> u64 {
        self.log_of(&id.session)
            .map_or(0, |log| self.logs[log as usize].time_of(id.tx))
    }

    /// Every deletion that took effect.
    pub(crate) fn deletions(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (session, log) in self.logs.iter().enumerate() {
            for run in &log.deletes {
                for skip in 0..run.len() {
                    let id = self.item_id(session as u32, run.item + skip);
                    if !log.is_refused(id.tx) {
                        let element = self.op_id(run.lowest(skip, 1));
                        edits.push(Edit {
                            time: log.time_of(id.tx),
                            id,
                            element,
                        });
                    }
                }
            }
        }
        edits
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes()
            + self.content.heap_bytes()
            + self.births.heap_bytes()
            + self.right.heap_bytes()
            + self.left.heap_bytes()
            + self.arrivals.capacity() * size_of::<Arrival>()
            + self.logs.iter().map(SessionLog::heap_bytes).sum::<usize>()
    }

    /// The element that is shown at `position`.
    pub(crate) fn elem_at(&self, position: u32) -> Elem {
        let at = self.tree.find(position);
        self.shown_elem(self.tree.entry(at), at.offset)
    }

    /// The element shown at `offset` of `entry`: its own or, at a moved element's place, that one.
    #[inline]
    pub(crate) fn shown_elem(&self, entry: Entry, offset: u32) -> Elem {
        let elem = entry.at(offset);
        if entry.is_slot() {
            self.moves.slots[&elem]
        } else {
            elem
        }
    }

    /// What to read contents by: an entry of the elements that are shown at `entry`'s places.
    #[inline]
    pub(crate) fn shown(&self, entry: Entry) -> Entry {
        if entry.is_slot() {
            Entry::shown(self.moves.slots[&entry.lo], 1)
        } else {
            entry
        }
    }

    /// The place where `elem` stands now: its own, or the one it was moved to.
    pub(crate) fn slot_of(&self, elem: Elem) -> Elem {
        self.moves.of.get(&elem).map_or(elem, |moved| moved.slot)
    }

    /// Where `elem` is shown, if it is.
    pub(crate) fn position_of(&self, elem: Elem) -> Option<u32> {
        let at = self.tree.place_of(self.slot_of(elem))?;
        (!self.tree.entry(at).is_hidden()).then(|| self.tree.position(at))
    }

    /// Ends this copy's transaction of `items` items.
    #[inline]
    pub(crate) fn commit(&mut self, items: u32) {
        if items == 0 {
            return;
        }
        let me = self.own_log();
        if self.heard {
            self.note_dependencies(me);
        }
        self.lamport += 1;
        let log = &mut self.logs[me as usize];
        if !log.commit_like_last(items, self.time, self.lamport) {
            log.commit(1, items, self.time, self.lamport);
        }
    }

    #[cold]
    fn note_dependencies(&mut self, me: u32) {
        self.heard = false;
        self.known.resize(self.logs.len(), 0);
        let tx = self.logs[me as usize].txs;
        for on in 0..self.logs.len() {
            let count = self.logs[on].txs;
            if on != me as usize && count > self.known[on] {
                self.known[on] = count;
                self.logs[me as usize].dependencies.push(Dependency {
                    tx,
                    on: on as u32,
                    count,
                });
            }
        }
    }

    pub(crate) fn hear(&mut self) {
        self.heard = true;
        self.tree.forget_hint();
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.logs
            .iter()
            .map(|log| (log.id.clone(), log.txs))
            .collect()
    }
}
