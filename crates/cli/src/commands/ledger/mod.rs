//! `siltstone ledger`: local-first ledgers of content-addressed documents. A file for each kind of
//! command.

mod file;
mod keys;
mod query;
mod read;
mod repair;
mod replicas;
mod sync;
mod upkeep;
mod write;

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::{Args, Subcommand};
use siltstone::KeyspaceOptions;
use siltstone::blocking::Database;
use siltstone::ledger::crypto::KeyRing;
use siltstone::ledger::{Clock, Ledger, Options};
use std::path::PathBuf;
use std::sync::Arc;

const HELP: &str = "\
A ledger holds JSON documents by id. Every block of it is named by its hash,
every commit is one archive (CAR) or nothing, and what two copies wrote apart
merges. A clock names a version: what put, clock and changes print.

Encrypted ledgers name their key ring with --keys or SILTSTONE_LEDGER_KEYS; keys
never travel with the data, so keep a copy of the file.

Commands that only read work beside a process that writes.

Examples:
  siltstone ledger put notes sand '{\"grain\": 0.2}'
  siltstone ledger get notes sand
  siltstone ledger all notes --prefix s
  siltstone ledger query notes grain --from 0.1 --limit 10
  siltstone ledger history notes sand
  siltstone ledger file put notes sand photo.jpg
  siltstone ledger compact notes
  siltstone ledger verify notes
  siltstone ledger sync notes ../shared/notes
  siltstone ledger replicas notes ../shared/notes
  siltstone ledger repair notes --from ../shared/notes
  siltstone ledger export notes notes.car";

/// Arguments of `ledger`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LedgerArgs {
    #[command(flatten)]
    opening: Opening,
    #[command(subcommand)]
    command: LedgerCommand,
}

/// How a ledger is opened.
#[derive(Debug, Args)]
struct Opening {
    /// The key ring of an encrypted ledger
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SILTSTONE_LEDGER_KEYS"
    )]
    keys: Option<PathBuf>,
    /// Under what name this copy writes [default: random, kept with the ledger]
    #[arg(long, global = true, value_name = "NAME")]
    replica: Option<String>,
}

/// What to do with a ledger.
#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Create an empty ledger; with --keys an encrypted one, and the key ring if there is none
    New {
        /// Its name
        name: String,
    },
    /// Show the names of all ledgers
    Names,
    /// Put a document; without one, JSON lines from stdin, ids from `_id`. Creates the ledger when there is none
    Put(write::PutArgs),
    /// Delete a document
    Delete(write::DeleteArgs),
    /// Show a document
    Get(read::GetArgs),
    /// Show all documents, or a part of them
    All(read::AllArgs),
    /// Show the documents in the order of a field, or those with a value of it; builds an index at the first time
    Query(query::QueryArgs),
    /// Show what changed since a clock, oldest first
    Changes(read::ChangesArgs),
    /// Show the versions of a document, newest first, with the losers of conflicts
    History(read::HistoryArgs),
    /// Show the documents that were written apart, with what lost
    Conflicts {
        /// The ledger
        name: String,
    },
    /// Show the clock: the version as it is now
    Clock {
        /// The ledger
        name: String,
    },
    /// Copy what is in small archives into large ones; no history goes
    Compact {
        /// The ledger
        name: String,
    },
    /// Drop history; the documents as they are now stay
    Prune(upkeep::PruneArgs),
    /// Check every block, from the archives up and from the head down
    Verify(upkeep::VerifyArgs),
    /// Put back what is missing or damaged, from a place that it was synced with
    Repair(repair::RepairArgs),
    /// Show what it is made of
    Stats {
        /// The ledger
        name: String,
    },
    /// Write the whole ledger to a CAR file that any IPLD tool reads (but for what is encrypted)
    Export(upkeep::FileArgs),
    /// Take in a CAR file that export wrote, here or elsewhere, and merge it
    Import(upkeep::FileArgs),
    /// Exchange what is new with a folder or a bucket that other copies use too
    Sync(sync::SyncArgs),
    /// Show the copies that use a folder or a bucket, and what each of them keeps there
    Replicas(replicas::ReplicasArgs),
    /// Give up a copy that never comes back: what only it named is deleted there after the grace
    Retire(replicas::RetireArgs),
    /// Drop it with its history
    Drop {
        /// The ledger
        name: String,
    },
    /// Put, get and list files that documents link to
    #[command(subcommand)]
    File(file::FileCommand),
    /// Make, show and rotate key rings
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

pub(crate) fn run(args: &LedgerArgs, session: &mut Session) -> Result<()> {
    let opening = &args.opening;
    match &args.command {
        LedgerCommand::New { name } => create(name, opening, session),
        LedgerCommand::Names => names(session),
        LedgerCommand::Put(args) => write::put(args, opening, session),
        LedgerCommand::Delete(args) => write::delete(args, opening, session),
        LedgerCommand::Get(args) => read::get(args, opening, session),
        LedgerCommand::All(args) => read::all(args, opening, session),
        LedgerCommand::Query(args) => query::query(args, opening, session),
        LedgerCommand::Changes(args) => read::changes(args, opening, session),
        LedgerCommand::History(args) => read::history(args, opening, session),
        LedgerCommand::Conflicts { name } => read::conflicts(name, opening, session),
        LedgerCommand::Clock { name } => read::clock(name, opening, session),
        LedgerCommand::Compact { name } => upkeep::compact(name, opening, session),
        LedgerCommand::Prune(args) => upkeep::prune(args, opening, session),
        LedgerCommand::Verify(args) => upkeep::verify(args, opening, session),
        LedgerCommand::Repair(args) => repair::repair(args, opening, session),
        LedgerCommand::Stats { name } => upkeep::stats(name, opening, session),
        LedgerCommand::Export(args) => upkeep::export(args, opening, session),
        LedgerCommand::Import(args) => upkeep::import(args, opening, session),
        LedgerCommand::Sync(args) => sync::sync(args, opening, session),
        LedgerCommand::Replicas(args) => replicas::replicas(args, opening, session),
        LedgerCommand::Retire(args) => replicas::retire(args, opening, session),
        LedgerCommand::Drop { name } => {
            let db = session.writer()?;
            db.ledgers().drop(name)?;
            db.close()?;
            session.out.done(format!("dropped {name}"), || {
                Object::default().field("dropped", name)
            })
        }
        LedgerCommand::File(command) => file::run(command, opening, session),
        LedgerCommand::Keys(command) => keys::run(command, opening, session),
    }
}

