//! `file`: bytes that documents link to, streamed in and out.

use super::{Opening, failed};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{self, Unit};
use crate::session::Session;
use crate::units::{bytes, plural};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use siltstone::ledger::{AllDocs, Document, Error, FileReader, FileRef, Ledger};
use std::fs::File;
use std::io::{Read, Write};

/// Documents that are looked through at once.
const PAGE: usize = 1_000;
/// Bytes that are read at once: a block of a file.
const PIECE: usize = siltstone::ledger::FILE_BLOCK_BYTES;

/// What to do with files.
#[derive(Debug, Subcommand)]
pub(super) enum FileCommand {
    /// Store a file, and link a document to it. Creates document and ledger when there are none
    Put(LinkArgs),
    /// Write out the file that a document links to
    Get(LinkArgs),
    /// Show the files that documents link to
    List(ListArgs),
}

/// Arguments of `put` and `get`.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// The ledger
    name: String,
    /// The document
    id: String,
    /// The file; - is stdin or stdout
    file: String,
    /// The field of the document that holds the link
    #[arg(long, value_name = "NAME", default_value = "file")]
    field: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The ledger
    name: String,
    /// Of documents whose ids start with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

pub(super) fn run(command: &FileCommand, opening: &Opening, session: &mut Session) -> Result<()> {
    match command {
        FileCommand::Put(args) => put(args, opening, session),
        FileCommand::Get(args) => get(args, opening, session),
        FileCommand::List(args) => list(args, opening, session),
    }
}

fn put(args: &LinkArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let at_file = |error: &std::io::Error| Failure::io(&args.file, error);
    // Before there is a ledger for it.
    let (from, size): (Box<dyn Read>, u64) = match args.file.as_str() {
        "-" => (Box::new(std::io::stdin().lock()), 0),
        path => {
            let file = File::open(path).map_err(|error| at_file(&error))?;
            let about = file.metadata().map_err(|error| at_file(&error))?;
            if about.is_dir() {
                return Err(Failure::Usage(format!("{path}: it is a folder")));
            }
            (Box::new(file), about.len())
        }
    };
    let bar = progress::bar(session, "put", size, Unit::Bytes);
    let mut from = bar.wrap_read(from);
    let (file, size, written) = opening.make(&args.name, session, |ledger| {
        let mut fields = fields_of(ledger, &args.id)?;
        let file = ledger.put_file(&mut from);
        let file = file.map_err(|error| failed(error).at(&args.file))?;
        fields.insert(args.field.clone(), file.link());
        let document = Document::from_json(&Value::Object(fields)).map_err(failed)?;
        let written = ledger.put(&args.id, &document).map_err(failed)?;
        let size = ledger.file_size(&file).map_err(failed)?;
        Ok((file, size.unwrap_or_default(), written))
    })?;
    bar.finish_and_clear();
    let note = format!("{} in {} of {}", bytes(size), args.field, written.id);
    session.out.done(note, || {
        Object::default()
            .field("id", &written.id)
            .field("field", &args.field)
            .field("file", &file.cid.to_string())
            .field("bytes", &size)
            .field("clock", &written.event.to_string())
    })
}

/// What a document holds; nothing when there is none.
fn fields_of(ledger: &Ledger, id: &str) -> Result<Map<String, Value>> {
    let found = match id {
        // A new one.
        "" => return Ok(Map::new()),
        id => ledger.get(id),
    };
    match found.map(|document| document.to_json()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(Error::NotFound { .. }) => Ok(Map::new()),
        Err(error) => Err(failed(error)),
    }
}

fn get(args: &LinkArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let bar = progress::bar(session, "get", 0, Unit::Bytes);
    let size = opening.read(&args.name, session, |ledger| {
        let mut file = open(ledger, args)?;
        bar.set_length(file.size());
        match args.file.as_str() {
            "-" => copy(
                &mut file,
                &mut bar.wrap_write(std::io::stdout().lock()),
                "stdout",
            )?,
            path => {
                // Whole or not at all: what was there before stays until then.
                let part = format!("{path}.part");
                let done = write_file(&mut file, &part, &bar)
                    .and_then(|()| std::fs::rename(&part, path).map_err(|e| Failure::io(path, &e)));
                if done.is_err() {
                    let _ = std::fs::remove_file(&part);
                }
                done?;
            }
        }
        Ok(file.size())
    })?;
    bar.finish_and_clear();
    session.out.note(format_args!("{} written", bytes(size)));
    Ok(())
}

