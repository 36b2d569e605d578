//! A stored document that can be read at once and is unpacked when it is edited. What a document
//! shows is stored apart from its history, and most documents are only looked at.

use crate::codec;
use crate::content::{Chars, Content, Values};
use crate::error::Result;
use crate::id::Session;
use crate::sequence::Sequence;
use serde_json::Value;

/// A stored [`List`](crate::List) or [`Text`](crate::Text) whose history is still packed.
///
/// ```
/// use siltstone_list::{PackedText, Session, Text};
///
/// let mut text = Text::new(Session::new("ann", 1));
/// text.append("Silt settles.")?;
/// let stored = text.encode()?;
///
/// let packed = PackedText::new(stored)?;
/// assert_eq!(packed.text(), "Silt settles.");
/// let mut text = packed.open(Session::new("ann", 2))?;
/// text.append(" Then stone.")?;
/// # Ok::<(), siltstone_list::Error>(())
/// ```
pub struct Packed<C: Content> {
    bytes: Vec<u8>,
    shown: C::Owned,
}

/// A stored list of values that is read without its history.
pub type PackedList = Packed<Values>;
/// A stored text that is read without its history.
pub type PackedText = Packed<Chars>;

impl<C: Content> Packed<C> {
    /// What [`encode`](Sequence::encode) or [`encode_shallow`](Sequence::encode_shallow) gave. The
    /// checksum over all of it is verified; of what is in it only the contents are looked at, unless
    /// something was ever set or moved: then the history is read to tell what is shown.
    ///
    /// # Errors
    /// [`Damaged`](crate::Error::Damaged), [`NewerFormat`](crate::Error::NewerFormat).
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = bytes.into();
        let shown = match codec::shown::<C>(&bytes)? {
            Some(shown) => shown,
            None => {
                let sequence = Sequence::<C>::decode(&bytes, Session::new("", 0))?;
                let mut shown = C::Owned::default();
                sequence.doc.read(0..sequence.doc.len(), &mut shown);
                shown
            }
        };
        Ok(Self { bytes, shown })
    }

    /// The list itself, to be edited by `session`.
    ///
    /// # Errors
    /// [`Damaged`](crate::Error::Damaged) if the history makes no sense.
    pub fn open(&self, session: Session) -> Result<Sequence<C>> {
        Sequence::decode(&self.bytes, session)
    }

    /// The stored form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Packed<Chars> {
    /// The text.
    pub fn text(&self) -> &str {
        &self.shown
    }
}

impl Packed<Values> {
    /// The values, in order.
    pub fn values(&self) -> &[Value] {
        &self.shown
    }
}
