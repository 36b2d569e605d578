//! `siltstone tree scope`: named copy-on-write overlays.

use super::Name;
use crate::failure::Result;
use crate::object::{Object, json};
use crate::session::Session;
use crate::units::plural;
use clap::Subcommand;

/// What to do with scopes. Reads and writes in one take `--scope`.
#[derive(Debug, Subcommand)]
pub(crate) enum ScopeCommand {
    /// List them
    List,
    /// Create one, empty: everything falls through to the base
    Create {
        /// Its name
        name: String,
    },
    /// Show how one differs from the base, as an RFC 6902 JSON Patch
    Diff {
        /// Its name
        name: String,
    },
    /// Bring what one wrote into the base, in one commit; or say where the base has changed too
    Merge {
        /// Its name
        name: String,
    },
    /// Delete one with everything that was written in it
    Delete {
        /// Its name
        name: String,
    },
}

pub(super) fn run(command: &ScopeCommand, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    match command {
        ScopeCommand::List => {
            for scope in session.reader()?.tree(tree.0)?.scopes()? {
                if session.out.json() {
                    session.out.object(Object::default().fields(&scope))?;
                } else {
                    let line = format!("{:<20}  made at commit {}", scope.name, scope.created);
                    session.out.line(line)?;
                }
            }
            Ok(())
        }
        ScopeCommand::Create { name } => {
            tree.write(session, |tree| Ok(tree.create_scope(name).map(drop)?))?;
            let object = || Object::default().field("created", name);
            session.out.done(format!("scope {name:?} created"), object)
        }
        ScopeCommand::Diff { name } => {
            let read = session.reader()?.tree(tree.0)?;
            let patch = read.view()?.diff(&read.scope(name, None)?, "")?;
            session.out.line(json(&patch))?;
            let many = plural(patch.0.len() as u64, "operation", "operations");
            session
                .out
                .note(format!("{many} lead from the base to scope {name:?}"));
            Ok(())
        }
        ScopeCommand::Merge { name } => {
            let commit = tree.write(session, |tree| Ok(tree.scope(name)?.merge()?))?;
            let note = format!("scope {name:?} merged by commit {commit}");
            session.out.done(note, || {
                Object::default()
                    .field("merged", name)
                    .field("commit", &commit)
            })
        }
        ScopeCommand::Delete { name } => {
            tree.write(session, |tree| Ok(tree.delete_scope(name).map(drop)?))?;
            let note = format!("scope {name:?} deleted; the base is as it was");
            session
                .out
                .done(note, || Object::default().field("deleted", name))
        }
    }
}
