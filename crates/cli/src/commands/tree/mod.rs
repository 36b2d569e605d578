//! `siltstone tree`: JSON documents by path. A file for each kind of command.

mod files;
mod read;
mod rules;
mod scope;
mod watch;
mod write;

use crate::commands::retained;
use crate::commands::settings::{Settings, policy};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::{Args, Subcommand};
use siltstone::KeyspaceOptions;
use siltstone::blocking::{Database, Reader, Tree, View};
use siltstone::trees::KEYSPACE_PREFIX;
use siltstone::{Commit, Path, ToPath};
use std::io::Read as _;

const HELP: &str = "\
A path names a node: a.b a field, a[0] an element of a dense array, a{42} of a
sparse one, a(k) of one keyed by a field, 'a b'.c a quoted name, and the empty
text the whole document. What starts with a slash is a JSON Pointer. In patterns
* is any step and ** any number of them. Values are JSON; text is written with
--text, or quoted: '\"text\"'. - reads the value from stdin.

Examples:
  siltstone tree set limits.cpu 2
  siltstone tree patch limits '{\"memory\": \"1GiB\", \"cpu\": null}'
  siltstone tree get limits --at 7
  siltstone tree match 'users.*' '{\"age\": {\"$gte\": 18}}'
  siltstone tree watch 'users.*.name' --after 7";

/// Arguments of `tree`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TreeArgs {
    /// The tree
    #[arg(
        long,
        short,
        global = true,
        value_name = "NAME",
        default_value = "main"
    )]
    tree: String,
    #[command(subcommand)]
    command: TreeCommand,
}

/// What to do with a tree.
#[derive(Debug, Subcommand)]
enum TreeCommand {
    /// Read a node, now or at a commit
    Get(read::GetArgs),
    /// List the names in a container
    Keys(read::KeysArgs),
    /// Find what passes a filter
    #[command(after_help = read::FILTERS)]
    Match(read::MatchArgs),
    /// Set a node
    Set(write::ValueArgs),
    /// Merge into a node, as RFC 7396 has it: null deletes a field
    Patch(write::ValueArgs),
    /// Apply an RFC 6902 JSON Patch, from a file or stdin
    JsonPatch(write::JsonPatchArgs),
    /// Delete a node
    Delete(write::DeleteArgs),
    /// Put a value behind the last element of an array
    Append(write::ValueArgs),
    /// Put a value before an element of a dense array
    Insert(write::InsertArgs),
    /// Add to a number
    Increment(write::IncrementArgs),
    /// Show every commit that changes a path, as JSON lines, beside a running writer
    #[command(after_help = watch::HELP)]
    Watch(watch::WatchArgs),
    /// Show the commits that changed a node, with what was there before and since
    History(read::HistoryArgs),
    /// Show how two commits differ, as an RFC 6902 JSON Patch
    Diff(read::DiffArgs),
    /// Show which commits can be read, as a timeline
    Retained,
    /// Named copy-on-write overlays: list, create, diff, merge, delete
    #[command(subcommand)]
    Scope(scope::ScopeCommand),
    /// Attach a JSON Schema to a path, show what is attached, take it away
    #[command(subcommand)]
    Schema(rules::SchemaCommand),
    /// Declare arrays as keyed by a field of their elements
    Keyed(rules::KeyedArgs),
    /// Set the document, or a node, from a JSON file
    Import(files::ImportArgs),
    /// Write the document, or a node, to a JSON file or stdout
    Export(files::ExportArgs),
    /// List trees
    List,
    /// Create a tree, with its history policy
    Create {
        #[command(flatten)]
        settings: Settings,
    },
    /// Change settings of a tree; those not given stay as they are
    Configure {
        #[command(flatten)]
        settings: Settings,
    },
    /// Drop a tree with its history
    Drop,
}

