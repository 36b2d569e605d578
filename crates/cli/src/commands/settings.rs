//! Settings of a keyspace as arguments, for `init`, `keyspace create` and `keyspace set`.

use crate::failure::{Failure, Result};
use crate::units::{nth, parse_duration, parse_size, plural};
use clap::{Args, ValueEnum};
use siltstone::{Compression, History, KeyspaceOptions};
use std::time::Duration;

/// Settings of a keyspace; what is not given has the engine's default, or stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Settings {
    /// How many of the newest commits stay readable, or `all` [default: 10000]
    #[arg(long, value_name = "COMMITS", value_parser = parse_window)]
    pub(crate) window: Option<u64>,
    /// Commits younger than this stay readable too, or `none`
    #[arg(long, value_name = "TIME", value_parser = limit_of_time)]
    pub(crate) window_age: Option<Limit<Duration>>,
    /// How much each level of history thins out and how much further it reaches [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) divisor: Option<u64>,
    /// Levels of history behind the window: on the first every 10th commit of the newest ten
    /// windows stays readable, on the second every 100th of a hundred, and so on, with the divisor
    /// for 10 [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) levels: Option<u32>,
    /// Keep at most this many versions of a key, or `none` for no limit
    #[arg(long, value_name = "N", value_parser = limit_of_versions)]
    pub(crate) max_versions: Option<Limit<u32>>,
    /// Drop versions superseded longer ago than this, or `none` for no limit
    #[arg(long, value_name = "TIME", value_parser = limit_of_time)]
    pub(crate) max_age: Option<Limit<Duration>>,
    /// With --max-age: drop the newest version too when it is that old
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) expire: Option<bool>,
    /// Keep tombstones at least this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) tombstone_age: Option<Duration>,
    /// How blocks are compressed [default: lz4]
    #[arg(long, value_enum)]
    pub(crate) compression: Option<Codec>,
    /// Bits of bloom filter a key; 0 for none [default: 12]
    #[arg(long, value_name = "BITS")]
    pub(crate) filter_bits: Option<u8>,
    /// Size of a block before compression [default: 8KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) block_size: Option<u64>,
    /// What `merge` does to a key: counter, append, max, set-union, json-merge-patch, or `none`
    #[arg(long, value_name = "OPERATOR")]
    pub(crate) merge_operator: Option<String>,
    /// Keep values of this size and more apart from their keys, `none`, or `default`: large ones in a folder, none in a bucket
    #[arg(long, value_name = "SIZE", value_parser = parse_apart)]
    pub(crate) blob_threshold: Option<Apart>,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<T>(Option<T>);

/// Which values are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// As the engine sees fit.
    Default,
    /// None.
    None,
    /// Those of this size and more, in bytes.
    From(u64),
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
    /// The settings for the engine, of a keyspace that is created.
    pub(crate) fn options(&self) -> Result<KeyspaceOptions> {
        self.over(KeyspaceOptions::default())
    }

    /// `options`, changed by what was given.
    pub(crate) fn over(&self, options: KeyspaceOptions) -> Result<KeyspaceOptions> {
        let history = options.history;
        let limit = |given: Option<Limit<Duration>>, is: Option<Duration>| {
            given.map_or(is, |Limit(limit)| limit)
        };
        let history = History {
            window: self.window.unwrap_or(history.window),
            window_age: limit(self.window_age, history.window_age),
            divisor: self.divisor.unwrap_or(history.divisor),
            levels: self.levels.unwrap_or(history.levels),
            max_versions: self
                .max_versions
                .map_or(history.max_versions, |Limit(limit)| limit),
            max_age: limit(self.max_age, history.max_age),
            expire: self.expire.unwrap_or(history.expire),
            tombstone_age: self.tombstone_age.unwrap_or(history.tombstone_age),
        };
        if history.expire && history.max_age.is_none() {
            return Err(Failure::Usage(
                "--expire says what happens at --max-age, which is not set".into(),
            ));
        }
        Ok(KeyspaceOptions {
            history,
            compression: match self.compression {
                None => options.compression,
                Some(Codec::None) => Compression::None,
                Some(Codec::Lz4) => Compression::Lz4,
                Some(Codec::Zstd) => Compression::Zstd,
            },
            filter_bits: self.filter_bits.unwrap_or(options.filter_bits),
            block_bytes: self.block_size.map_or(options.block_bytes, |size| {
                u32::try_from(size).unwrap_or(u32::MAX)
            }),
            merge_operator: match self.merge_operator.as_deref() {
                None => options.merge_operator,
                Some("none") => None,
                Some(name) => Some(name.to_string()),
            },
            blob_threshold: match self.blob_threshold {
                None => options.blob_threshold,
                Some(Apart::Default) => None,
                Some(Apart::None) => Some(u32::MAX),
                Some(Apart::From(least)) => Some(u32::try_from(least).unwrap_or(u32::MAX)),
            },
        })
    }
}

/// What a history policy keeps, in a few words.
pub(crate) fn policy(history: &History) -> String {
    let mut words = match history.window {
        u64::MAX => "every commit".to_string(),
        window => format!("newest {}", plural(window, "commit", "commits")),
    };
    if let Some(age) = history.window_age {
        words += &format!(" and those of the last {}", humantime::format_duration(age));
    }
    match history.levels {
        0 => {}
        1 => words += &format!(", then every {}", nth(history.divisor)),
        levels => {
            let last = nth(history.divisor.saturating_pow(levels));
            words += &format!(", then every {} to every {last}", nth(history.divisor));
        }
    }
    if let Some(most) = history.max_versions {
        words += &format!(
            ", at most {} of a key",
            plural(most.into(), "version", "versions")
        );
    }
    if let Some(age) = history.max_age {
        let what = if history.expire {
            "nothing"
        } else {
            "nothing superseded"
        };
        words += &format!(
            ", {what} for longer than {}",
            humantime::format_duration(age)
        );
    }
    words
}

fn limit_of_versions(text: &str) -> Result<Limit<u32>, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => text
            .parse()
            .map(|n| Limit(Some(n)))
            .map_err(|_| "write a number of versions, or `none`".to_string()),
    }
}

fn limit_of_time(text: &str) -> Result<Limit<Duration>, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => parse_duration(text).map(|age| Limit(Some(age))),
    }
}

fn parse_apart(text: &str) -> Result<Apart, String> {
    match text {
        "default" => Ok(Apart::Default),
        "none" => Ok(Apart::None),
        text => parse_size(text).map(Apart::From),
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
