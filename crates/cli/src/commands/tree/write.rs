//! `siltstone tree set`, `patch`, `delete` and the like: one commit each.

use super::{Name, contents, path};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::Args;
use siltstone::trees::{Number, Op};
use siltstone::{Commit, Edit, Path, TreeExpect, Value, parse_json_patch};

/// What must hold for a write to happen.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Only if this is there now
    #[arg(long = "if", value_name = "JSON", conflicts_with = "if_absent")]
    if_value: Option<String>,
    /// Only if there is nothing
    #[arg(long)]
    if_absent: bool,
    /// Only if nothing there or below was written after this commit
    #[arg(long, value_name = "COMMIT")]
    if_unchanged_since: Option<u64>,
    /// Write in this scope
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
}

impl Conditions {
    fn edit(&self, path: &Path) -> Result<Edit> {
        let mut edit = Edit::new();
        if let Some(json) = &self.if_value {
            edit = edit.expect(path, TreeExpect::Value(parse(json)?));
        }
        if self.if_absent {
            edit = edit.expect(path, TreeExpect::Absent);
        }
        if let Some(commit) = self.if_unchanged_since {
            edit = edit.expect(path, TreeExpect::UnchangedSince(Commit(commit)));
        }
        Ok(edit)
    }
}

/// Arguments of `set`, `patch` and `append`.
#[derive(Debug, Args)]
pub(crate) struct ValueArgs {
    /// The path
    path: String,
    /// The value as JSON; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The value is text, not JSON
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    conditions: Conditions,
}

impl ValueArgs {
    fn value(&self) -> Result<Value> {
        value(&self.value, self.text)
    }
}

fn value(given: &str, text: bool) -> Result<Value> {
    let read = match given {
        "-" => Some(contents("-")?),
        _ => None,
    };
    let given = read.as_deref().unwrap_or(given);
    match text {
        true => Ok(given.into()),
        false => parse(given),
    }
}

fn parse(json: &str) -> Result<Value> {
    json.parse().map_err(|error| {
        Failure::Usage(format!(
            "the value is not JSON: {error}. For text use --text, or quote it: '\"text\"'"
        ))
    })
}

/// Commits one operation, and says so.
fn commit(
    tree: &Name<'_>,
    text: &str,
    conditions: &Conditions,
    session: &mut Session,
    op: impl FnOnce(Path) -> Op,
) -> Result<()> {
    // A JSON Pointer leads somewhere only in what is there.
    let (db, open) = tree.make(session)?;
    let path = path(text, || Ok(open.view()?))?;
    let edit = conditions.edit(&path)?.op(op(path));
    let done = match &conditions.scope {
        Some(scope) => open.scope(scope)?.commit(&edit)?,
        None => open.commit(&edit)?,
    };
    drop(open);
    db.close()?;
    let appended: Vec<_> = done.appended.iter().map(ToString::to_string).collect();
    let place = match appended.as_slice() {
        [] => String::new(),
        paths => format!(": {}", paths.join(", ")),
    };
    let note = format!("commit {}{place}", done.commit);
    session.out.done(note, || {
        let object = Object::default().field("commit", &done.commit);
        match appended.is_empty() {
            true => object,
            false => object.field("appended", &appended),
        }
    })
}

pub(super) fn set(args: &ValueArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let value = args.value()?;
    let op = |path| Op::Set(path, value);
    commit(tree, &args.path, &args.conditions, session, op)
}

pub(super) fn patch(args: &ValueArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let value = args.value()?;
    let op = |path| Op::Patch(path, value);
    commit(tree, &args.path, &args.conditions, session, op)
}

pub(super) fn append(args: &ValueArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let value = args.value()?;
    let op = |path| Op::Append(path, value);
    commit(tree, &args.path, &args.conditions, session, op)
}

/// Arguments of `json-patch`.
#[derive(Debug, Args)]
pub(crate) struct JsonPatchArgs {
    /// The file; - is stdin
    file: String,
    /// Where the patch's pointers start; without one at the root
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    #[command(flatten)]
    conditions: Conditions,
}

pub(super) fn json_patch(
    args: &JsonPatchArgs,
    tree: &Name<'_>,
    session: &mut Session,
) -> Result<()> {
    let patch = parse_json_patch(&contents(&args.file)?)?;
    let op = |path| Op::JsonPatch(path, patch);
    commit(tree, &args.path, &args.conditions, session, op)
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The path
    path: String,
    #[command(flatten)]
    conditions: Conditions,
}

pub(super) fn delete(args: &DeleteArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    commit(tree, &args.path, &args.conditions, session, Op::Delete)
}

/// Arguments of `insert`.
#[derive(Debug, Args)]
pub(crate) struct InsertArgs {
    /// The path of the array
    path: String,
    /// The place, from 0
    index: u64,
    /// The value as JSON; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The value is text, not JSON
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    conditions: Conditions,
}

pub(super) fn insert(args: &InsertArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let value = value(&args.value, args.text)?;
    let op = |path| Op::Insert(path, args.index, value);
    commit(tree, &args.path, &args.conditions, session, op)
}

/// Arguments of `increment`.
#[derive(Debug, Args)]
pub(crate) struct IncrementArgs {
    /// The path
    path: String,
    /// How much to add
    #[arg(default_value = "1", allow_hyphen_values = true)]
    by: String,
    #[command(flatten)]
    conditions: Conditions,
}

pub(super) fn increment(
    args: &IncrementArgs,
    tree: &Name<'_>,
    session: &mut Session,
) -> Result<()> {
    let by: Number = args
        .by
        .parse()
        .map_err(|_| Failure::Usage(format!("{:?} is not a number", args.by)))?;
    let op = |path| Op::Increment(path, by);
    commit(tree, &args.path, &args.conditions, session, op)
}
