//! diamond-types 1.0: an operation log and a branch at its newest version. Texts only. Deletions are
//! recorded without the deleted text, which is how it stores least.

use diamond_types::list::ListCRDT;
use diamond_types::list::encoding::{ENCODE_FULL, ENCODE_PATCH};
use diamond_types::{AgentId, LocalVersion};

use crate::list::engine::{Form, Result, TextEngine};
use crate::list::trace::Patch;

/// A text and its log.
pub(crate) struct Text {
    document: ListCRDT,
    agent: AgentId,
    /// The version up to which messages were taken or received, if they are kept.
    sent: Option<LocalVersion>,
}

impl Text {
    fn merge(&mut self) {
        let Self { document, .. } = self;
        let newest = document.oplog.local_version();
        document.branch.merge(&document.oplog, &newest);
    }
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Vec<u8>;

    fn new(writer: u64) -> Self {
        let mut document = ListCRDT::new();
        let agent = document.get_or_create_agent_id(&format!("writer{writer}"));
        Self {
            document,
            agent,
            sent: None,
        }
    }

    fn keep_messages(&mut self) {
        self.sent = Some(self.document.oplog.local_version());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            if patch.deleted > 0 {
                let range = patch.at..patch.at + patch.deleted;
                self.document.delete_without_content(self.agent, range);
            }
            if !patch.inserted.is_empty() {
                self.document.insert(self.agent, patch.at, patch.inserted);
            }
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.document.branch.content().to_string())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.document.oplog.encode(ENCODE_FULL))
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let mut loaded = Self::new(0);
        loaded.document = ListCRDT::load_from(bytes).map_err(|error| format!("{error:?}"))?;
        Ok(loaded)
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        self.encode()
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        self.apply(history)
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<u8>> {
        let sent = self.sent.as_mut().ok_or("messages were not kept")?;
        let message = self.document.oplog.encode_from(ENCODE_PATCH, sent);
        *sent = self.document.oplog.local_version();
        Ok(message)
    }

    fn apply(&mut self, message: &Vec<u8>) -> Result<()> {
        self.apply_all([message].into_iter())
    }

    fn apply_all<'a>(&mut self, messages: impl Iterator<Item = &'a Vec<u8>>) -> Result<()> {
        for message in messages {
            let decoded = self.document.oplog.decode_and_add(message);
            decoded.map_err(|error| format!("{error:?}"))?;
        }
        self.merge();
        if let Some(sent) = &mut self.sent {
            *sent = self.document.oplog.local_version();
        }
        Ok(())
    }
}
