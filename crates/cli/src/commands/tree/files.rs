//! `siltstone tree import` and `export`: a document from a JSON file, and to one.

use super::read::pretty;
use super::{Name, contents, path};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::bytes;
use clap::Args;
use siltstone::Value;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The JSON file; - is stdin
    file: String,
    /// Set this node; without one the whole document is set
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
}

pub(super) fn import(args: &ImportArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let text = contents(&args.file)?;
    let value: Value = text
        .parse()
        .map_err(|error| Failure::Other(format!("{}: is not JSON: {error}", args.file)))?;
    let (db, open) = tree.make(session)?;
    let path = path(&args.path, || Ok(open.view()?))?;
    let commit = open.set(&path, value)?;
    drop(open);
    db.close()?;
    let size = text.len() as u64;
    let note = format!("{} of JSON in commit {commit}", bytes(size));
    session.out.done(note, || {
        Object::default()
            .field("bytes", &size)
            .field("commit", &commit)
    })
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write; without one stdout
    file: Option<String>,
    /// The document as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// Only this node
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    /// As this scope sees it
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
}

pub(super) fn export(args: &ExportArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let view = tree.view(session, args.at, args.scope.as_deref())?;
    let path = path(&args.path, || Ok(view.clone()))?;
    let text = pretty(&view.get(&path)?) + "\n";
    match args.file.as_deref() {
        None | Some("-") => session.out.bytes(text.as_bytes())?,
        Some(file) => {
            std::fs::write(file, &text).map_err(|error| Failure::io(file, &error))?;
        }
    }
    let size = bytes(text.len() as u64);
    session
        .out
        .note(format!("{size} of JSON, as of commit {}", view.commit()));
    Ok(())
}
