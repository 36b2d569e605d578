//! A file for each command: its arguments, and what it does.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod changes;
pub(crate) mod checkpoint;
pub(crate) mod clone;
pub(crate) mod compact;
pub(crate) mod compact_worker;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod dump;
pub(crate) mod export;
pub(crate) mod flush;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod init;
pub(crate) mod keep_log;
pub(crate) mod keyspace;
pub(crate) mod ledger;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod put;
pub(crate) mod retained;
pub(crate) mod scan;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod stats_follow;
pub(crate) mod tree;
pub(crate) mod txn;
pub(crate) mod verify;

use crate::args::Command;
use crate::failure::Result;
use crate::session::Session;

/// Does what was asked.
pub(crate) fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::Demo(args) => crate::demo::run(&args, session),
        Command::Init(args) => init::run(&args, session),
        Command::Put(args) => put::run(&args, session),
        Command::Get(args) => get::run(&args, session),
        Command::Delete(args) => delete::run(&args, session),
        Command::Merge(args) => merge::run(&args, session),
        Command::Txn(args) => txn::run(&args, session),
        Command::Tree(args) => tree::run(&args, session),
        Command::Ledger(args) => ledger::run(&args, session),
        Command::List(args) => list::run_list(&args, session),
        Command::Text(args) => list::run_text(&args, session),
        Command::Changes(args) => changes::run(&args, session),
        Command::KeepLog(args) => keep_log::run(&args, session),
        Command::Scan(args) => scan::run(&args, session),
        Command::History(args) => history::run(&args, session),
        Command::Import(args) => import::run(&args, session),
        Command::Export(args) => export::run(&args, session),
        Command::Flush => flush::run(session),
        Command::Compact(args) => compact::run(&args, session),
        Command::CompactWorker(args) => compact_worker::run(&args, session),
        Command::Stats(args) => stats::run(&args, session),
        Command::Verify => verify::run(session),
        Command::Checkpoint(command) => checkpoint::run(&command, session),
        Command::Keyspace(command) => keyspace::run(&command, session),
        Command::Backup(args) => backup::run(&args, session),
        Command::Clone(args) => clone::run(&args, session),
        Command::Dump(command) => dump::run(&command, session),
        Command::Bench(args) => bench::run(&args, session),
        Command::Completions(args) => completions::run(&args, session),
        Command::DemoWriter(args) => crate::demo::writer::run(&args, session),
    }
}
