//! The message of one keystroke: one transaction of one operation that builds on nothing but what is
//! here. What [`crate::apply`] does with any message, without taking it to pieces first.

use crate::content::Content;
use crate::doc::Doc;
use crate::error::Result;
use crate::id::Session;
use crate::log::Dependency;
use crate::tree::{Elem, Entry, NONE};
use crate::update::{LAST, Name, Op, Part};

/// A message that depends on more sessions than this is taken in the general way.
const MOST_DEPENDENCIES: usize = 4;

impl<C: Content> Doc<C> {
    /// Takes in a part if it is such a message; whether it was. Nothing is changed if it was not.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full); nothing is changed.
    pub(crate) fn take_lone(&mut self, sessions: &[Session], part: &Part<C>) -> Result<bool> {
        let [op] = &part.ops[..] else {
            return Ok(false);
        };
        if part.txs != 1 || part.dependencies.len() > MOST_DEPENDENCIES || self.permit.is_some() {
            return Ok(false);
        }
        let Some(log) = self.log_of(&sessions[part.session as usize]) else {
            return Ok(false);
        };
        if self.logs[log as usize].txs != part.first_tx {
            return Ok(false);
        }
        let Some(named) = self.named_by(op, log, sessions, part.session) else {
            return Ok(false);
        };
        let mut lamport = self.logs[log as usize].lamport;
        let mut known = [0; MOST_DEPENDENCIES];
        for (known, &(_, on, count)) in known.iter_mut().zip(&part.dependencies) {
            match self.log_of(&sessions[on as usize]) {
                Some(on) if self.logs[on as usize].txs >= count => *known = on,
                _ => return Ok(false),
            }
            lamport = lamport.max(self.logs[*known as usize].lamport_of(count - 1));
        }
        self.room(op.numbers() as usize)?;
        let own = &mut self.logs[log as usize];
        for (&on, &(tx, _, count)) in known.iter().zip(&part.dependencies) {
            own.dependencies.push(Dependency { tx, on, count });
        }
        if !own.commit_like_last(op.items(), part.times[0].1, lamport + 1) {
            own.commit(1, op.items(), part.times[0].1, lamport + 1);
        }
        self.lamport = self.lamport.max(lamport + 1);
        match *op {
            Op::Insert {
                count,
                side,
                backward,
                ..
            } => {
                self.content.push_part(&part.content, &mut 0, count);
                let entry: Entry = self.new_entry(log, count, backward);
                self.take_insert(entry, named, side, log);
                self.logs[log as usize].insert(entry.lo, entry.len());
            }
            _ => {
                self.logs[log as usize].delete(named, 1, false);
                self.hide(named, named + 1);
            }
        }
        Ok(true)
    }

    /// The element an insertion or the deletion of one element names; nothing if it is not here, or of
    /// another operation.
    #[inline]
    fn named_by(&self, op: &Op<C::Item>, log: u32, sessions: &[Session], own: u32) -> Option<Elem> {
        let of = |name: Name| {
            let log = if name.session == own {
                log
            } else {
                self.log_of(&sessions[name.session as usize])?
            };
            self.logs[log as usize].elem(name.number)
        };
        match *op {
            Op::Insert { parent: None, .. } => Some(NONE),
            Op::Insert {
                parent: Some(LAST), ..
            } => {
                let own = &self.logs[log as usize];
                own.elem(own.numbers.checked_sub(1)?)
            }
            Op::Insert {
                parent: Some(name), ..
            } => of(name),
            Op::Delete {
                target, count: 1, ..
            } => of(target),
            _ => None,
        }
    }
}
