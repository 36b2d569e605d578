//! Transactions as columns: one for each thing that is said of every operation, so that like stands
//! beside like. Names are written as distances from where the session's last operation ended.

use super::bytes::{Reader, Writer};
use crate::births::Side;
use crate::content::Content;
use crate::error::Result;
use crate::id::{MAX_NAME_BYTES, Session};
use crate::tree::MAX_ELEMS;
use crate::update::{LAST, Name, Op, Part};

const KIND: u8 = 3;
const INSERT: u8 = 0;
const DELETE: u8 = 1;
const SET: u8 = 2;
const MOVE: u8 = 3;
/// The new element stands to the right of its parent; a deletion goes downwards.
const RIGHT: u8 = 1 << 2;
const BACKWARD: u8 = 1 << 3;
/// The parent is the root.
const ROOT: u8 = 1 << 4;
/// The name is of another session than the operation's.
const FOREIGN: u8 = 1 << 5;
/// The operation concerns one element; the count is left out.
const ONE: u8 = 1 << 6;
/// The parent is the newest element of the operation's session.
const NEWEST: u8 = 1 << 7;

pub(crate) fn write_sessions(sessions: &[Session], out: &mut Writer) {
    out.number(sessions.len() as u64);
    for session in sessions {
        out.slice(session.author().as_bytes());
        out.bytes.extend_from_slice(&session.nonce().to_le_bytes());
        // A branch's name is written one longer than it is; 0 says there is none.
        match session.branch() {
            None => out.number(0),
            Some(branch) => {
                out.number(branch.len() as u64 + 1);
                out.bytes.extend_from_slice(branch.as_bytes());
            }
        }
    }
}

/// Those that are `known` are taken from there.
pub(crate) fn read_sessions(
    reader: &mut Reader<'_>,
    known: impl Fn(&str, u64, Option<&str>) -> Option<Session>,
) -> Result<Vec<Session>> {
    let count = reader.count()?;
    let mut sessions = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let author = text(reader)?;
        let mut nonce = [0; 8];
        nonce.copy_from_slice(reader.take(8)?);
        let nonce = u64::from_le_bytes(nonce);
        let branch = reader.number()?;
        let mut name = None;
        if branch > 0 {
            if branch > MAX_NAME_BYTES as u64 + 1 {
                return Err(reader.damaged("a branch's name is too long"));
            }
            let bytes = reader.take(branch as usize - 1)?;
            let text = std::str::from_utf8(bytes);
            name = Some(text.map_err(|_| reader.damaged("a branch's name is not UTF-8"))?);
        }
        let session = known(author, nonce, name).unwrap_or_else(|| {
            let session = Session::new(author, nonce);
            match name {
                Some(name) => session.in_branch(name),
                None => session,
            }
        });
        if sessions.contains(&session) && sessions.len() < 64 {
            return Err(reader.damaged("a session is listed twice"));
        }
        sessions.push(session);
    }
    Ok(sessions)
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str> {
    let bytes = reader.slice()?;
    if bytes.len() > MAX_NAME_BYTES {
        return Err(reader.damaged("an author's name is too long"));
    }
    std::str::from_utf8(bytes).map_err(|_| reader.damaged("an author's name is not UTF-8"))
}

/// The columns of one part's operations.
#[derive(Default)]
struct Columns {
    kinds: Writer,
    counts: Writer,
    sessions: Writer,
    numbers: Writer,
    moved: Writer,
}

