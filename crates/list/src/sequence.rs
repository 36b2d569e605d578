//! What lists and texts have in common.

use std::ops::Range;
use std::sync::Arc;

use crate::apply::Applied;
use crate::codec::{self, Decoded, Document};
use crate::content::Content;
use crate::delta::Delta;
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::event::{Listeners, Origin};
use crate::id::{Frontier, OpId, Session};
use crate::permit::{Action, Request};
use crate::stage::Transaction;
use crate::stats::CompactionStats;
use crate::undo::History;
use crate::update::Update;
use crate::version::View;

/// A list of values or of characters that merges: [`List`](crate::List) or [`Text`](crate::Text).
pub struct Sequence<C: Content> {
    pub(crate) doc: Doc<C>,
    pub(crate) listeners: Listeners<C::Owned>,
    pub(crate) history: History,
}

/// Transactions another copy sent, read and not yet applied.
#[derive(Clone)]
pub struct Message<C: Content> {
    decoded: Decoded<C>,
}

/// A change to one element: who made it, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edit {
    /// The change's own name; its session says who.
    pub id: OpId,
    /// When, in milliseconds since 1970, by the author's clock.
    pub time: u64,
    /// The element concerned.
    pub element: OpId,
}

/// Transactions that wait for one that has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The session whose transactions are missing.
    pub needs: Session,
    /// How many of them are needed.
    pub count: u32,
    /// Whose transactions wait.
    pub session: Session,
    /// The first that waits.
    pub tx: u32,
    /// How many of them wait.
    pub txs: u32,
}

/// A copy has what the list shows and its history, and none of the subscriptions.
impl<C: Content> Clone for Sequence<C> {
    fn clone(&self) -> Self {
        let mut doc = self.doc.clone();
        doc.changes = None;
        Self {
            doc,
            listeners: Listeners::default(),
            history: self.history.clone(),
        }
    }
}

impl<C: Content> Sequence<C> {
    /// An empty one, edited by `session`.
    pub fn new(session: Session) -> Self {
        Self::with_doc(Doc::new(session))
    }

    pub(crate) fn with_doc(doc: Doc<C>) -> Self {
        Self {
            doc,
            listeners: Listeners::default(),
            history: History::default(),
        }
    }

    /// Edits from now on are `session`'s, which no other copy may use. What was edited before can no
    /// longer be undone here.
    pub fn set_session(&mut self, session: Session) {
        if *self.doc.me() != session {
            self.doc.set_me(session);
            self.history = History::default();
        }
    }

    /// Who edits this copy.
    pub fn session(&self) -> &Session {
        self.doc.me()
    }

    /// How many elements there are now.
    pub fn len(&self) -> usize {
        self.doc.len() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time, in milliseconds since 1970, of transactions made from now on. It orders nothing.
    pub fn set_time(&mut self, millis: u64) {
        self.doc.time = millis;
    }

    /// The version of this copy.
    pub fn frontier(&self) -> Frontier {
        self.doc.frontier()
    }

    /// Begins a transaction of several edits.
    pub fn transaction(&mut self) -> Transaction<'_, C> {
        Transaction::new(self)
    }