fn open(ledger: &Ledger, args: &LinkArgs) -> Result<FileReader> {
    let document = ledger.get(&args.id).map_err(failed)?;
    let link = document.field(&[&args.field]);
    let file = link.as_ref().and_then(FileRef::from_link);
    let absent = || {
        let (id, field) = (&args.id, &args.field);
        Failure::Absent(format!("{id:?} links to no file in its field {field:?}"))
    };
    let file = file.ok_or_else(absent)?;
    ledger
        .file_size(&file)
        .map_err(failed)?
        .ok_or_else(absent)?;
    ledger.open_file(&file).map_err(failed)
}

fn write_file(from: &mut FileReader, path: &str, bar: &indicatif::ProgressBar) -> Result<()> {
    let file = File::create(path).map_err(|error| Failure::io(path, &error))?;
    copy(from, &mut bar.wrap_write(file), path)
}

fn copy(from: &mut FileReader, to: &mut dyn Write, place: &str) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).map_err(|error| {
            let ledgers = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<Error>());
            match ledgers {
                Some(error) => failed(error.clone()),
                None => Failure::Other(error.to_string()),
            }
        })?;
        if count == 0 {
            break;
        }
        let written = to.write_all(&piece[..count]);
        written.map_err(|error| Failure::io(place, &error))?;
    }
    to.flush().map_err(|error| Failure::io(place, &error))
}

/// A file that a document links to.
struct Linked {
    id: String,
    field: String,
    file: FileRef,
    /// `None`: it is not here.
    size: Option<u64>,
}

fn list(args: &ListArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let mut found = Vec::new();
    opening.read(&args.name, session, |ledger| {
        let mut wanted = AllDocs {
            prefix: args.prefix.clone(),
            limit: Some(PAGE),
            ..AllDocs::default()
        };
        loop {
            let page = ledger.all_docs(&wanted).map_err(failed)?;
            for row in page.rows {
                let mut links = Vec::new();
                if let Some(document) = &row.document {
                    links_of(&document.to_json(), "", &mut links);
                }
                for (field, file) in links {
                    let size = match ledger.file_size(&file) {
                        Ok(Some(size)) => Some(size),
                        // A link to something else.
                        Ok(None) => continue,
                        Err(Error::MissingBlock { .. }) => None,
                        Err(error) => return Err(failed(error)),
                    };
                    let id = row.id.clone();
                    found.push(Linked {
                        id,
                        field,
                        file,
                        size,
                    });
                }
            }
            match page.next {
                Some(next) => wanted.after = Some(next),
                None => return Ok(()),
            }
        }
    })?;
    for linked in &found {
        let cid = linked.file.cid.to_string();
        if session.out.json() {
            session.out.object(
                Object::default()
                    .field("id", &linked.id)
                    .field("field", &linked.field)
                    .field("file", &cid)
                    .field("bytes", &linked.size),
            )?;
            continue;
        }
        let size = linked.size.map_or("not here".to_string(), bytes);
        session
            .out
            .line(format_args!("{}  {}  {size}", linked.id, linked.field))?;
    }
    let all: u64 = found.iter().filter_map(|linked| linked.size).sum();
    let files = plural(found.len() as u64, "file", "files");
    session.out.note(format_args!("{files}, {}", bytes(all)));
    Ok(())
}

/// The links in a value, each with its path.
fn links_of(value: &Value, path: &str, into: &mut Vec<(String, FileRef)>) {
    if let Some(file) = FileRef::from_link(value) {
        into.push((path.to_string(), file));
        return;
    }
    let below = |name: &str| match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                links_of(value, &below(name), into);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                links_of(value, &format!("{path}[{at}]"), into);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_are_found_at_any_depth_with_their_paths() {
        let cid = Document::from_json(&json!({"n": 1}))
            .expect("a document")
            .block()
            .cid;
        let link = json!({"/": cid.to_string()});
        let value = json!({"a": link, "b": [1, {"c": link}], "d": {"/": "no address"}});
        let mut found = Vec::new();
        links_of(&value, "", &mut found);
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a", "b[1].c"]);
        assert!(found.iter().all(|(_, file)| file.cid == cid));
    }
}
