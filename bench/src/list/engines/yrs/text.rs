//! `Text`, with a transaction for each of the trace, which is its fastest way.

use yrs::{Doc, GetString, ReadTxn, StateVector, Text as _, TextRef, Transact};

use super::{ROOT, apply, document, whole};
use crate::list::engine::{Form, Result, TextEngine};
use crate::list::trace::Patch;

/// A text.
pub(crate) struct Text {
    document: Doc,
    text: TextRef,
    /// What the last transaction changed, if messages are kept.
    message: Option<Vec<u8>>,
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Vec<u8>;

    fn new(writer: u64) -> Self {
        let document = document(writer);
        let text = document.get_or_insert_text(ROOT);
        Self {
            document,
            text,
            message: None,
        }
    }

    fn keep_messages(&mut self) {
        self.message = Some(Vec::new());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        let mut transaction = self.document.transact_mut();
        for patch in patches {
            let at = u32::try_from(patch.at)?;
            if patch.deleted > 0 {
                let deleted = u32::try_from(patch.deleted)?;
                self.text.remove_range(&mut transaction, at, deleted);
            }
            if !patch.inserted.is_empty() {
                self.text.insert(&mut transaction, at, patch.inserted);
            }
        }
        if let Some(message) = &mut self.message {
            transaction.commit();
            *message = transaction.encode_update_v1();
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.text.get_string(&self.document.transact()))
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(whole(&self.document))
    }

    fn encode_small(&mut self) -> Result<Vec<u8>> {
        let transaction = self.document.transact();
        Ok(transaction.encode_state_as_update_v2(&StateVector::default()))
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let loaded = Self::new(2);
        apply(&loaded.document, bytes)?;
        Ok(loaded)
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        Ok(whole(&self.document))
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        apply(&self.document, history)
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<u8>> {
        let message = self.message.as_mut().ok_or("messages were not kept")?;
        Ok(std::mem::take(message))
    }

    fn apply(&mut self, message: &Vec<u8>) -> Result<()> {
        apply(&self.document, message)
    }
}
