//! cola 0.5 with a rope of crop 0.4 beside it: cola keeps positions, not text. An operation carries
//! the text it inserts; it travels as an object, since cola leaves its encoding to the caller.

use cola::{Deletion, EncodedReplica, Insertion, Replica};
use crop::Rope;

use crate::list::engine::{Form, Result, TextEngine};
use crate::list::trace::Patch;

/// Replicas only understand each other if they descend from one; this one is never written to.
const FIRST: u64 = u64::MAX;

/// Positions and the text they are of.
pub(crate) struct Text {
    replica: Replica,
    rope: Rope,
    /// Operations in the order in which this replica made or received them, if they are kept.
    log: Option<Vec<Operation>>,
    /// Operations of the log that were sent or received.
    sent: usize,
}

/// What one replica tells the others.
#[derive(Clone)]
pub(crate) enum Operation {
    /// Text came in.
    Insert(Insertion, String),
    /// Text went out.
    Delete(Deletion),
}

impl Text {
    fn with(replica: Replica, rope: Rope) -> Self {
        Self {
            replica,
            rope,
            log: None,
            sent: 0,
        }
    }

    fn integrate(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Insert(insertion, text) => {
                let at = self.replica.integrate_insertion(insertion);
                self.rope
                    .insert(at.ok_or("an insertion came too early")?, text);
            }
            Operation::Delete(deletion) => {
                let ranges = self.replica.integrate_deletion(deletion);
                for range in ranges.into_iter().rev() {
                    self.rope.delete(range);
                }
            }
        }
        if let Some(log) = &mut self.log {
            log.push(operation.clone());
        }
        Ok(())
    }
}

impl TextEngine for Text {
    const FORM: Form = Form::Objects;
    type History = Vec<Operation>;
    type Message = Vec<Operation>;

    fn new(writer: u64) -> Self {
        Self::with(Replica::new(FIRST, 0).fork(writer), Rope::new())
    }

    fn keep_messages(&mut self) {
        self.log = Some(Vec::new());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            if patch.deleted > 0 {
                let range = patch.at..patch.at + patch.deleted;
                let deletion = self.replica.deleted(range.clone());
                self.rope.delete(range);
                if let Some(log) = &mut self.log {
                    log.push(Operation::Delete(deletion));
                }
            }
            if !patch.inserted.is_empty() {
                let insertion = self.replica.inserted(patch.at, patch.inserted.len());
                self.rope.insert(patch.at, patch.inserted);
                if let Some(log) = &mut self.log {
                    log.push(Operation::Insert(insertion, patch.inserted.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.rope.to_string())
    }

    /// The length of the positions, the positions, the text.
    fn encode(&mut self) -> Result<Vec<u8>> {
        let positions = self.replica.encode();
        let positions = positions.as_bytes();
        let mut bytes = (positions.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(positions);
        for chunk in self.rope.chunks() {
            bytes.extend_from_slice(chunk.as_bytes());
        }
        Ok(bytes)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let (length, rest) = bytes.split_first_chunk().ok_or("the length is missing")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (positions, text) = rest.split_at_checked(length).ok_or("bytes are missing")?;
        let encoded = EncodedReplica::from_bytes(positions);
        let replica = Replica::decode(2, &encoded)?;
        Ok(Self::with(replica, Rope::from(std::str::from_utf8(text)?)))
    }

    fn history(&mut self) -> Result<Vec<Operation>> {
        let log = self.log.as_ref().ok_or("operations were not kept")?;
        Ok(log.clone())
    }

    fn import(&mut self, history: &Vec<Operation>) -> Result<()> {
        self.apply(history)
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<Operation>> {
        let log = self.log.as_ref().ok_or("operations were not kept")?;
        let message = log[self.sent..].to_vec();
        self.sent = log.len();
        Ok(message)
    }

    fn apply(&mut self, message: &Vec<Operation>) -> Result<()> {
        for operation in message {
            self.integrate(operation)?;
        }
        self.sent = self.log.as_ref().map_or(0, Vec::len);
        Ok(())
    }
}
