//! The pure part of [`super::FaultyBlobs`]: which call goes wrong, and how, as a function of the
//! seed and the number of the call.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a store is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// `Blobs::put`.
    Put,
    /// `Blobs::put_if_absent`, and the start of one.
    PutIfAbsent,
    /// `Blobs::get`.
    Get,
    /// `Blobs::open`.
    Open,
    /// `BlobReader::read`.
    Read,
    /// `Blobs::create`.
    Create,
    /// `BlobWriter::write`.
    Write,
    /// `BlobWriter::finish`.
    Finish,
    /// `Blobs::list`.
    List,
    /// `Blobs::delete`.
    Delete,
    /// `Blobs::append`.
    OpenAppend,
    /// `Appender::append`.
    Append,
    /// `Appender::sync` and `Blobs::sync`.
    Sync,
}

impl CallKind {
    /// The operation in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::PutIfAbsent => "put_if_absent",
            Self::Get => "get",
            Self::Open => "open",
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::Finish => "finish",
            Self::List => "list",
            Self::Delete => "delete",
            Self::OpenAppend => "open_append",
            Self::Append => "append",
            Self::Sync => "sync",
        }
    }

    /// True when it may need more of the disk.
    fn takes_room(self) -> bool {
        self.hands_over_bytes() || matches!(self, Self::Create | Self::Finish | Self::OpenAppend)
    }

    fn hands_over_bytes(self) -> bool {
        matches!(
            self,
            Self::Put | Self::PutIfAbsent | Self::Write | Self::Append
        )
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Injected {
    /// It fails and does not happen.
    ErrorBefore,
    /// It happens and is reported as failed.
    ErrorAfter,
    /// Only the first `bytes` bytes get through, then it fails. A put, which is all or nothing, does
    /// not happen.
    HalfWrite {
        /// Bytes that get through.
        bytes: usize,
    },
    /// The disk is full: of an append the first half gets through, anything else does not happen.
    NoSpace,
    /// It takes this much longer.
    Delay(Duration),
    /// The machine stops here.
    Crash,
}

/// One call, as planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Number of the call, from 1.
    pub number: u64,
    /// The operation.
    pub kind: CallKind,
    /// The blob, or the prefix of a list.
    pub name: String,
    /// Bytes handed over or asked for.
    pub bytes: usize,
    /// What goes wrong with it.
    pub fault: Option<Injected>,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {} ({} bytes)",
            self.number,
            self.kind.name(),
            self.name,
            self.bytes
        )?;
        match self.fault {
            Some(fault) => write!(f, " {fault:?}"),
            None => Ok(()),
        }
    }
}

/// What shall go wrong. Chances are in calls of a thousand and exclude each other; their sum is at
/// most 1000. Nothing goes wrong by default.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// The seed: with the same calls it gives the same faults.
    pub seed: u64,
    /// Calls of a thousand that fail and do not happen.
    pub error_before: u16,
    /// Calls of a thousand that happen and are reported as failed.
    pub error_after: u16,
    /// Calls of a thousand that hand over bytes of which only some get through.
    pub half_write: u16,
    /// Calls of a thousand that take longer.
    pub delay: u16,
    /// The longest delay.
    pub delay_max: Duration,
    /// The faults of single calls, by number, counted from 1. They come before the chances.
    pub at: BTreeMap<u64, Injected>,
    /// The numbers of the calls for which the disk is full: those that need room fail. They come
    /// before the chances.
    pub full: std::ops::Range<u64>,
}

impl FaultPlan {
    /// A plan in which nothing goes wrong but call `number`, counted from 1: for walking a fault
    /// through every call of a run.
    pub fn at(number: u64, fault: Injected) -> Self {
        Self {
            at: BTreeMap::from([(number, fault)]),
            ..Self::default()
        }
    }

    /// A plan in which nothing goes wrong but a crash at call `number`, counted from 1.
    pub fn crash_at(number: u64) -> Self {
        Self::at(number, Injected::Crash)
    }

    /// What goes wrong with a call.
    pub(super) fn fault(&self, number: u64, kind: CallKind, bytes: usize) -> Option<Injected> {
        if let Some(fault) = self.at.get(&number) {
            return Some(*fault);
        }
        if self.full.contains(&number) && kind.takes_room() {
            return Some(Injected::NoSpace);
        }
        // The numbers of one call do not depend on those drawn for another.
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(number << 20));
        let mut draw = rng.u16(0..1000);
        let mut falls_in = |chance: u16| {
            let inside = draw < chance;
            draw = draw.saturating_sub(chance);
            inside
        };
        if falls_in(self.error_before) {
            return Some(Injected::ErrorBefore);
        }
        if falls_in(self.error_after) {
            return Some(Injected::ErrorAfter);
        }
        if falls_in(self.half_write) {
            let bytes = rng.usize(0..bytes.max(1));
            return kind
                .hands_over_bytes()
                .then_some(Injected::HalfWrite { bytes });
        }
        if falls_in(self.delay) {
            let most = u64::try_from(self.delay_max.as_micros()).unwrap_or(u64::MAX);
            return Some(Injected::Delay(Duration::from_micros(rng.u64(0..=most))));
        }
        None
    }
}