/// Writes everything of `part` but contents and values.
pub(crate) fn write_part<C: Content>(part: &Part<C>, sessions: usize, out: &mut Writer) {
    out.number(u64::from(part.session));
    out.number(u64::from(part.first_tx));
    out.number(u64::from(part.first_number));
    out.number(u64::from(part.txs));
    out.number(part.sizes.len() as u64);
    for &(txs, _) in &part.sizes {
        out.number(u64::from(txs));
    }
    for &(_, per_tx) in &part.sizes {
        out.number(u64::from(per_tx));
    }
    out.number(part.times.len() as u64);
    let mut before = 0;
    for &(txs, time) in &part.times {
        out.number(u64::from(txs));
        out.signed(time.wrapping_sub(before) as i64);
        before = time;
    }
    write_dependencies(part, sessions, out);
    out.number(part.ops.len() as u64);
    let mut columns = Columns::default();
    let mut cursors = vec![0_i64; sessions];
    let mut next_number = i64::from(part.first_number);
    for op in &part.ops {
        columns.op(op, part.session, &mut cursors);
        if op.numbers() > 0 {
            next_number += i64::from(op.numbers());
            cursors[part.session as usize] = next_number - 1;
        }
    }
    for column in [
        columns.kinds,
        columns.counts,
        columns.sessions,
        columns.numbers,
        columns.moved,
    ] {
        out.slice(&column.bytes);
    }
}

fn write_dependencies<C: Content>(part: &Part<C>, sessions: usize, out: &mut Writer) {
    out.number(part.dependencies.len() as u64);
    let mut tx_before = part.first_tx;
    for &(tx, _, _) in &part.dependencies {
        out.number(u64::from(tx - tx_before));
        tx_before = tx;
    }
    if sessions > 2 {
        for &(_, on, _) in &part.dependencies {
            out.number(u64::from(on));
        }
    }
    let mut before = vec![0_i64; sessions];
    for &(_, on, count) in &part.dependencies {
        out.signed(i64::from(count) - before[on as usize]);
        before[on as usize] = i64::from(count);
    }
}

impl Columns {
    fn op<V>(&mut self, op: &Op<V>, own: u32, cursors: &mut [i64]) {
        let count = op.items();
        let mut kind = if count == 1 { ONE } else { 0 };
        let parent_bits = |parent: &Option<Name>, side: &Side| {
            let side = if *side == Side::Right { RIGHT } else { 0 };
            side | match parent {
                None => ROOT,
                Some(LAST) => NEWEST,
                Some(name) if name.session != own => FOREIGN,
                Some(_) => 0,
            }
        };
        let of = |name: &Name| if name.session == own { 0 } else { FOREIGN };
        match op {
            Op::Insert {
                parent,
                side,
                backward,
                ..
            } => {
                kind |= INSERT | parent_bits(parent, side) | if *backward { BACKWARD } else { 0 };
                self.name(*parent, own, cursors);
            }
            Op::Delete {
                target, backward, ..
            } => {
                kind |= DELETE | of(target) | if *backward { BACKWARD } else { 0 };
                self.name(Some(*target), own, cursors);
                let end = if *backward {
                    -i64::from(count)
                } else {
                    i64::from(count)
                };
                cursors[target.session as usize] = i64::from(target.number) + end;
            }
            Op::Set { target, .. } => {
                kind |= SET | of(target);
                self.name(Some(*target), own, cursors);
            }
            Op::Move {
                target,
                parent,
                side,
            } => {
                kind |= MOVE | parent_bits(parent, side);
                self.moved.number(u64::from(target.session));
                self.moved.number(u64::from(target.number));
                self.name(*parent, own, cursors);
            }
        }
        self.kinds.byte(kind);
        if count > 1 {
            self.counts.number(u64::from(count));
        }
    }

    fn name(&mut self, name: Option<Name>, own: u32, cursors: &mut [i64]) {
        let Some(name) = name.filter(|&name| name != LAST) else {
            return;
        };
        if name.session != own {
            self.sessions.number(u64::from(name.session));
        }
        let cursor = &mut cursors[name.session as usize];
        self.numbers.signed(i64::from(name.number) - *cursor);
        *cursor = i64::from(name.number);
    }
}

