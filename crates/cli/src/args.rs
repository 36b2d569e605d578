//! What may be asked on the command line. Each command's own arguments stand in its file.

use crate::commands;
use crate::units::parse_size;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line, a URL, a range or a setting is wrong
  3  get, tree: what was asked for is not there
  4  damage found, by verify or on the way
  5  txn: somebody else came first, in every try; tree scope merge: the base has
     changed where the scope wrote; nothing was written
  6  a condition does not hold: expect of txn, --if-absent and --if-value of put,
     --if... of tree, a test of a JSON Patch, a schema; nothing was written
  7  changes, tree watch: what happened since is not kept any more

Results go to stdout, what was done to stderr. A backup is a database: to
restore one, open it where it is (siltstone --db BACKUP ...), or back it up to
where it should live. Buckets take credentials and endpoint from the usual
variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and
AWS_ENDPOINT_URL for s3://.";

/// A versioned database in a folder or in a bucket.
#[derive(Debug, Parser)]
#[command(name = "siltstone", version, after_help = EXIT_CODES, max_term_width = 80)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The database: a folder, s3://bucket/prefix, gs://... or az://... [default: ./siltstone-data]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SILTSTONE_DB",
        help_heading = "Global options"
    )]
    pub(crate) db: Option<String>,
    /// The keyspace to read from and write to
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) keyspace: Option<String>,
    /// One JSON object a line on stdout, for machines
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Only errors on stderr
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Memory for memtables, caches and filters together
    #[arg(long, global = true, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size, help_heading = "Global options")]
    pub(crate) memory: u64,
    /// Keep what is read from a bucket in this folder, over restarts
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SILTSTONE_DISK_CACHE",
        help_heading = "Global options"
    )]
    pub(crate) disk_cache: Option<PathBuf>,
    /// With --disk-cache: the most that the folder may take
    #[arg(long, global = true, value_name = "SIZE", env = "SILTSTONE_DISK_CACHE_SIZE", default_value = "10GiB", value_parser = parse_size, help_heading = "Global options")]
    pub(crate) disk_cache_size: u64,
    /// What to do with a log that is damaged in the middle
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "MODE",
        default_value = "strict",
        help_heading = "Global options"
    )]
    pub(crate) wal_recovery: Recovery,
}

/// What to do with a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recovery {
    /// Refuse to open, and say what can be saved
    Strict,
    /// Keep what comes before the damage, give up the rest
    Truncate,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything at once, on real data, in a few seconds
    Demo(crate::demo::DemoArgs),
    /// Create a database, with settings for its default keyspace
    Init(commands::init::InitArgs),
    /// Write one key, or JSON lines from stdin
    Put(commands::put::PutArgs),
    /// Read one key
    Get(commands::get::GetArgs),
    /// Delete keys and ranges, all in one commit
    Delete(commands::delete::DeleteArgs),
    /// Change a key as its keyspace's merge operator says
    Merge(commands::merge::MergeArgs),
    /// Do a script of operations in one commit, or nothing of it
    Txn(commands::txn::TxnArgs),
    /// JSON documents by path: read, write, watch, travel back, branch off
    Tree(commands::tree::TreeArgs),
    /// Local-first ledgers: content-addressed, encrypted documents that merge
    Ledger(commands::ledger::LedgerArgs),
    /// Collaborative lists: edit, look back, sync with other copies
    List(commands::list::ListArgs),
    /// Collaborative texts: edit by file, look back, sync with other copies
    Text(commands::list::TextArgs),
    /// Show every commit with what it wrote, also as it happens
    Changes(commands::changes::ChangesArgs),
    /// Say how much of the log stays for `changes`
    KeepLog(commands::keep_log::KeepLogArgs),
    /// Read keys in order
    Scan(commands::scan::ScanArgs),
    /// Show the stored versions of a key, newest first, or which commits can be read
    History(commands::history::HistoryArgs),
    /// Read records from a file: JSON lines or CSV, plain or gzipped
    Import(commands::import::ImportArgs),
    /// Write all records to a file or stdout, as JSON lines or CSV
    Export(commands::export::ExportArgs),
    /// Write what is in memory and log to tables
    Flush,
    /// Merge tables chosen by hand
    Compact(commands::compact::CompactArgs),
    /// Compact for the writer of a database, in a process of its own
    CompactWorker(commands::compact_worker::CompactWorkerArgs),
    /// Show levels, memory, cache, filters and amplification
    Stats(commands::stats::StatsArgs),
    /// Read and check every block of every file
    Verify,
    /// Hold commits by name, so that they stay readable
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
    /// List, create, change and drop keyspaces
    #[command(subcommand)]
    Keyspace(commands::keyspace::KeyspaceCommand),
    /// Make, list, restore, verify and remove backups
    Backup(commands::backup::BackupArgs),
    /// Make another database with the contents of this one, without copying where that can be
    Clone(commands::clone::CloneArgs),
    /// Look into a single file of a database
    #[command(subcommand)]
    Dump(commands::dump::DumpCommand),
    /// Measure this machine: puts, gets and scans
    Bench(commands::bench::BenchArgs),
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
    /// Write durably and report each write, until killed (for `demo`)
    #[command(hide = true)]
    DemoWriter(crate::demo::writer::WriterArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
