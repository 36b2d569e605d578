//! A text object; local edits are one transaction, which is its fastest way.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjId, ObjType, ReadDoc};

use super::{document, load};
use crate::list::engine::{Form, Result, TextEngine};
use crate::list::trace::Patch;

/// A text.
pub(crate) struct Text {
    document: AutoCommit,
    text: ObjId,
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Vec<u8>;

    fn new(writer: u64) -> Self {
        let (document, text) = document(writer, ObjType::Text).expect("an empty document is ours");
        Self { document, text }
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            let deleted = isize::try_from(patch.deleted)?;
            self.document
                .splice_text(&self.text, patch.at, deleted, patch.inserted)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.document.commit();
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.document.text(&self.text)?)
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.document.save())
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let (document, text) = load(bytes)?;
        Ok(Self { document, text })
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        Ok(self.document.save_after(&[]))
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        // The history begins with the object, so it goes into a document without one: then it is
        // loaded, not applied change by change.
        let mut document = AutoCommit::new();
        document.load_incremental(history)?;
        self.document = document;
        Ok(())
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<u8>> {
        self.document.commit();
        let change = self.document.get_last_local_change();
        let mut change = change.ok_or("nothing was changed")?.clone();
        Ok(change.bytes().into_owned())
    }

    fn apply(&mut self, message: &Vec<u8>) -> Result<()> {
        self.document.load_incremental(message)?;
        Ok(())
    }

    fn apply_all<'a>(&mut self, messages: impl Iterator<Item = &'a Vec<u8>>) -> Result<()> {
        let messages: Vec<u8> = messages.flatten().copied().collect();
        self.document.load_incremental(&messages)?;
        Ok(())
    }
}
