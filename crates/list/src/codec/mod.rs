//! The list as bytes. Two shapes: an update (transactions of some sessions, to be applied) and a
//! document (everything, arranged so that what is shown can be read first). `docs/list-format.md`
//! describes both.

mod bytes;
mod columns;
mod frame;
pub(crate) mod values;

use bytes::Reader;
#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
pub use bytes::Writer;
use frame::{Frame, Opened, Shape};
use std::borrow::Cow;

use crate::bits::Bits;
use crate::content::Content;
use crate::doc::Doc;
use crate::error::Result;
use crate::id::{Frontier, Session};
use crate::tree::Entry;
use crate::update::{Op, Part, Update};

pub(crate) use crate::build::is_whole;

/// zstd's level for what is sent: little, often.
const UPDATE_LEVEL: i32 = 3;
/// And for what is kept.
const DOCUMENT_LEVEL: i32 = 9;

/// Something encoded, decoded.
#[derive(Clone)]
pub(crate) enum Decoded<C: Content> {
    Update(Update<C>),
    Document(Document<C>),
}

/// A document taken apart: transactions without contents, and the contents by where they stand.
#[derive(Clone)]
pub(crate) struct Document<C: Content> {
    pub(crate) update: Update<C>,
    pub(crate) shown: C::Owned,
    pub(crate) hidden: C::Owned,
    /// The oldest version that can be told, if not all can.
    pub(crate) oldest: Option<Frontier>,
    pub(crate) pending: Vec<Update<C>>,
}

/// Encodes transactions to be applied elsewhere.
pub(crate) fn encode_update<C: Content>(update: &Update<C>) -> Result<Vec<u8>> {
    let update = named_only(update);
    let mut frame = Frame::new(Shape::Update, C::TAG, false, UPDATE_LEVEL);
    let mut history = Writer::default();
    structure(&update.sessions, None, &update.parts, &mut history);
    frame.section(&history.bytes)?;
    let mut contents = Writer::default();
    for part in &update.parts {
        let mut content = Writer::default();
        C::write(&part.content, &mut content);
        contents.slice(&content.bytes);
    }
    frame.section(&contents.bytes)?;
    frame.section(&set_values(&update.parts))?;
    Ok(frame.finish())
}

/// The same update, listing only the sessions it names.
fn named_only<C: Content>(update: &Update<C>) -> Update<C> {
    let mut update = update.clone();
    let mut used = vec![false; update.sessions.len()];
    each_session(&mut update.parts, |session| used[*session as usize] = true);
    let mut new = vec![0; used.len()];
    let mut next = 0;
    for (at, used) in used.iter().enumerate() {
        new[at] = next;
        next += u32::from(*used);
    }
    each_session(&mut update.parts, |session| {
        *session = new[*session as usize]
    });
    let mut used = used.iter();
    let named = update.sessions.iter();
    update.sessions = named
        .filter(|_| *used.next().unwrap_or(&false))
        .cloned()
        .collect();
    update
}

fn each_session<C: Content>(parts: &mut [Part<C>], mut visit: impl FnMut(&mut u32)) {
    let own = |name: &mut crate::update::Name, visit: &mut dyn FnMut(&mut u32)| {
        if *name != crate::update::LAST {
            visit(&mut name.session);
        }
    };
    for part in parts {
        visit(&mut part.session);
        part.dependencies
            .iter_mut()
            .for_each(|dependency| visit(&mut dependency.1));
        for op in &mut part.ops {
            match op {
                Op::Insert { parent, .. } => {
                    if let Some(parent) = parent {
                        own(parent, &mut visit);
                    }
                }
                Op::Delete { target, .. } | Op::Set { target, .. } => own(target, &mut visit),
                Op::Move { target, parent, .. } => {
                    own(target, &mut visit);
                    if let Some(parent) = parent {
                        own(parent, &mut visit);
                    }
                }
            }
        }
    }
}

fn structure<C: Content>(
    sessions: &[Session],
    oldest: Option<&Frontier>,
    parts: &[Part<C>],
    out: &mut Writer,
) {
    columns::write_sessions(sessions, out);
    if let Some(oldest) = oldest {
        for session in sessions {
            out.number(u64::from(oldest.count(session)));
        }
    }
    out.number(parts.len() as u64);
    for part in parts {
        columns::write_part(part, sessions.len(), out);
    }
}

