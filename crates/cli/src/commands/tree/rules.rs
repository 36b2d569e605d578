//! `siltstone tree schema` and `keyed`: what is declared about a document.

use super::{Name, contents};
use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use clap::{Args, Subcommand};

/// What to do with schemas.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Attach one: what breaks it is refused from now on
    Set {
        /// The path or pattern of what it governs
        path: String,
        /// The file with the JSON Schema; - is stdin
        file: String,
    },
    /// Show what is attached
    List,
    /// Take one away
    Remove {
        /// The path or pattern it is attached to
        path: String,
    },
}

pub(super) fn schema(
    command: &SchemaCommand,
    tree: &Name<'_>,
    session: &mut Session,
) -> Result<()> {
    match command {
        SchemaCommand::Set { path, file } => {
            let schema = contents(file)?;
            let (db, open) = tree.make(session)?;
            let commit = open.set_schema(path.as_str(), &schema)?;
            drop(open);
            db.close()?;
            let note = format!("the schema governs {path:?} from commit {commit} on");
            session.out.done(note, || {
                Object::default()
                    .field("schema", path)
                    .field("commit", &commit)
            })
        }
        SchemaCommand::List => {
            let schemas = tree.write(session, |tree| Ok(tree.schemas()))?;
            for (path, schema) in schemas {
                let path = path.to_string();
                if session.out.json() {
                    let object = Object::default()
                        .field("path", &path)
                        .value(Some(schema.as_bytes()));
                    session.out.object(object)?;
                } else {
                    let schema = schema.split_whitespace().collect::<Vec<_>>().join(" ");
                    session.out.line(format_args!("{path}\t{schema}"))?;
                }
            }
            Ok(())
        }
        SchemaCommand::Remove { path } => {
            let commit = tree.write(session, |tree| Ok(tree.remove_schema(path.as_str())?))?;
            let note = format!("nothing governs {path:?} from commit {commit} on");
            session.out.done(note, || {
                Object::default()
                    .field("removed", path)
                    .field("commit", &commit)
            })
        }
    }
}

/// Arguments of `keyed`.
#[derive(Debug, Args)]
pub(crate) struct KeyedArgs {
    /// The path or pattern of the arrays; without one, lists what is declared
    path: Option<String>,
    /// The field that holds an element's key; elements without one get one that sorts by commit
    #[arg(long, value_name = "FIELD", default_value = "id")]
    by: String,
}

pub(super) fn keyed(args: &KeyedArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let Some(path) = &args.path else {
        for (path, field) in tree.write(session, |tree| Ok(tree.keyed()))? {
            let path = path.to_string();
            if session.out.json() {
                session
                    .out
                    .object(Object::default().field("path", &path).field("by", &field))?;
            } else {
                session.out.line(format_args!("{path}\t{field}"))?;
            }
        }
        return Ok(());
    };
    let (db, open) = tree.make(session)?;
    let commit = open.declare_keyed(path.as_str(), &args.by)?;
    drop(open);
    db.close()?;
    let note = format!("arrays at {path:?} are keyed by {:?}", args.by);
    session.out.done(note, || {
        Object::default()
            .field("keyed", path)
            .field("by", &args.by)
            .field("commit", &commit)
    })
}
