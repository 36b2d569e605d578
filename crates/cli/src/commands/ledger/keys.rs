//! `keys`: key rings, which live in files of their own.

use super::{Opening, failed};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::Subcommand;
use siltstone::ledger::crypto::{KeyRing, SystemEntropy};
use std::path::{Path, PathBuf};

/// What to do with a key ring, which `--keys` names.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key ring with one new key, readable by its owner only
    New,
    /// Show the names of its keys; never the keys
    Show,
    /// Add a new key, which seals from now on. The old ones go on opening what they sealed
    Rotate,
    /// Add the keys of another ring, to read what they sealed
    Adopt {
        /// The other ring
        file: PathBuf,
    },
}

pub(super) fn run(command: &KeysCommand, opening: &Opening, session: &mut Session) -> Result<()> {
    let Some(path) = &opening.keys else {
        return Err(Failure::Usage(
            "which key ring? Name its file with --keys FILE or SILTSTONE_LEDGER_KEYS".into(),
        ));
    };
    match command {
        KeysCommand::New => make(path, session),
        KeysCommand::Show => {
            let ring = KeyRing::open(path).map_err(failed)?;
            for id in ring.ids() {
                let current = id == ring.current();
                if session.out.json() {
                    let object = Object::default().field("key", &id.to_string());
                    session.out.object(object.field("current", &current))?;
                } else {
                    let mark = if current { "  seals" } else { "" };
                    session.out.line(format_args!("{id}{mark}"))?;
                }
            }
            Ok(())
        }
        KeysCommand::Rotate => {
            let mut ring = KeyRing::open(path).map_err(failed)?;
            let id = ring.rotate(&SystemEntropy).map_err(failed)?;
            let note = format!(
                "key {id} seals from now on; keep a copy of {}",
                path.display()
            );
            session
                .out
                .done(note, || Object::default().field("key", &id.to_string()))
        }
        KeysCommand::Adopt { file } => {
            let mut ring = KeyRing::open(path).map_err(failed)?;
            let before = ring.ids().count();
            let other = KeyRing::open(file).map_err(failed)?;
            ring.adopt(&other).map_err(failed)?;
            let adopted = ring.ids().count() - before;
            session.out.done(format!("{adopted} keys adopted"), || {
                Object::default().field("adopted", &adopted)
            })
        }
    }
}

pub(super) fn make(path: &Path, session: &mut Session) -> Result<()> {
    let ring = KeyRing::create(path, &SystemEntropy).map_err(failed)?;
    let id = ring.current();
    let note = format!(
        "made {}: without it nothing sealed can be read",
        path.display()
    );
    session
        .out
        .done(note, || Object::default().field("key", &id.to_string()))
}
