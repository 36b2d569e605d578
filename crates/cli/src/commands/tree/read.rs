//! `siltstone tree get`, `keys`, `match`, `history` and `diff`: reading a document, now or at any
//! retained commit.

use super::{Name, path};
use crate::failure::Result;
use crate::object::{Object, json};
use crate::session::Session;
use crate::units::{plural, time};
use clap::Args;
use siltstone::trees::Pattern;
use siltstone::{Commit, Filter, Path, Segment, Value};

pub(super) const FILTERS: &str = "\
A filter is an object. Each name is a path from the value, each value what must
stand there, or an object of comparisons; all must hold:
  {\"state\": \"open\", \"age\": {\"$gte\": 18}, \"name\": {\"$glob\": \"Os*\"}}
There are $eq $ne $lt $lte $gt $gte $in $glob $exists, and $and $or $not. Of an
array the elements are looked at, of a pattern the nodes that it names, and else
the node itself.";

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The path, or a pattern; without one the whole document
    #[arg(default_value = "")]
    path: String,
    /// Read as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// Read in this scope
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// On several lines
    #[arg(long)]
    pretty: bool,
}

pub(super) fn get(args: &GetArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let view = tree.view(session, args.at, args.scope.as_deref())?;
    let pattern = match args.path.starts_with('/') {
        true => Pattern::from(view.resolve(&args.path)?),
        false => Pattern::parse(&args.path)?,
    };
    let Some(path) = pattern.clone().into_path() else {
        for (path, value) in view.nodes(&pattern)? {
            node(&path, &value, session)?;
        }
        return Ok(());
    };
    let value = view.get(&path)?;
    if session.out.json() {
        let object = Object::default()
            .field("path", &path.to_string())
            .field("commit", &view.commit())
            .field("value", &value);
        return session.out.object(object);
    }
    match args.pretty {
        true => session.out.line(pretty(&value)),
        false => session.out.line(value),
    }
}

/// JSON on several lines.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("values always serialize")
}

/// A node with its path.
fn node(path: &Path, value: &Value, session: &mut Session) -> Result<()> {
    if session.out.json() {
        let object = Object::default()
            .field("path", &path.to_string())
            .field("value", value);
        return session.out.object(object);
    }
    let path = session.out.paint().cyan(&path.to_string());
    session.out.line(format_args!("{path}\t{value}"))
}

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The path of an object or an array; without one the whole document
    #[arg(default_value = "")]
    path: String,
    /// Read as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Go on here: a step as it was listed
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
}

pub(super) fn keys(args: &KeysArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let view = tree.view(session, args.at, None)?;
    let path = path(&args.path, || Ok(view.clone()))?;
    let from = match &args.from {
        Some(step) => Path::parse(step)?.last().cloned(),
        None => None,
    };
    let page = view.keys(&path, from.as_ref(), args.limit)?;
    let step = |segment: Segment| Path::from(vec![segment]).to_string();
    for (segment, kind) in page.keys {
        let name = step(segment);
        if session.out.json() {
            let object = Object::default().field("step", &name).field("kind", kind);
            session.out.object(object)?;
        } else {
            session.out.line(format_args!("{name}\t{kind}"))?;
        }
    }
    if let Some(next) = page.next {
        let next = step(next);
        session
            .out
            .note(format!("there are more: --from \"{next}\""));
    }
    Ok(())
}

/// Arguments of `match`.
#[derive(Debug, Args)]
pub(crate) struct MatchArgs {
    /// The path or pattern
    path: String,
    /// The filter; without one everything passes
    #[arg(default_value = "{}")]
    filter: String,
    /// Read as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// Read in this scope
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
}

pub(super) fn matching(args: &MatchArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let filter = Filter::parse(&args.filter)?;
    let view = tree.view(session, args.at, args.scope.as_deref())?;
    let found = view.matching(args.path.as_str(), &filter)?;
    for (path, value) in &found {
        node(path, value, session)?;
    }
    let found = plural(found.len() as u64, "match", "matches");
    session
        .out
        .note(format!("{found} at commit {}", view.commit()));
    Ok(())
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The path; without one the whole document
    #[arg(default_value = "")]
    path: String,
    /// From this commit on
    #[arg(long, value_name = "COMMIT")]
    from: Option<u64>,
    /// Up to this commit
    #[arg(long, value_name = "COMMIT")]
    to: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

pub(super) fn history(args: &HistoryArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let reader = tree.reader(session)?;
    let read = reader.tree(tree.0)?;
    let path = path(&args.path, || Ok(read.view()?))?;
    let commits = Commit(args.from.unwrap_or(0))..=Commit(args.to.unwrap_or(u64::MAX));
    let history = read.history(&path, commits, args.limit)?;
    let manifest = reader.kv().manifest();
    for entry in &history.entries {
        let at = manifest.state.times.time_of(entry.commit);
        if session.out.json() {
            let object = Object::default()
                .field("commit", &entry.commit)
                .field("after", &entry.after)
                .field("by", &at.map(time))
                .field("old", &entry.old)
                .field("new", &entry.new)
                .field("changes", &entry.changes);
            session.out.object(object)?;
            continue;
        }
        let shown = |value: &Option<Value>| match value {
            Some(value) => short(&value.to_string()),
            None => "(nothing)".to_string(),
        };
        let commit = entry.commit.to_string();
        let by = at.map_or(String::new(), |at| format!("by {}", time(at)));
        let (old, new) = (shown(&entry.old), shown(&entry.new));
        session
            .out
            .line(format_args!("{commit:>10}  {by:<23}  {old} -> {new}"))?;
    }
    let many = plural(history.entries.len() as u64, "change", "changes");
    let since = history.complete_since;
    session.out.note(format!(
        "{many}; commit by commit after commit {since}, before it as far as history is kept"
    ));
    Ok(())
}

/// The start of a long value.
fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The commit before
    a: u64,
    /// The commit after
    b: u64,
    /// The path; without one the whole document
    #[arg(default_value = "")]
    path: String,
}

pub(super) fn diff(args: &DiffArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let read = session.reader()?.tree(tree.0)?;
    let path = path(&args.path, || Ok(read.at(Commit(args.b))?))?;
    let patch = read.diff(&path, Commit(args.a), Commit(args.b))?;
    session.out.line(json(&patch))?;
    let many = plural(patch.0.len() as u64, "operation", "operations");
    session
        .out
        .note(format!("{many} lead from commit {} to {}", args.a, args.b));
    Ok(())
}