pub(crate) fn read_part<C: Content>(reader: &mut Reader<'_>, sessions: usize) -> Result<Part<C>> {
    let session = reader.small()?;
    if session as usize >= sessions {
        return Err(reader.damaged("it names a session that is not listed"));
    }
    let (first_tx, first_number, txs) = (reader.small()?, reader.small()?, reader.small()?);
    if txs == 0 || first_tx.checked_add(txs).is_none() {
        return Err(reader.damaged("it has no transactions, or more than there can be"));
    }
    let count = reader.count()?;
    let mut sizes = Vec::with_capacity(count);
    for _ in 0..count {
        sizes.push((reader.small()?, 0));
    }
    for size in &mut sizes {
        size.1 = reader.small()?;
    }
    let count = reader.count()?;
    let mut times = Vec::with_capacity(count);
    let mut time = 0_u64;
    for _ in 0..count {
        let txs = reader.small()?;
        time = time.wrapping_add(reader.signed()? as u64);
        times.push((txs, time));
    }
    let dependencies = read_dependencies(reader, session, first_tx, txs, sessions)?;
    let count = reader.count()?;
    let columns: [&[u8]; 5] = [
        reader.slice()?,
        reader.slice()?,
        reader.slice()?,
        reader.slice()?,
        reader.slice()?,
    ];
    if columns[0].len() != count {
        return Err(reader.damaged("a column has another length than the table"));
    }
    let mut part = Part {
        session,
        first_tx,
        first_number,
        txs,
        sizes,
        times,
        dependencies,
        ops: Vec::new(),
        content: C::Owned::default(),
    };
    let items = read_ops(columns, sessions, &mut part)?;
    let all = |spans: u64| spans == u64::from(txs);
    let in_sizes = part
        .sizes
        .iter()
        .map(|&(txs, per_tx)| u64::from(txs) * u64::from(per_tx))
        .sum::<u64>();
    if !all(part.sizes.iter().map(|size| u64::from(size.0)).sum())
        || !all(part.times.iter().map(|time| u64::from(time.0)).sum())
        || part
            .sizes
            .iter()
            .any(|&(txs, per_tx)| txs == 0 || per_tx == 0)
        || part.times.iter().any(|&(txs, _)| txs == 0)
        || in_sizes != items
        || items > u64::from(u32::MAX)
    {
        return Err(reader.damaged("its transactions and its operations do not agree"));
    }
    Ok(part)
}

fn read_dependencies(
    reader: &mut Reader<'_>,
    own: u32,
    first_tx: u32,
    txs: u32,
    sessions: usize,
) -> Result<Vec<(u32, u32, u32)>> {
    let count = reader.count()?;
    let mut dependencies = Vec::with_capacity(count);
    let mut tx = first_tx;
    for _ in 0..count {
        tx = tx
            .checked_add(reader.small()?)
            .filter(|&tx| tx - first_tx < txs)
            .ok_or_else(|| reader.damaged("a dependency is of no transaction"))?;
        dependencies.push((tx, 0, 0));
    }
    let other = if sessions == 2 { 1 - own.min(1) } else { 0 };
    for dependency in &mut dependencies {
        dependency.1 = if sessions > 2 { reader.small()? } else { other };
        if dependency.1 as usize >= sessions || dependency.1 == own {
            return Err(reader.damaged("a dependency is on no other session"));
        }
    }
    let (mut few, mut many) = ([0_i64; 8], Vec::new());
    let before = zeros(&mut few, &mut many, sessions);
    for dependency in &mut dependencies {
        let known = &mut before[dependency.1 as usize];
        *known = known.wrapping_add(reader.signed()?);
        dependency.2 = u32::try_from(*known)
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| reader.damaged("a dependency is on no transaction"))?;
    }
    Ok(dependencies)
}

/// So many zeros, on the stack while they are few.
fn zeros<'a>(few: &'a mut [i64; 8], many: &'a mut Vec<i64>, count: usize) -> &'a mut [i64] {
    if count <= few.len() {
        return &mut few[..count];
    }
    many.resize(count, 0);
    many
}