pub(crate) fn run(args: &TreeArgs, session: &mut Session) -> Result<()> {
    let tree = &Name(&args.tree);
    match &args.command {
        TreeCommand::Get(args) => read::get(args, tree, session),
        TreeCommand::Keys(args) => read::keys(args, tree, session),
        TreeCommand::Match(args) => read::matching(args, tree, session),
        TreeCommand::Set(args) => write::set(args, tree, session),
        TreeCommand::Patch(args) => write::patch(args, tree, session),
        TreeCommand::JsonPatch(args) => write::json_patch(args, tree, session),
        TreeCommand::Delete(args) => write::delete(args, tree, session),
        TreeCommand::Append(args) => write::append(args, tree, session),
        TreeCommand::Insert(args) => write::insert(args, tree, session),
        TreeCommand::Increment(args) => write::increment(args, tree, session),
        TreeCommand::Watch(args) => watch::run(args, tree, session),
        TreeCommand::History(args) => read::history(args, tree, session),
        TreeCommand::Diff(args) => read::diff(args, tree, session),
        TreeCommand::Retained => {
            let reader = tree.reader(session)?;
            let keyspace = format!("{KEYSPACE_PREFIX}{}", tree.0);
            retained::show(session, &reader, &keyspace, ("tree", tree.0))
        }
        TreeCommand::Scope(command) => scope::run(command, tree, session),
        TreeCommand::Schema(command) => rules::schema(command, tree, session),
        TreeCommand::Keyed(args) => rules::keyed(args, tree, session),
        TreeCommand::Import(args) => files::import(args, tree, session),
        TreeCommand::Export(args) => files::export(args, tree, session),
        TreeCommand::List => list(session),
        TreeCommand::Create { settings } => {
            let db = session.create(KeyspaceOptions::default())?;
            db.create_tree(tree.0, settings.options()?)?;
            db.close()?;
            let object = || Object::default().field("created", tree.0);
            session
                .out
                .done(format!("tree {:?} created", tree.0), object)
        }
        TreeCommand::Configure { settings } => set(tree, settings, session),
        TreeCommand::Drop => {
            let db = session.writer()?;
            db.trees().drop_tree(tree.0)?;
            db.close()?;
            let note = format!("tree {:?} dropped, with its history", tree.0);
            session
                .out
                .done(note, || Object::default().field("dropped", tree.0))
        }
    }
}

/// The name of the tree asked for.
struct Name<'a>(&'a str);

impl Name<'_> {
    /// The database beside its writer, in which the tree is.
    fn reader(&self, session: &Session) -> Result<Reader> {
        let reader = session.reader()?;
        reader.tree(self.0)?;
        Ok(reader)
    }

    /// The document at a commit, or now; in a scope when one is named.
    fn view(&self, session: &Session, at: Option<u64>, scope: Option<&str>) -> Result<View> {
        let tree = session.reader()?.tree(self.0)?;
        let at = at.map(Commit);
        Ok(match (scope, at) {
            (Some(scope), at) => tree.scope(scope, at)?,
            (None, Some(at)) => tree.at(at)?,
            (None, None) => tree.view()?,
        })
    }

    /// Does something with the tree, open for writing; it must be there.
    fn write<T>(&self, session: &Session, work: impl FnOnce(&Tree) -> Result<T>) -> Result<T> {
        let db = session.writer()?;
        let done = work(&db.tree(self.0)?)?;
        db.close()?;
        Ok(done)
    }

    /// The tree, open for writing; it and its database are created when they are not there.
    fn make(&self, session: &Session) -> Result<(Database, Tree)> {
        let db = session.create(KeyspaceOptions::default())?;
        let tree = db
            .trees()
            .open_or_create(self.0, KeyspaceOptions::default())?;
        Ok((db, tree))
    }
}

/// A path as it is given: what starts with a slash is a JSON Pointer into `view`.
fn path(text: &str, view: impl FnOnce() -> Result<View>) -> Result<Path> {
    match text.starts_with('/') {
        true => Ok(view()?.resolve(text)?),
        false => Ok(text.to_path()?),
    }
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

fn list(session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    for name in reader.tree_names() {
        let keyspace = reader.keyspace(&format!("{KEYSPACE_PREFIX}{name}"))?;
        let history = keyspace.options().history;
        let scopes = reader.tree(&name)?.scopes()?.len();
        if session.out.json() {
            let object = Object::default()
                .field("name", &name)
                .field("scopes", &scopes)
                .field("history", &history);
            session.out.object(object)?;
        } else {
            session
                .out
                .line(format_args!("{name:<20}  keeps {}", policy(&history)))?;
        }
    }
    Ok(())
}

fn set(tree: &Name<'_>, settings: &Settings, session: &mut Session) -> Result<()> {
    if *settings == Settings::default() {
        let what = "say what to change, for example --levels 2";
        return Err(Failure::Usage(what.into()));
    }
    let db = session.writer()?;
    let options = settings.over(db.tree(tree.0)?.options())?;
    db.trees().set(tree.0, options.clone())?;
    db.close()?;
    let note = format!("tree {:?} keeps {}", tree.0, policy(&options.history));
    session.out.done(note, || {
        Object::default()
            .field("changed", tree.0)
            .field("options", &options)
    })
}