    /// Asks `check` about every operation from now on, this copy's and others'. A transaction of which
    /// it refuses one operation is refused whole: here with [`Refused`](Error::Refused), from others
    /// without effect. All copies must use the same check, or they part ways.
    pub fn set_permissions(
        &mut self,
        check: impl Fn(&Request<'_>) -> std::result::Result<(), String> + Send + Sync + 'static,
    ) {
        self.doc.permit = Some(Arc::new(check));
    }

    #[inline]
    pub(crate) fn insert_slice(&mut self, position: usize, items: &C::Slice) -> Result<()> {
        let position = self.doc.check_position(position)?;
        let most = C::most(items);
        self.doc.room(most)?;
        if most == 0 {
            return Ok(());
        }
        self.doc
            .ask(Action::Insert, position..position, most as u32)?;
        let count = self.doc.insert(position, items);
        self.doc.commit(count);
        self.tell(Origin::Local, None);
        Ok(())
    }

    #[inline]
    pub(crate) fn delete_range(&mut self, range: Range<usize>) -> Result<()> {
        let range = self.doc.check_range(&range)?;
        self.doc.ask(Action::Delete, range.clone(), 0)?;
        let count = range.end - range.start;
        let before = if count > 1 { self.before_many() } else { None };
        self.doc.delete(range);
        self.doc.commit(count);
        self.tell(Origin::Local, before.as_ref());
        Ok(())
    }

    /// Moves the element at `from` so that it stands at `to` afterwards: one transaction, none if the
    /// two are equal. Concurrent moves of one element leave it at one place, the same everywhere.
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange), [`Full`](Error::Full), [`Refused`](Error::Refused); nothing
    /// is changed then.
    pub fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.stage_move(from, to)?;
        transaction.commit()
    }

    /// The stable name of the element at `position`.
    pub fn id_at(&self, position: usize) -> Option<OpId> {
        (position < self.len()).then(|| self.doc.op_id(self.doc.elem_at(position as u32)))
    }

    /// Where the element `id` is now; nothing if it is deleted or unknown.
    pub fn position_of(&self, id: &OpId) -> Option<usize> {
        Some(self.doc.position_of(self.doc.elem_of(id)?)? as usize)
    }

    /// Who inserted the element at `position`, and when.
    pub fn edit_at(&self, position: usize) -> Option<Edit> {
        let id = self.id_at(position)?;
        let time = self.doc.time_of(&id);
        Some(Edit {
            element: id.clone(),
            id,
            time,
        })
    }

    /// Every deletion: who deleted which element, and when. An element deleted twice is listed twice.
    pub fn deletion_edits(&self) -> Vec<Edit> {
        self.doc.deletions()
    }

    pub(crate) fn elem(&self, id: &OpId) -> Result<u32> {
        self.doc
            .elem_of(id)
            .ok_or_else(|| Error::UnknownElement { id: id.to_string() })
    }

    /// The list as it was at `frontier`, for reading.
    ///
    /// # Errors
    /// [`UnknownVersion`](Error::UnknownVersion), [`HistoryDropped`](Error::HistoryDropped).
    pub fn at(&self, frontier: &Frontier) -> Result<View<'_, C>> {
        View::new(&self.doc, frontier)
    }

    /// The list with all transactions made until `millis` (since 1970, by their authors' clocks), of
    /// each session up to the first that was made later.
    ///
    /// # Errors
    /// [`HistoryDropped`](Error::HistoryDropped).
    pub fn at_time(&self, millis: u64) -> Result<View<'_, C>> {
        self.at(&self.doc.frontier_at(millis))
    }

    /// The version [`at_time`](Self::at_time) shows.
    pub fn frontier_at_time(&self, millis: u64) -> Frontier {
        self.doc.frontier_at(millis)
    }

    /// What changes version `from` into version `to`.
    ///
    /// # Errors
    /// [`UnknownVersion`](Error::UnknownVersion), [`HistoryDropped`](Error::HistoryDropped).
    pub fn diff(&self, from: &Frontier, to: &Frontier) -> Result<Vec<Delta<C::Owned>>> {
        Ok(self
            .doc
            .diff(&self.doc.shown_at(from)?, &self.doc.shown_at(to)?))
    }

    /// A copy of the version `at` on which the same author edits in the branch `name`. Its elements
    /// keep their names, and [`merge`](Self::merge) brings its edits back.
    ///
    /// # Errors
    /// [`UnknownVersion`](Error::UnknownVersion), [`HistoryDropped`](Error::HistoryDropped).
    pub fn branch(&self, name: &str, at: &Frontier) -> Result<Self> {
        let mut branch = Self::new(self.session().in_branch(name));
        branch.doc.permit = self.doc.permit.clone();
        branch.doc.time = self.doc.time;
        let update = self.doc.between(&Frontier::new(), at)?;
        branch.doc.apply(&update.sessions, &update.parts)?;
        Ok(branch)
    }

    /// Takes in all that `other`, a branch or any copy, has and this one has not. A second time
    /// changes nothing.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn merge(&mut self, other: &Self) -> Result<Applied> {
        let update = other.doc.since(&self.frontier())?;
        self.apply_update(&update)
    }

    /// Everything that is not in `frontier`, to be [applied](Self::apply) elsewhere. What waits here
    /// for others is not in it.
    ///
    /// # Errors
    /// [`HistoryDropped`](Error::HistoryDropped) if this copy no longer has all of it.
    pub fn missing_since(&self, frontier: &Frontier) -> Result<Vec<u8>> {
        if frontier.is_empty() && self.doc.shallow.is_none() && self.doc.pending.is_empty() {
            return self.doc.encode(None);
        }
        codec::encode_update(&self.doc.since(frontier)?)
    }

    /// The same as an update that says only what is new, which is quick to make and to apply, also from
    /// the beginning on.
    ///
    /// # Errors
    /// As [`missing_since`](Self::missing_since).
    pub fn updates_since(&self, frontier: &Frontier) -> Result<Vec<u8>> {
        codec::encode_update(&self.doc.since(frontier)?)
    }

    /// Takes in what another copy sent or stored, whatever of it is known already. Transactions that
    /// build on others which have not come wait for them.
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged) and [`NewerFormat`](Error::NewerFormat): nothing was applied.
    /// [`TwoWriters`](Error::TwoWriters), [`Full`](Error::Full),
    /// [`TooManyPending`](Error::TooManyPending): transactions before the one at fault were.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<Applied> {
        let decoded = codec::decode(bytes, |author, nonce, branch| {
            self.doc.known_session(author, nonce, branch).cloned()
        })?;
        match decoded {
            Decoded::Update(update) => self.apply_update(&update),
            Decoded::Document(document) => self.apply_document(document),
        }
    }

    /// Reads what another copy sent, to be [applied](Self::apply_message) to any number of copies
    /// without being read again.
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged), [`NewerFormat`](Error::NewerFormat).
    pub fn read_message(bytes: &[u8]) -> Result<Message<C>> {
        codec::decode(bytes, |_, _, _| None).map(|decoded| Message { decoded })
    }

    /// As [`apply`](Self::apply), of a message that was [read](Self::read_message) already.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_message(&mut self, message: &Message<C>) -> Result<Applied> {
        match &message.decoded {
            Decoded::Update(update) => self.apply_update(update),
            Decoded::Document(document) => self.apply_document(document.clone()),
        }
    }

    fn apply_document(&mut self, document: Document<C>) -> Result<Applied> {
        if self.doc.is_untouched() {
            return self.take_document(document);
        }
        let mut other = Self::new(self.doc.me().clone());
        other.take_document(document)?;
        let mut applied = self.apply_update(&other.doc.since(&self.frontier())?)?;
        let waiting: Vec<_> = other
            .doc
            .pending
            .iter()
            .map(|(_, parked)| parked.clone())
            .collect();
        for parked in waiting {
            let more = Update {
                sessions: parked.sessions,
                parts: vec![parked.part],
            };
            applied.join(self.apply_update(&more)?);
        }
        Ok(applied)
    }

    fn take_document(&mut self, document: Document<C>) -> Result<Applied> {
        let Document {
            update,
            shown,
            hidden,
            oldest,
            pending,
        } = document;
        if !codec::is_whole(&update) {
            return Err(Error::Damaged {
                what: "history",
                offset: 0,
                problem: "a session is listed out of turn",
            });
        }
        let transactions = update.parts.iter().map(|part| part.txs).sum();
        self.doc
            .build(update, |tree, elems| C::arrange(shown, hidden, tree, elems))?;
        self.doc.shallow = oldest;
        let mut applied = Applied {
            transactions,
            ..Applied::default()
        };
        for update in pending {
            applied.join(self.apply_update(&update)?);
        }
        Ok(applied)
    }

    pub(crate) fn apply_update(&mut self, update: &Update<C>) -> Result<Applied> {
        let before = self.before_many();
        let applied = self.doc.apply(&update.sessions, &update.parts);
        self.tell(Origin::Remote, before.as_ref());
        applied
    }

    /// What has come and waits for transactions that have not.
    pub fn pending(&self) -> Vec<Waiting> {
        let waiting = self.doc.pending.iter().map(|(missing, parked)| Waiting {
            needs: missing.session,
            count: missing.count,
            session: parked.sessions[parked.part.session as usize].clone(),
            tx: parked.part.first_tx,
            txs: parked.part.txs,
        });
        waiting.collect()
    }

    /// The whole of it: history, contents, and what waits. Loading it replays nothing.
    ///
    /// # Errors
    /// [`HistoryDropped`](Error::HistoryDropped) of a copy that has not all of its history and judged
    /// transactions by a permission check.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.doc.encode(None)
    }

    /// The same without the contents of what was deleted before version `at`, which is smaller. A copy
    /// loaded from it syncs with any that has reached `at`, and cannot show versions before it.
    ///
    /// # Errors
    /// [`UnknownVersion`](Error::UnknownVersion), [`HistoryDropped`](Error::HistoryDropped).
    pub fn encode_shallow(&self, at: &Frontier) -> Result<Vec<u8>> {
        self.doc.encode(Some(at))
    }

    /// What [`encode`](Self::encode) or [`encode_shallow`](Self::encode_shallow) gave, to be edited by `session`.
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged) and [`NewerFormat`](Error::NewerFormat).
    pub fn decode(bytes: &[u8], session: Session) -> Result<Self> {
        let mut sequence = Self::new(session.clone());
        sequence.apply(bytes)?;
        sequence.doc.set_me(session);
        Ok(sequence)
    }

    /// How well runs compact the list.
    pub fn compaction_stats(&self) -> CompactionStats {
        self.doc.stats()
    }

    /// The lengths of the runs, from left to right, deleted elements included.
    pub fn run_lengths(&self) -> Vec<usize> {
        self.doc
            .runs()
            .into_iter()
            .map(|run| run.len as usize)
            .collect()
    }

    /// Bytes of memory it takes, an estimate that leaves out what allocation itself costs.
    pub fn heap_bytes(&self) -> usize {
        self.doc.heap_bytes()
    }

    /// Walks everything and says what is wrong, if anything is: every element in exactly one run, counts
    /// that agree, an order that follows from parents and children. Takes time and memory in proportion
    /// to all elements; for tests and for suspicion.
    ///
    /// # Errors
    /// A sentence that says what does not hold.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.doc.check()
    }
}
