//! The write queue: writers wait, one of them leads.
//!
//! The leader takes all who wait, gives each an event of its own, chained in the order in which they
//! came, packs what is new into one group of CARs and makes it durable with one append and one sync.
//! Only then is anyone told. A writer that comes meanwhile waits for the next group, so parallel
//! writers never make sibling heads, and share their syncs.

use crate::block::{Block, Cid, Staged};
use crate::clock::{self, Write};
use crate::core::{Core, View};
use crate::error::{Error, Result};
use crate::merge;
use crate::store::{Edit, Floor, Journal, NewCar, State, pack};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// One write to one document, its block made and hashed by the writer's own thread.
#[derive(Debug, Clone)]
pub(crate) struct PendingWrite {
    pub(crate) key: String,
    pub(crate) doc: Option<Block>,
}

/// What a leader carries out with the state at hand.
pub(crate) type EditFn = Box<dyn FnOnce(&State) -> Result<(Edit, Vec<NewCar>)> + Send>;

/// What a writer asks for.
pub(crate) enum Request {
    /// One event.
    Write(Vec<PendingWrite>),
    /// CARs of another replica and its heads.
    Foreign(Foreign),
    /// A change of the state: a compaction's swap, a prune, notes.
    Edit(EditFn),
}

/// What another replica brings.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// Where heads come with them, in files of their own already.
    pub(crate) cars: Vec<NewCar>,
    /// None: its CARs are kept, so that a pull that was cut short goes on from there.
    pub(crate) heads: Vec<Cid>,
    /// Where its history begins. An empty ledger takes it over.
    pub(crate) floor: Option<Floor>,
    /// Notes that are set with it.
    pub(crate) notes: Vec<(String, Option<Vec<u8>>)>,
    /// The floor here when it was decided which CARs are not needed; should it have moved, the blocks
    /// that were counted on may be gone.
    pub(crate) floor_seen: Option<Option<Floor>>,
}

/// What a writer is told: the event of its write, or the head after it.
pub(crate) type Answer = Result<Option<Cid>>;

#[derive(Debug, Default)]
struct Slot {
    told: Mutex<Option<Told>>,
    woken: Condvar,
}

#[derive(Debug)]
enum Told {
    Answer(Answer),
    Lead,
}

impl Slot {
    fn tell(&self, told: Told) {
        *self.told.lock() = Some(told);
        self.woken.notify_one();
    }

    fn wait(&self) -> Told {
        let mut told = self.told.lock();
        loop {
            match told.take() {
                Some(told) => return told,
                None => self.woken.wait(&mut told),
            }
        }
    }
}

struct Waiting {
    request: Request,
    bytes: usize,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    leading: bool,
}

/// Where writers wait.
#[derive(Default)]
pub(crate) struct Queue(Mutex<Inner>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

/// A group takes no further writes from this many bytes of documents on.
const GROUP_BYTES: usize = 8 << 20;

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Write(writes) => writes
                .iter()
                .map(|write| write.key.len() + write.doc.as_ref().map_or(0, |doc| doc.bytes.len()))
                .sum(),
            _ => 0,
        }
    }
}

/// Those who wait for a group. Should its leader panic, they are told that it failed.
struct Group(Vec<Arc<Slot>>);

impl Drop for Group {
    fn drop(&mut self) {
        for slot in self.0.drain(..) {
            let why = "the writer that led the group panicked".into();
            slot.tell(Told::Answer(Err(Error::Stopped { why })));
        }
    }
}

/// Hands the lead over when the leader is done, also when it panics: nobody waits for ever.
struct Lead<'q>(&'q Queue);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.0.lock();
        match inner.waiting.front() {
            Some(next) => next.slot.tell(Told::Lead),
            None => inner.leading = false,
        }
    }
}