/// Reads the operations, but for the values of sets, and says how many items they have.
fn read_ops<C: Content>(columns: [&[u8]; 5], sessions: usize, part: &mut Part<C>) -> Result<u64> {
    let [kinds, counts, foreign, numbers, moved] = columns;
    let mut counts = Reader::new("counts", counts);
    let mut foreign = Reader::new("sessions", foreign);
    let mut numbers = Reader::new("names", numbers);
    let mut moved = Reader::new("moves", moved);
    let own = part.session;
    let (mut few, mut many) = ([0_i64; 8], Vec::new());
    let cursors = zeros(&mut few, &mut many, sessions);
    let mut items = 0;
    let mut next_number = u64::from(part.first_number);
    part.ops.reserve_exact(kinds.len());
    for &kind in kinds {
        let count = if kind & ONE != 0 { 1 } else { counts.small()? };
        if count == 0 || count > MAX_ELEMS {
            return Err(counts.damaged("an operation has no elements, or more than there can be"));
        }
        items += u64::from(count);
        let mut name = |cursors: &mut [i64]| -> Result<Name> {
            let session = if kind & FOREIGN != 0 {
                foreign.small()?
            } else {
                own
            };
            let cursor = cursors
                .get_mut(session as usize)
                .ok_or_else(|| foreign.damaged("a session is not listed"))?;
            let number = cursor.wrapping_add(numbers.signed()?);
            let in_range = u32::try_from(number)
                .ok()
                .filter(|&number| number < MAX_ELEMS);
            let number =
                in_range.ok_or_else(|| numbers.damaged("there is no element of that number"))?;
            *cursor = i64::from(number);
            Ok(Name { session, number })
        };
        let side = if kind & RIGHT != 0 {
            Side::Right
        } else {
            Side::Left
        };
        if kind & ROOT != 0 && side == Side::Left && matches!(kind & KIND, INSERT | MOVE) {
            return Err(counts.damaged("the root has children on its right only"));
        }
        let backward = kind & BACKWARD != 0 && count > 1;
        let parent =
            |cursors: &mut [i64], name: &mut dyn FnMut(&mut [i64]) -> Result<Name>| match kind {
                kind if kind & ROOT != 0 => Ok(None),
                kind if kind & NEWEST != 0 => Ok(Some(LAST)),
                _ => name(cursors).map(Some),
            };
        let op = match kind & KIND {
            INSERT => Op::Insert {
                count,
                parent: parent(cursors, &mut name)?,
                side,
                backward,
            },
            DELETE => {
                let target = name(cursors)?;
                if backward && target.number < count - 1
                    || !backward && target.number > MAX_ELEMS - count
                {
                    return Err(numbers.damaged("a deletion goes beyond the elements"));
                }
                let end = if backward {
                    -i64::from(count)
                } else {
                    i64::from(count)
                };
                cursors[target.session as usize] = i64::from(target.number) + end;
                Op::Delete {
                    count,
                    target,
                    backward,
                }
            }
            SET => {
                let value = C::placeholder().ok_or_else(|| counts.damaged("a text has no sets"))?;
                Op::Set {
                    target: name(cursors)?,
                    value,
                }
            }
            _ => {
                let (session, number) = (moved.small()?, moved.small()?);
                if session as usize >= sessions || number >= MAX_ELEMS {
                    return Err(moved.damaged("a session is not listed or has no such element"));
                }
                let target = Name { session, number };
                Op::Move {
                    target,
                    parent: parent(cursors, &mut name)?,
                    side,
                }
            }
        };
        if matches!(kind & KIND, SET | MOVE) && count != 1 {
            return Err(counts.damaged("an operation on one element says it is on many"));
        }
        if matches!(kind & KIND, INSERT | MOVE) {
            next_number += u64::from(count);
            if next_number > u64::from(MAX_ELEMS) {
                return Err(counts.damaged("it inserts more elements than there can be"));
            }
            cursors[own as usize] = next_number as i64 - 1;
        }
        part.ops.push(op);
    }
    counts.end()?;
    foreign.end()?;
    numbers.end()?;
    moved.end()?;
    Ok(items)
}
