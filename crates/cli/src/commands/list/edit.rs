//! Commands that edit: one transaction, one commit.

use super::{contents, make, value, write};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::plural;
use clap::Args;
use siltstone::Commit;
use siltstone::list::{List, Result as ListResult, Value};
use std::ops::Range;

/// Arguments of `append`.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// The list
    name: String,
    /// Values; - alone reads JSON lines from stdin
    #[arg(required = true, allow_negative_numbers = true)]
    values: Vec<String>,
}

/// Arguments of `insert`.
#[derive(Debug, Args)]
pub(crate) struct InsertArgs {
    /// The list
    name: String,
    /// Where it is to stand
    position: usize,
    /// The value
    #[arg(allow_negative_numbers = true)]
    value: String,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The list
    name: String,
    /// A position, or a range like 2..5
    #[arg(value_parser = parse_range)]
    range: Range<usize>,
}

/// Arguments of `move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The list
    name: String,
    /// Where it stands
    from: usize,
    /// Where it is to stand
    to: usize,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The list
    name: String,
    /// Which element
    position: usize,
    /// Its new value
    #[arg(allow_negative_numbers = true)]
    value: String,
}

/// Arguments of `edit`.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The text
    name: String,
    /// The file; - is stdin
    file: String,
}

fn parse_range(text: &str) -> Result<Range<usize>, String> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| "write a position like 2, or a range like 2..5".to_string())
    };
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|at| at..at + 1),
    }
}

pub(super) fn append(args: &AppendArgs, author: &str, session: &mut Session) -> Result<()> {
    let values: Vec<Value> = match &args.values[..] {
        [only] if only == "-" => {
            let text = contents("-")?;
            let lines = text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .enumerate();
            let parsed = lines.map(|(at, line)| {
                let wrong = |error| {
                    Failure::Usage(format!("is not JSON: {error}")).at(format!("line {}", at + 1))
                };
                serde_json::from_str(line).map_err(wrong)
            });
            parsed.collect::<Result<_>>()?
        }
        given => given.iter().map(|given| value(given)).collect(),
    };
    let count = values.len() as u64;
    let (commit, len) = make(session, |lists| {
        let list = lists.open_or_create_list(&args.name, author)?;
        let edited = list.edit(|list| list.append_items(values))?;
        Ok((edited.commit, list.read(List::len)?))
    })?;
    done(
        session,
        commit,
        len,
        &plural(count, "value added", "values added"),
    )
}

fn edit(
    session: &mut Session,
    name: &str,
    author: &str,
    note: &str,
    work: impl FnOnce(&mut List) -> ListResult<()>,
) -> Result<()> {
    let (commit, len) = write(session, |lists| {
        let list = lists.list(name, author)?;
        let edited = list.edit(work)?;
        Ok((edited.commit, list.read(List::len)?))
    })?;
    done(session, commit, len, note)
}

fn done(session: &mut Session, commit: Option<Commit>, len: usize, what: &str) -> Result<()> {
    let commit_note = commit.map_or("nothing to do".to_string(), |commit| {
        format!("commit {commit}")
    });
    let note = format!(
        "{what}: {commit_note}, {}",
        plural(len as u64, "element", "elements")
    );
    session.out.done(note, || {
        Object::default()
            .field("commit", &commit)
            .field("len", &len)
    })
}

pub(super) fn insert(args: &InsertArgs, author: &str, session: &mut Session) -> Result<()> {
    let value = value(&args.value);
    edit(session, &args.name, author, "inserted", |list| {
        list.insert(args.position, value)
    })
}

pub(super) fn delete(args: &DeleteArgs, author: &str, session: &mut Session) -> Result<()> {
    edit(session, &args.name, author, "deleted", |list| {
        list.delete(args.range.clone())
    })
}

pub(super) fn shift(args: &MoveArgs, author: &str, session: &mut Session) -> Result<()> {
    edit(session, &args.name, author, "moved", |list| {
        list.move_to(args.from, args.to)
    })
}

pub(super) fn set(args: &SetArgs, author: &str, session: &mut Session) -> Result<()> {
    let value = value(&args.value);
    edit(session, &args.name, author, "set", |list| {
        list.set(args.position, value)
    })
}

pub(super) fn file(args: &EditArgs, author: &str, session: &mut Session) -> Result<()> {
    let new = contents(&args.file)?;
    let (commit, len) = make(session, |lists| {
        let text = lists.open_or_create_text(&args.name, author)?;
        let edited = text.edit(|text| text.apply_diff(&new))?;
        Ok((edited.commit, text.read(|text| text.len())?))
    })?;
    let note = match commit {
        None => "it holds this already".to_string(),
        Some(commit) => format!(
            "commit {commit}, {}",
            plural(len as u64, "character", "characters")
        ),
    };
    session.out.done(note, || {
        Object::default()
            .field("commit", &commit)
            .field("len", &len)
    })
}