/// Reads sessions, what `between` reads after them, and parts, to the end.
fn read_structure<C: Content>(
    reader: &mut Reader<'_>,
    known: impl Fn(&str, u64, Option<&str>) -> Option<Session>,
    between: impl FnOnce(&mut Reader<'_>, &[Session]) -> Result<()>,
) -> Result<Update<C>> {
    let sessions = columns::read_sessions(reader, known)?;
    between(reader, &sessions)?;
    let count = reader.count()?;
    let mut parts: Vec<Part<C>> = Vec::with_capacity(count.min(sessions.len()));
    for _ in 0..count {
        parts.push(columns::read_part(reader, sessions.len())?);
    }
    reader.end()?;
    Ok(Update {
        sessions: sessions.into(),
        parts,
    })
}

/// The values elements were set to, of all parts in order.
fn set_values<C: Content>(parts: &[Part<C>]) -> Vec<u8> {
    let mut values = C::Owned::default();
    for op in parts.iter().flat_map(|part| &part.ops) {
        if let Op::Set { value, .. } = op {
            C::push_item(&mut values, value.clone());
        }
    }
    let mut out = Writer::default();
    C::write(&values, &mut out);
    out.bytes
}

fn read_set_values<C: Content>(bytes: Cow<'_, [u8]>, parts: &mut [Part<C>]) -> Result<()> {
    if bytes.is_empty() {
        // As in every text; a list's are never nothing at all.
        return C::decode(Vec::new(), Some(0)).map(drop);
    }
    let sets = |part: &Part<C>| {
        part.ops
            .iter()
            .filter(|op| matches!(op, Op::Set { .. }))
            .count() as u32
    };
    let count = parts.iter().map(sets).sum();
    let mut values = C::items(C::decode(bytes.into_owned(), Some(count))?).into_iter();
    for op in parts.iter_mut().flat_map(|part| &mut part.ops) {
        if let Op::Set { value, .. } = op
            && let Some(next) = values.next()
        {
            *value = next;
        }
    }
    Ok(())
}

fn inserted<C: Content>(part: &Part<C>) -> u32 {
    let inserted = |op: &Op<C::Item>| {
        if let Op::Insert { count, .. } = op {
            *count
        } else {
            0
        }
    };
    part.ops.iter().map(inserted).sum()
}

/// Decodes either shape. Sessions that are `known` are taken from there.
pub(crate) fn decode<C: Content>(
    bytes: &[u8],
    known: impl Fn(&str, u64, Option<&str>) -> Option<Session>,
) -> Result<Decoded<C>> {
    let mut opened = Opened::new(bytes, C::TAG)?;
    match opened.shape {
        Shape::Update => read_update(&mut opened, known).map(Decoded::Update),
        Shape::Document => read_document(&mut opened).map(Decoded::Document),
    }
}

fn read_update<C: Content>(
    opened: &mut Opened<'_>,
    known: impl Fn(&str, u64, Option<&str>) -> Option<Session>,
) -> Result<Update<C>> {
    let history = opened.section("history")?.unpack()?;
    let mut update: Update<C> =
        read_structure(&mut Reader::new("history", &history), known, |_, _| Ok(()))?;
    let contents = opened.section("contents")?.unpack()?;
    let mut reader = Reader::new("contents", &contents);
    for part in &mut update.parts {
        part.content = C::decode(reader.slice()?.to_vec(), Some(inserted(part)))?;
    }
    reader.end()?;
    read_set_values(opened.section("values")?.unpack()?, &mut update.parts)?;
    opened.end()?;
    Ok(update)
}

fn read_document<C: Content>(opened: &mut Opened<'_>) -> Result<Document<C>> {
    let shown = opened.section("shown contents")?;
    let hidden = opened.section("hidden contents")?;
    let history = opened.section("history")?.unpack()?;
    let mut reader = Reader::new("history", &history);
    let mut oldest = Frontier::new();
    let shown_count = reader.small()?;
    let is_shallow = reader.number()? != 0;
    let none = |_: &str, _, _: Option<&str>| None;
    let mut update: Update<C> = read_structure(&mut reader, none, |reader, sessions| {
        for session in sessions.iter().filter(|_| is_shallow) {
            oldest.set(session.clone(), reader.small()?);
        }
        Ok(())
    })?;
    let all = update
        .parts
        .iter()
        .map(|part| u64::from(inserted(part)))
        .sum::<u64>();
    let hidden_count = all
        .checked_sub(u64::from(shown_count))
        .and_then(|count| u32::try_from(count).ok());
    let hidden_count =
        hidden_count.ok_or_else(|| reader.damaged("more is shown than was inserted"))?;
    read_set_values(opened.section("values")?.unpack()?, &mut update.parts)?;
    let waiting = opened.section("pending")?.unpack()?;
    let mut reader = Reader::new("pending", &waiting);
    let mut pending = Vec::new();
    for _ in 0..reader.count()? {
        match decode_waiting(reader.slice()?)? {
            Decoded::Update(update) => pending.push(update),
            Decoded::Document(_) => return Err(reader.damaged("a whole document cannot wait")),
        }
    }
    reader.end()?;
    opened.end()?;
    let shown = shown.unpack()?;
    let hidden = hidden.unpack_like(&shown)?;
    let hidden = C::decode(hidden.into_owned(), Some(hidden_count))?;
    let shown = C::decode(shown.into_owned(), Some(shown_count))?;
    Ok(Document {
        update,
        shown,
        hidden,
        oldest: is_shallow.then_some(oldest),
        pending,
    })
}

/// Decodes what waits in a document. Apart from [`decode`], so that types do not nest without end.
fn decode_waiting<C: Content>(bytes: &[u8]) -> Result<Decoded<C>> {
    decode(bytes, |_, _, _| None)
}

/// What a document shows, without looking at its history, where that can be told; nothing where not.
pub(crate) fn shown<C: Content>(bytes: &[u8]) -> Result<Option<C::Owned>> {
    let mut opened = Opened::new(bytes, C::TAG)?;
    if opened.shape != Shape::Document || !opened.plain {
        return Ok(None);
    }
    C::decode(
        opened.section("shown contents")?.unpack()?.into_owned(),
        None,
    )
    .map(Some)
}

impl<C: Content> Doc<C> {
    /// Everything: history, contents, what waits. Of elements that were deleted at version `shallow`
    /// already the contents are left out.
    pub(crate) fn encode(&self, shallow: Option<&Frontier>) -> Result<Vec<u8>> {
        let oldest = shallow.or(self.shallow.as_ref());
        let gone = shallow
            .map(|at| self.deleted_at(at))
            .transpose()?
            .unwrap_or_default();
        if self.logs.iter().any(|log| !log.refused.is_empty()) {
            // What was refused here need not be elsewhere; it goes as it came, to be judged again.
            return encode_update(&self.since(&Frontier::new())?);
        }
        let order = self.session_order();
        let mut parts = Vec::with_capacity(order.locals.len());
        for (at, &local) in order.locals.iter().enumerate() {
            let log = &self.logs[local as usize];
            parts.push(self.part(log, at as u32, 0..log.txs, &order, false));
        }
        let (mut shown, mut hidden, mut shown_count) =
            (C::Owned::default(), C::Owned::default(), 0);
        for entry in self.tree.entries().filter(|entry| !entry.is_slot()) {
            for part in self.by_deletion(entry) {
                let to = if part.is_hidden() {
                    &mut hidden
                } else {
                    &mut shown
                };
                shown_count += part.visible_len();
                self.read_unless_gone(part, &gone, to);
            }
        }
        let mut frame = Frame::new(Shape::Document, C::TAG, self.is_plain(), DOCUMENT_LEVEL);
        let (mut shown_bytes, mut hidden_bytes) = (Writer::default(), Writer::default());
        C::write(&shown, &mut shown_bytes);
        C::write(&hidden, &mut hidden_bytes);
        frame.section(&shown_bytes.bytes)?;
        // What was deleted is mostly like what is there.
        frame.section_like(&hidden_bytes.bytes, &shown_bytes.bytes)?;
        let mut history = Writer::default();
        history.number(u64::from(shown_count));
        // The oldest version that can still be told, if not all can.
        history.number(u64::from(oldest.is_some()));
        structure(&order.sessions, oldest, &parts, &mut history);
        frame.section(&history.bytes)?;
        frame.section(&set_values(&parts))?;
        let mut waiting = Writer::default();
        let parked: Vec<_> = self.pending.iter().map(|(_, parked)| parked).collect();
        waiting.number(parked.len() as u64);
        for parked in parked {
            let update = Update {
                sessions: parked.sessions.clone(),
                parts: vec![parked.part.clone()],
            };
            waiting.slice(&encode_update(&update)?);
        }
        frame.section(&waiting.bytes)?;
        Ok(frame.finish())
    }

    fn read_unless_gone(&self, part: Entry, gone: &Bits, to: &mut C::Owned) {
        let mut at = 0;
        while at < part.len() {
            let elem = part.at(at);
            let is_gone = gone.get(elem);
            let count = (at..part.len())
                .take_while(|&offset| gone.get(part.at(offset)) == is_gone)
                .count();
            if is_gone {
                C::blank(count, to);
            } else {
                self.read_as_inserted(part.part(at, at + count as u32), to);
            }
            at += count as u32;
        }
    }

    /// Whether nothing was ever set or moved.
    fn is_plain(&self) -> bool {
        self.logs.iter().all(|log| log.revisions.is_empty())
    }

    /// The entry's elements as they would stand had nothing moved: hidden if deleted.
    fn by_deletion(&self, entry: Entry) -> Vec<Entry> {
        if self.moves.of.is_empty() || !entry.is_hidden() {
            return vec![entry];
        }
        let kept = |elem| self.moves.of.get(&elem).is_some_and(|moved| !moved.deleted);
        let alone = |offset| {
            let part = entry.part(offset, offset + 1);
            part.with_hidden(!kept(part.lo))
        };
        (0..entry.len()).map(alone).collect()
    }
}