impl Core {
    /// Queues a request and waits until it is durable, leading a group if nobody does.
    pub(crate) fn submit(&self, request: Request) -> Answer {
        let slot = Arc::new(Slot::default());
        let bytes = request.bytes();
        let leads = {
            let mut inner = self.queue.0.lock();
            inner.waiting.push_back(Waiting {
                request,
                bytes,
                slot: slot.clone(),
            });
            !std::mem::replace(&mut inner.leading, true)
        };
        if !leads && let Told::Answer(answer) = slot.wait() {
            return answer;
        }
        {
            let _lead = Lead(&self.queue);
            let group = self.take_group();
            self.carry_out(group);
        }
        match slot.told.lock().take() {
            Some(Told::Answer(answer)) => answer,
            // The leader's own request is the first of its group.
            _ => Err(Error::Stopped {
                why: "a write was lost in the queue".into(),
            }),
        }
    }

    /// The writes that wait, up to a limit, or one request of another kind.
    fn take_group(&self) -> Vec<Waiting> {
        let mut inner = self.queue.0.lock();
        let mut group: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = inner.waiting.front() {
            let is_write = matches!(next.request, Request::Write(_));
            let full = group.len() >= self.store.options.group_writes || bytes >= GROUP_BYTES;
            if !group.is_empty() && (!is_write || full) {
                break;
            }
            bytes += next.bytes;
            group.extend(inner.waiting.pop_front());
            if !is_write {
                break;
            }
        }
        group
    }

    fn carry_out(&self, group: Vec<Waiting>) {
        let mut journal = self.store.journal.lock();
        let mut slots = Group(Vec::with_capacity(group.len()));
        let mut writes = Vec::new();
        let mut answers: Vec<Answer> = Vec::new();
        for waiting in group {
            slots.0.push(waiting.slot);
            match waiting.request {
                Request::Write(write) => writes.push(write),
                Request::Foreign(foreign) => answers.push(self.take_in(&mut journal, foreign)),
                Request::Edit(make) => answers.push(self.edit(&mut journal, make)),
            }
        }
        if !writes.is_empty() {
            answers = self.write(&mut journal, writes);
        }
        drop(journal);
        for (slot, answer) in slots.0.drain(..).zip(answers) {
            slot.tell(Told::Answer(answer));
        }
    }

    /// Chains one event for each write, and makes all of them durable together.
    fn write(
        &self,
        journal: &mut MutexGuard<'_, Journal>,
        group: Vec<Vec<PendingWrite>>,
    ) -> Vec<Answer> {
        let failed = |error: Error, count: usize| (0..count).map(|_| Err(error.clone())).collect();
        if let Err(error) = self.store.check_writable() {
            return failed(error, group.len());
        }
        let count = group.len();
        let view = self.view();
        let mut staged = Staged::new(&*self.store);
        let mut head = view.head();
        let mut answers: Vec<Answer> = Vec::with_capacity(count);
        let mut written = Vec::new();
        for writes in group {
            let time = self.now_ms();
            let mut keys = Vec::with_capacity(writes.len());
            for write in writes {
                let doc = write.doc.map(|block| staged.put(block));
                let key = write.key;
                keys.push(Write { key, doc });
            }
            let changed = self.subscribers.wanted().then(|| keys.clone());
            let event = clock::append(&mut staged, head.as_ref(), &self.author, time, keys);
            if let Ok(event) = &event {
                head = Some(*event);
                written.extend(changed.map(|keys| (*event, keys)));
            }
            answers.push(event.map(Some));
        }
        let events = answers.iter().filter(|answer| answer.is_ok()).count();
        if events == 0 {
            return answers;
        }
        let edit = Edit {
            commits: events as u64,
            ..Edit::default()
        };
        if let Err(error) = self.publish(journal, &view, staged, head, edit, Vec::new()) {
            return failed(error, count);
        }
        self.subscribers.tell_writes(&self.store, &written);
        answers
    }

