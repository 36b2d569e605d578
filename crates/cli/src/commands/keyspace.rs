//! `siltstone keyspace`: lists, creates, changes and drops keyspaces.

use crate::commands::settings::{Settings, policy};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, plural};
use clap::Subcommand;
use siltstone::{KeyspaceOptions, KeyspaceStats};

/// What to do with keyspaces.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyspaceCommand {
    /// List them, with their sizes
    List,
    /// Create one, with its settings
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change settings of one; those not given stay as they are
    #[command(after_help = "What an earlier history policy let go of stays gone.")]
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Drop one with everything in it
    Drop {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(command: &KeyspaceCommand, session: &mut Session) -> Result<()> {
    match command {
        KeyspaceCommand::List => list(session),
        KeyspaceCommand::Create { name, settings } => {
            let db = session.writer()?;
            db.create_keyspace(name, settings.options()?)?;
            db.close()?;
            let note = format!("keyspace {name:?} created");
            session
                .out
                .done(note, || Object::default().field("created", name))
        }
        KeyspaceCommand::Set { name, settings } => set(name, settings, session),
        KeyspaceCommand::Drop { name } => {
            let db = session.writer()?;
            db.kv().drop_keyspace(name)?;
            db.close()?;
            let note = format!("keyspace {name:?} dropped, with everything in it");
            session
                .out
                .done(note, || Object::default().field("dropped", name))
        }
    }
}

fn set(name: &str, settings: &Settings, session: &mut Session) -> Result<()> {
    if *settings == Settings::default() {
        return Err(Failure::Usage(
            "say what to change, for example --levels 2".into(),
        ));
    }
    let db = session.writer()?;
    let options = settings.over(db.keyspace(name)?.options())?;
    db.set_keyspace(name, options.clone())?;
    db.close()?;
    let note = format!("keyspace {name:?} keeps {}", policy(&options.history));
    session.out.done(note, || {
        Object::default()
            .field("changed", name)
            .field("options", &options)
    })
}

fn list(session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    let manifest = reader.kv().manifest();
    let stats = reader.kv().stats();
    for keyspace in &stats.keyspaces {
        let (tables, size, entries) = totals(keyspace);
        let state = manifest
            .state
            .keyspaces
            .iter()
            .find(|k| k.name == keyspace.name);
        if session.out.json() {
            let object = Object::default()
                .field("name", &keyspace.name)
                .field("tables", &tables)
                .field("bytes", &size)
                .field("entries", &entries)
                .field("blob_files", &keyspace.blob_files)
                .field("blob_bytes", &keyspace.blob_bytes)
                .field("options", &state.map(|k| &k.options));
            session.out.object(object)?;
            continue;
        }
        session.out.line(format_args!(
            "{:<20} {:>12} {:>10} {:>20}  {}",
            keyspace.name,
            plural(tables, "table", "tables"),
            bytes(size),
            plural(entries, "version", "versions"),
            state.map_or(String::new(), |k| settings_of(&k.options)),
        ))?;
    }
    Ok(())
}

/// The history policy, and what else is not as usual.
fn settings_of(options: &KeyspaceOptions) -> String {
    let mut words = policy(&options.history);
    if let Some(operator) = &options.merge_operator {
        words += &format!("; merges by {operator}");
    }
    match options.blob_threshold {
        None => {}
        Some(u32::MAX) => words += "; all values beside their keys",
        Some(least) => {
            let least = bytes(least.into());
            words += &format!("; values from {least} on in blob files");
        }
    }
    words
}

/// Tables, their bytes, and versions in tables and memory.
fn totals(keyspace: &KeyspaceStats) -> (u64, u64, u64) {
    let sum = |of: fn(&siltstone::LevelStats) -> u64| keyspace.levels.iter().map(of).sum::<u64>();
    (
        sum(|l| l.tables),
        sum(|l| l.bytes),
        sum(|l| l.entries) + keyspace.memtable_entries,
    )
}
