//! `siltstone list` and `siltstone text`: collaborative lists and texts. A file for each kind of
//! command.

mod draw;
mod edit;
mod show;
mod sync;

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::{Args, Subcommand};
use siltstone::KeyspaceOptions;
use siltstone::blocking::Database;
use siltstone::list::Value;
use siltstone::lists::{self, ListKind, Lists};
use std::io::Read as _;

const LIST_HELP: &str = "\
Values are JSON; what is not JSON is taken as text. Positions count from 0. Every
command that edits is one transaction and one commit, and every copy of a list
can be edited apart: sync brings copies together and they come out the same.

Examples:
  siltstone list append todo '\"buy sand\"' 42
  siltstone list move todo 1 0
  siltstone list show todo --at 3
  siltstone list stats todo
  siltstone list sync todo ../laptop/data
  siltstone text edit notes notes.txt";

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_HELP)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    author: Author,
    #[command(subcommand)]
    command: ListCommand,
}

/// Who edits.
#[derive(Debug, Args)]
pub(crate) struct Author {
    /// Who edits; kept in the history of what is edited
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "SILTSTONE_AUTHOR",
        default_value = "me"
    )]
    author: String,
}

/// What to do with a list.
#[derive(Debug, Subcommand)]
enum ListCommand {
    /// Create an empty list
    New {
        /// Its name
        name: String,
    },
    /// Show the names of all lists and texts
    Names,
    /// Add values at the end; - reads JSON lines from stdin. Creates the list when there is none
    Append(edit::AppendArgs),
    /// Insert a value so that it stands at a position
    Insert(edit::InsertArgs),
    /// Delete the element at a position, or those of a range like 2..5
    Delete(edit::DeleteArgs),
    /// Move an element so that it stands at another position
    Move(edit::MoveArgs),
    /// Give an element another value; it stays the same element
    Set(edit::SetArgs),
    #[command(flatten)]
    Common(Common),
}

/// Arguments of `text`.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    author: Author,
    #[command(subcommand)]
    command: TextCommand,
}

/// What to do with a text.
#[derive(Debug, Subcommand)]
enum TextCommand {
    /// Create an empty text
    New {
        /// Its name
        name: String,
    },
    /// Make the text that of a file, or of stdin for -, by the fewest edits. Creates it when there is none
    Edit(edit::EditArgs),
    #[command(flatten)]
    Common(Common),
}

/// What lists and texts have in common.
#[derive(Debug, Subcommand)]
enum Common {
    /// Show what it holds, now or as it was
    Show(show::ShowArgs),
    /// Draw its runs and show how well they compact it
    Stats {
        /// The list or text
        name: String,
    },
    /// Show every transaction: who, when, and how much it did
    History(show::HistoryArgs),
    /// Write all of it with its history to a file, to be synced elsewhere
    Export(sync::ExportArgs),
    /// Exchange what is new with another database, or with an exported file
    Sync(sync::SyncArgs),
    /// Drop it with its history
    Drop {
        /// The list or text
        name: String,
    },
}

pub(crate) fn run_list(args: &ListArgs, session: &mut Session) -> Result<()> {
    let author = &args.author.author;
    match &args.command {
        ListCommand::New { name } => create(name, ListKind::List, session),
        ListCommand::Names => names(session),
        ListCommand::Append(args) => edit::append(args, author, session),
        ListCommand::Insert(args) => edit::insert(args, author, session),
        ListCommand::Delete(args) => edit::delete(args, author, session),
        ListCommand::Move(args) => edit::shift(args, author, session),
        ListCommand::Set(args) => edit::set(args, author, session),
        ListCommand::Common(common) => run_common(common, author, session),
    }
}

pub(crate) fn run_text(args: &TextArgs, session: &mut Session) -> Result<()> {
    let author = &args.author.author;
    match &args.command {
        TextCommand::New { name } => create(name, ListKind::Text, session),
        TextCommand::Edit(args) => edit::file(args, author, session),
        TextCommand::Common(common) => run_common(common, author, session),
    }
}

fn run_common(command: &Common, author: &str, session: &mut Session) -> Result<()> {
    match command {
        Common::Show(args) => show::show(args, session),
        Common::Stats { name } => draw::stats(name, session),
        Common::History(args) => show::history(args, session),
        Common::Export(args) => sync::export(args, session),
        Common::Sync(args) => sync::sync(args, author, session),
        Common::Drop { name } => {
            let db = session.writer()?;
            db.lists().drop(name)?;
            db.close()?;
            session.out.done(format!("dropped {name}"), || {
                Object::default().field("dropped", name)
            })
        }
    }
}

fn create(name: &str, kind: ListKind, session: &mut Session) -> Result<()> {
    let db = session.create(KeyspaceOptions::default())?;
    let lists = db.lists();
    if lists.names()?.iter().any(|(known, _)| known == name) {
        return Err(Failure::Other(format!(
            "there is a list or text called {name} already"
        )));
    }
    match kind {
        ListKind::List => drop(lists.open_or_create_list(name, "")?),
        ListKind::Text => drop(lists.open_or_create_text(name, "")?),
    }
    db.close()?;
    session.out.done(format!("created {name}"), || {
        Object::default().field("created", name)
    })
}

fn names(session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    for name in lists::names(&reader) {
        let kind = match lists::kind(&reader, &name)? {
            ListKind::List => "list",
            ListKind::Text => "text",
        };
        if session.out.json() {
            session
                .out
                .object(Object::default().field("name", &name).field("kind", kind))?;
        } else {
            session.out.line(format_args!("{name:<20}  {kind}"))?;
        }
    }
    Ok(())
}

/// Does something with the lists of a database open for writing; it must be there.
fn write<T>(session: &Session, work: impl FnOnce(&Lists) -> Result<T>) -> Result<T> {
    closing(session.writer()?, work)
}

/// The same; the database is created when it is not there.
fn make<T>(session: &Session, work: impl FnOnce(&Lists) -> Result<T>) -> Result<T> {
    closing(session.create(KeyspaceOptions::default())?, work)
}

fn closing<T>(db: Database, work: impl FnOnce(&Lists) -> Result<T>) -> Result<T> {
    let done = work(&db.lists())?;
    db.close()?;
    Ok(done)
}

/// A value as it is given: JSON, or else text.
fn value(given: &str) -> Value {
    serde_json::from_str(given).unwrap_or_else(|_| Value::from(given))
}

/// What stands in a file, or comes from stdin for `-`.
fn contents(file: &str) -> Result<String> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        file => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Failure::io(file, &error))?;
    Ok(text)
}