    /// Takes the CARs of another replica in and merges its heads with ours.
    fn take_in(&self, journal: &mut MutexGuard<'_, Journal>, mut foreign: Foreign) -> Answer {
        self.store.check_writable()?;
        let view = self.view();
        let floor = self.store.log.lock().state.floor.clone();
        if foreign.floor_seen.take().is_some_and(|seen| seen != floor) {
            return Err(Error::Stale {
                what: "the ledger was pruned meanwhile".into(),
            });
        }
        let known = |new: &NewCar| self.store.cars.get(&new.car.cid).is_some();
        let cars = std::mem::take(&mut foreign.cars);
        // What a compaction replaced is in its output; what a prune replaced is about to be gone.
        if self.store.holds_pruned() && cars.iter().any(|new| self.store.is_pruned(&new.car.cid)) {
            return Err(Self::held_back());
        }
        let cars: Vec<NewCar> = cars.into_iter().filter(|new| !known(new)).collect();
        let ids: Vec<Cid> = cars.iter().map(|new| new.car.cid).collect();
        // Readable for the merge; part of the log only with the edit.
        if !foreign.heads.is_empty() {
            for new in &cars {
                self.store.cars.add(new.car.cid, new.file_meta());
            }
        }
        let merged = self.merge_in(journal, &view, cars, foreign);
        if merged.is_err() {
            self.store.cars.remove(&ids);
            // Blocks that are not kept must not be answered from memory.
            self.store.cache.clear();
        }
        let head = merged?;
        self.subscribers.tell_foreign(self, &view.heads, head)?;
        Ok(head)
    }

    fn merge_in(
        &self,
        journal: &mut MutexGuard<'_, Journal>,
        view: &Arc<View>,
        cars: Vec<NewCar>,
        foreign: Foreign,
    ) -> Result<Option<Cid>> {
        let heads = &foreign.heads;
        if !heads.is_empty() {
            self.check_not_behind(heads)?;
        }
        let mut staged = Staged::new(&*self.store);
        let mut all = view.heads.clone();
        all.extend(heads.iter().filter(|head| !view.heads.contains(head)));
        let head = merge::merge(&mut staged, &all)?;
        if head == view.head() && cars.is_empty() && foreign.notes.is_empty() {
            return Ok(head);
        }
        let edit = Edit {
            commits: u64::from(head != view.head()),
            floor: match view.heads.is_empty() {
                true => foreign.floor,
                false => None,
            },
            notes: foreign.notes,
            ..Edit::default()
        };
        self.publish(journal, view, staged, head, edit, cars)?;
        Ok(head)
    }

    /// Packs what is new, makes it durable with the new head, and shows it to readers.
    fn publish(
        &self,
        journal: &mut MutexGuard<'_, Journal>,
        before: &Arc<View>,
        staged: Staged<'_>,
        head: Option<Cid>,
        edit: Edit,
        mut cars: Vec<NewCar>,
    ) -> Result<()> {
        let heads: Vec<Cid> = head.into_iter().collect();
        let event = match &head {
            Some(head) => Some(crate::block::Blocks::event(&staged, head)?),
            None => None,
        };
        // The next write reads the head and its change at once.
        let change = event.map(|event| crate::block::Blocks::change(&staged, &event.change));
        let change = change.transpose()?;
        let (blocks, nodes) = staged.into_parts();
        if !blocks.is_empty() {
            let sealer = self.store.sealer();
            let limit = self.store.options.car_bytes;
            cars.extend(pack(
                &heads,
                &before.heads,
                &blocks,
                limit,
                sealer.as_ref(),
            )?);
        }
        let edit = Edit {
            heads: Some(heads.clone()),
            ..edit
        };
        self.store.commit(journal, edit, &cars, |_| {
            *self.view.write() = Arc::new(View::new(heads, event));
        })?;
        self.store.warm(nodes);
        if let (Some(head), Some(event), Some(change)) = (head, event, change) {
            self.store.warm_head(head, event, change);
        }
        Ok(())
    }

    fn edit(&self, journal: &mut MutexGuard<'_, Journal>, make: EditFn) -> Answer {
        self.store.check_writable()?;
        let (edit, cars) = {
            let log = self.store.log.lock();
            make(&log.state)?
        };
        if edit.is_empty() && cars.is_empty() {
            return Ok(self.view().head());
        }
        let heads = edit.heads.clone();
        let event = match heads.as_deref() {
            Some([head]) => Some(crate::block::Blocks::event(&*self.store, head)?),
            _ => None,
        };
        self.store.commit(journal, edit, &cars, |_| {
            if let Some(heads) = heads {
                *self.view.write() = Arc::new(View::new(heads, event));
            }
        })?;
        Ok(self.view().head())
    }
}
