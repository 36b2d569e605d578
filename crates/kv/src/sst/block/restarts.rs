//! The full keys of a block, as a search wants them.

use std::ops::Deref;

/// A full key of the block, as a search wants it: the search goes through these alone, a few cache
/// lines side by side, and touches the keys only where it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    /// Of the key behind the shared prefix. Where two differ, the keys are in the same order.
    pub(super) head: u64,
    pub(super) key_at: u32,
    /// From the block's start.
    pub(super) value_at: u32,
}

impl Restart {
    const NONE: Self = Self {
        head: 0,
        key_at: 0,
        value_at: 0,
    };
}

/// Restarts of a block of usual size stand beside its fields: a cache line and a page less to fetch.
const FEW_RESTARTS: usize = 6;

#[derive(Debug)]
pub(super) enum Restarts {
    Few(u8, [Restart; FEW_RESTARTS]),
    Many(Box<[Restart]>),
}

impl Restarts {
    pub(super) const NONE: Self = Self::Few(0, [Restart::NONE; FEW_RESTARTS]);

    pub(super) fn collect(mut all: impl ExactSizeIterator<Item = Option<Restart>>) -> Option<Self> {
        let len = all.len();
        if len > FEW_RESTARTS {
            return Some(Self::Many(all.collect::<Option<_>>()?));
        }
        let mut few = [Restart::NONE; FEW_RESTARTS];
        for slot in &mut few[..len] {
            *slot = all.next()??;
        }
        Some(Self::Few(len as u8, few))
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Few(..) => 0,
            Self::Many(all) => size_of_val(&**all),
        }
    }
}

impl Deref for Restarts {
    type Target = [Restart];

    #[inline]
    fn deref(&self) -> &[Restart] {
        match self {
            Self::Few(len, few) => &few[..usize::from(*len)],
            Self::Many(all) => all,
        }
    }
}
