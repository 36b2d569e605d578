//! `LoroText`; edits are committed once at the end, which is its fastest way.

use loro::{ExportMode, LoroDoc, LoroText, VersionVector};

use super::{ROOT, document, load, snapshot};
use crate::list::engine::{Form, Result, TextEngine};
use crate::list::trace::Patch;

/// A text.
pub(crate) struct Text {
    document: LoroDoc,
    text: LoroText,
    /// The version up to which messages were taken or received, if they are kept.
    sent: Option<VersionVector>,
}

impl Text {
    fn of(document: LoroDoc) -> Self {
        let text = document.get_text(ROOT);
        Self {
            document,
            text,
            sent: None,
        }
    }
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Vec<u8>;

    fn new(writer: u64) -> Self {
        Self::of(document(writer))
    }

    fn keep_messages(&mut self) {
        self.sent = Some(self.document.oplog_vv());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            if patch.deleted > 0 {
                self.text.delete(patch.at, patch.deleted)?;
            }
            if !patch.inserted.is_empty() {
                self.text.insert(patch.at, patch.inserted)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.document.commit();
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.text.to_string())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        snapshot(&self.document)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self::of(load(bytes)?))
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        Ok(self.document.export(ExportMode::all_updates())?)
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        self.document.import(history)?;
        Ok(())
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<u8>> {
        let sent = self.sent.as_mut().ok_or("messages were not kept")?;
        self.document.commit();
        let message = self.document.export(ExportMode::updates(sent))?;
        *sent = self.document.oplog_vv();
        Ok(message)
    }

    fn apply(&mut self, message: &Vec<u8>) -> Result<()> {
        self.document.import(message)?;
        if let Some(sent) = &mut self.sent {
            *sent = self.document.oplog_vv();
        }
        Ok(())
    }
}