impl Opening {
    fn options(&self) -> Result<Options> {
        let keys = match &self.keys {
            Some(path) => Some(Arc::new(KeyRing::open(path).map_err(failed)?)),
            None => None,
        };
        Ok(Options {
            keys,
            author: self.replica.clone().map(String::into_bytes),
            ..Options::default()
        })
    }

    /// Does something with a ledger that must be there.
    fn with<T>(
        &self,
        name: &str,
        session: &Session,
        work: impl FnOnce(&Ledger) -> Result<T>,
    ) -> Result<T> {
        let db = session.writer()?;
        let ledger = db.ledgers().open(name, self.options()?)?;
        sync::attach_places(&ledger)?;
        closing(&db, &ledger, work)
    }

    /// Reads from a ledger, whoever has it open for writing; only where archives have to be fetched it is
    /// opened for that.
    fn read<T>(
        &self,
        name: &str,
        session: &Session,
        work: impl FnOnce(&Ledger) -> Result<T>,
    ) -> Result<T> {
        let ledger = session.reader()?.ledger(name, self.options()?)?;
        if ledger.stats().away_cars > 0 {
            drop(ledger);
            return self.read_alone(name, session, work);
        }
        closing_reader(ledger, work)
    }

    /// Reads from a ledger that is opened for writing, so that what is found out can be kept; beside
    /// another process that has it open, and in a bucket, which would be taken from its writer, as
    /// [`Opening::read`].
    fn read_and_keep<T>(
        &self,
        name: &str,
        session: &Session,
        work: impl FnOnce(&Ledger) -> Result<T>,
    ) -> Result<T> {
        match session.is_folder()? {
            true => self.read_alone(name, session, work),
            false => self.read(name, session, work),
        }
    }

    fn read_alone<T>(
        &self,
        name: &str,
        session: &Session,
        work: impl FnOnce(&Ledger) -> Result<T>,
    ) -> Result<T> {
        let db = match session.writer() {
            Err(failure) if failure.is_locked() => {
                let ledger = session.reader()?.ledger(name, self.options()?)?;
                return closing_reader(ledger, work);
            }
            other => other?,
        };
        let ledger = db.ledgers().open(name, self.options()?)?;
        sync::attach_places(&ledger)?;
        closing(&db, &ledger, work)
    }

    /// The same; database and ledger are created when they are not there.
    fn make<T>(
        &self,
        name: &str,
        session: &Session,
        work: impl FnOnce(&Ledger) -> Result<T>,
    ) -> Result<T> {
        let db = session.create(KeyspaceOptions::default())?;
        let ledger = db.ledgers().open_or_create(name, self.options()?)?;
        sync::attach_places(&ledger)?;
        closing(&db, &ledger, work)
    }
}

fn closing<T>(
    db: &Database,
    ledger: &Ledger,
    work: impl FnOnce(&Ledger) -> Result<T>,
) -> Result<T> {
    let done = work(ledger)?;
    db.close()?;
    Ok(done)
}

fn closing_reader<T>(ledger: Ledger, work: impl FnOnce(&Ledger) -> Result<T>) -> Result<T> {
    let done = work(&ledger)?;
    ledger.close().map_err(failed)?;
    Ok(done)
}

fn failed(error: siltstone::ledger::Error) -> Failure {
    siltstone::Error::from(error).into()
}

fn create(name: &str, opening: &Opening, session: &mut Session) -> Result<()> {
    if let Some(path) = &opening.keys
        && !path.exists()
    {
        keys::make(path, session)?;
    }
    let db = session.create(KeyspaceOptions::default())?;
    if db.ledgers().names()?.iter().any(|known| known == name) {
        return Err(Failure::Other(format!(
            "there is a ledger called {name} already"
        )));
    }
    db.ledgers().open_or_create(name, opening.options()?)?;
    db.close()?;
    session.out.done(format!("created {name}"), || {
        Object::default().field("created", name)
    })
}

fn names(session: &mut Session) -> Result<()> {
    for name in session.reader()?.ledger_names()? {
        if session.out.json() {
            session.out.object(Object::default().field("name", &name))?;
        } else {
            session.out.line(name)?;
        }
    }
    Ok(())
}

/// A clock as it is printed: addresses of events, with commas between.
fn clock_text(clock: &Clock) -> String {
    let events: Vec<_> = clock.0.iter().map(ToString::to_string).collect();
    events.join(",")
}

/// The clock of what [`clock_text`] printed.
fn parse_clock(text: &str) -> std::result::Result<Clock, String> {
    let events = text.split(',').filter(|event| !event.is_empty());
    let events = events.map(|event| event.parse().map_err(|error| format!("{event:?}: {error}")));
    Ok(Clock(events.collect::<Result<_, _>>()?))
}
