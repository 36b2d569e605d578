//! `sync` and `export`: copies of a list in other databases and in files.

use super::make;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, plural};
use clap::Args;
use siltstone::KeyspaceOptions;
use siltstone::blocking::Database;
use siltstone::list::{Applied, Chars, Values};
use siltstone::lists::{self, ListKind, Lists, Store, Stored};
use std::io::Write as _;
use std::path::Path;

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The list or text; created here or there when only the other side has it
    name: String,
    /// Another database's folder or URL, or a file ending in .slt, which is created when it is not there
    other: String,
    /// What it is, when it is on neither side yet: create a text
    #[arg(long)]
    text: bool,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The list or text
    name: String,
    /// The file to write; without one stdout
    file: Option<String>,
}

/// What an exported file's name ends in.
const FILE: &str = "slt";

pub(super) fn export(args: &ExportArgs, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    let encoded = match lists::kind(&reader, &args.name)? {
        ListKind::Text => lists::read::<Chars>(&reader, &args.name)?.encode(),
        ListKind::List => lists::read::<Values>(&reader, &args.name)?.encode(),
    };
    let encoded = encoded.map_err(siltstone::Error::from)?;
    match args.file.as_deref() {
        None | Some("-") => session.out.bytes(&encoded)?,
        Some(file) => replace(Path::new(file), &encoded)?,
    }
    session
        .out
        .note(format!("{} with all history", bytes(encoded.len() as u64)));
    Ok(())
}

/// Writes a file whole or not at all.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let place = path.display().to_string();
    let failed = |error: &std::io::Error| Failure::io(&place, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    file.write_all(contents)
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}

pub(super) fn sync(args: &SyncArgs, author: &str, session: &mut Session) -> Result<()> {
    let path = Path::new(&args.other);
    let is_file = path.is_file() || path.extension().is_some_and(|extension| extension == FILE);
    let (here, there) = if is_file {
        make(session, |lists| {
            match kind_here(lists, args, || kind_of_file(path))? {
                ListKind::Text => with_file(&lists.open_or_create_text(&args.name, author)?, path),
                ListKind::List => with_file(&lists.open_or_create_list(&args.name, author)?, path),
            }
        })?
    } else {
        let other =
            Database::open_with(&args.other, session.options(), KeyspaceOptions::default())?;
        let theirs = other.lists();
        let done = make(session, |lists| {
            match kind_here(lists, args, || known(&theirs, &args.name))? {
                ListKind::Text => Ok(lists
                    .open_or_create_text(&args.name, author)?
                    .sync_with(&theirs.open_or_create_text(&args.name, author)?)?),
                ListKind::List => Ok(lists
                    .open_or_create_list(&args.name, author)?
                    .sync_with(&theirs.open_or_create_list(&args.name, author)?)?),
            }
        })?;
        other.close()?;
        done
    };
    report(&here, &there, session)
}

/// What the list is here or, if it is not here, there.
fn kind_here(
    lists: &Lists,
    args: &SyncArgs,
    there: impl FnOnce() -> Result<Option<ListKind>>,
) -> Result<ListKind> {
    if let Some(kind) = known(lists, &args.name)? {
        return Ok(kind);
    }
    let none = || {
        let name = &args.name;
        Failure::Absent(format!(
            "there is no list or text called {name}, neither here nor in {}",
            args.other
        ))
    };
    match there()? {
        Some(kind) => Ok(kind),
        None if args.text => Ok(ListKind::Text),
        None => Err(none()),
    }
}

fn known(lists: &Lists, name: &str) -> Result<Option<ListKind>> {
    Ok(lists
        .names()?
        .into_iter()
        .find(|known| known.0 == name)
        .map(|known| known.1))
}

fn kind_of_file(path: &Path) -> Result<Option<ListKind>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes =
        std::fs::read(path).map_err(|error| Failure::io(&path.display().to_string(), &error))?;
    let text = siltstone::list::PackedText::new(bytes).is_ok();
    Ok(Some(if text { ListKind::Text } else { ListKind::List }))
}

/// Takes in what the file has, and makes the file what the list is then.
fn with_file<C: Store>(list: &Stored<C>, path: &Path) -> Result<(Applied, Applied)> {
    let place = path.display().to_string();
    let here = match std::fs::read(path) {
        Ok(bytes) => {
            list.apply(&bytes)
                .map_err(|error| Failure::from(error).at(&place))?
                .value
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Applied::default(),
        Err(error) => return Err(Failure::io(&place, &error)),
    };
    let (encoded, transactions) = list
        .read(|list| {
            let transactions = list.frontier().iter().map(|(_, count)| count).sum::<u32>();
            list.encode().map(|encoded| (encoded, transactions))
        })?
        .map_err(siltstone::Error::from)?;
    let known = here.transactions + here.known;
    replace(path, &encoded)?;
    let there = Applied {
        transactions: transactions.saturating_sub(known),
        ..Applied::default()
    };
    Ok((here, there))
}

fn report(here: &Applied, there: &Applied, session: &mut Session) -> Result<()> {
    let came = plural(u64::from(here.transactions), "transaction", "transactions");
    let went = plural(u64::from(there.transactions), "transaction", "transactions");
    let mut note = format!("{came} came, {went} went");
    if !here.conflicts.is_empty() {
        let conflicts = plural(here.conflicts.len() as u64, "element was", "elements were");
        note += &format!("; {conflicts} set or moved on both sides, the later counts");
    }
    if here.pending > 0 {
        note += &format!("; {} wait for others that have not come", here.pending);
    }
    session.out.done(note, || {
        Object::default()
            .field("came", &here.transactions)
            .field("went", &there.transactions)
            .field("conflicts", &here.conflicts.len())
            .field("pending", &here.pending)
    })
}
