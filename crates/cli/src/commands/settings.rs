//! Settings of a keyspace as arguments, for `init` and `keyspace create`.

use crate::units::{parse_duration, parse_size};
use clap::{Args, ValueEnum};
use siltstone::{Compression, History, KeyspaceOptions};
use std::time::Duration;

/// Settings of a keyspace; what is not given has the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Settings {
    /// How many of the newest commits stay readable, or `all` [default: 10000]
    #[arg(long, value_name = "COMMITS", value_parser = parse_window)]
    pub(crate) window: Option<u64>,
    /// Keep at most this many versions of a key
    #[arg(long, value_name = "N")]
    pub(crate) max_versions: Option<u32>,
    /// Drop versions superseded longer ago than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) max_age: Option<Duration>,
    /// With --max-age: drop the newest version too when it is that old
    #[arg(long, requires = "max_age")]
    pub(crate) expire: bool,
    /// Keep tombstones at least this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) tombstone_age: Option<Duration>,
    /// How blocks are compressed [default: lz4]
    #[arg(long, value_enum)]
    pub(crate) compression: Option<Codec>,
    /// Bits of bloom filter a key; 0 for none [default: 10]
    #[arg(long, value_name = "BITS")]
    pub(crate) filter_bits: Option<u8>,
    /// Size of a block before compression [default: 8KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) block_size: Option<u64>,
}

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// Not at all
    None,
    /// Fast both ways
    Lz4,
    /// Smaller
    Zstd,
}

impl Settings {
    /// The settings for the engine.
    pub(crate) fn options(&self) -> KeyspaceOptions {
        let default = KeyspaceOptions::default();
        let history = History::default();
        KeyspaceOptions {
            history: History {
                window: self.window.unwrap_or(history.window),
                window_age: history.window_age,
                divisor: history.divisor,
                levels: history.levels,
                max_versions: self.max_versions.or(history.max_versions),
                max_age: self.max_age.or(history.max_age),
                expire: self.expire,
                tombstone_age: self.tombstone_age.unwrap_or(history.tombstone_age),
            },
            compression: match self.compression {
                None => default.compression,
                Some(Codec::None) => Compression::None,
                Some(Codec::Lz4) => Compression::Lz4,
                Some(Codec::Zstd) => Compression::Zstd,
            },
            filter_bits: self.filter_bits.unwrap_or(default.filter_bits),
            block_bytes: self.block_size.map_or(default.block_bytes, |size| {
                u32::try_from(size).unwrap_or(u32::MAX)
            }),
        }
    }
}

fn parse_window(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        text => text
            .parse()
            .map_err(|_| "write a number of commits, or `all`".to_string()),
    }
}
