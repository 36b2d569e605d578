//! `put` and `delete`.

use super::{Opening, failed};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress;
use crate::session::Session;
use clap::Args;
use serde_json::Value;
use siltstone::ledger::{BulkWrite, Document, Ledger, Written};
use std::io::{BufRead, Write};

/// Documents of stdin that one event takes.
const BULK: usize = 1_000;

/// Arguments of `put`.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The ledger
    name: String,
    /// The document's id; empty for a new one
    #[arg(requires = "document")]
    id: Option<String>,
    /// The document: a JSON object
    document: Option<String>,
    /// Documents of stdin that are one commit, all or none
    #[arg(long, value_name = "N", default_value_t = BULK, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    bulk: usize,
    /// Print the id of each document of stdin as its write becomes durable
    #[arg(long)]
    ack: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The ledger
    name: String,
    /// The document's id
    id: String,
}

pub(super) fn put(args: &PutArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    match (&args.id, &args.document) {
        (Some(id), Some(document)) => {
            let document = parse(document)?;
            let document = Document::from_json(&document).map_err(failed)?;
            let put = |ledger: &Ledger| ledger.put(id, &document).map_err(failed);
            let written = opening.make(&args.name, session, put)?;
            said(&written, session)
        }
        _ => put_lines(args, opening, session),
    }
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Failure::Usage(format!("the document is not JSON: {error}")))
}

fn put_lines(args: &PutArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let bar = progress::bar(session, "put", 0, progress::Unit::Items);
    let mut put = 0;
    let acknowledge = |written: Vec<Written>| -> Result<()> {
        if args.ack {
            // Not through a buffer: whoever counts may kill this process at any moment.
            let mut out = std::io::stdout().lock();
            for written in written {
                let said = writeln!(out, "{}", written.id).and_then(|()| out.flush());
                said.map_err(|error| Failure::io("stdout", &error))?;
            }
        }
        Ok(())
    };
    opening.make(&args.name, session, |ledger| {
        let mut bulk = Vec::new();
        for (number, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| Failure::io("stdin", &error))?;
            if line.trim().is_empty() {
                continue;
            }
            let at = |failure: Failure| failure.at(format!("line {}", number + 1));
            let value = parse(&line).map_err(at)?;
            let id = Document::id_of(&value).map_err(|error| at(failed(error)))?;
            let document = Document::from_json(&value).map_err(|error| at(failed(error)))?;
            bulk.push(BulkWrite::Put(id.unwrap_or_default().to_owned(), document));
            if bulk.len() == args.bulk {
                put += bulk.len();
                let written = ledger.bulk(std::mem::take(&mut bulk));
                acknowledge(written.map_err(failed)?)?;
                bar.set_position(put as u64);
            }
        }
        if !bulk.is_empty() {
            put += bulk.len();
            acknowledge(ledger.bulk(bulk).map_err(failed)?)?;
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    session.out.done(format!("{put} documents put"), || {
        Object::default().field("put", &put)
    })
}

pub(super) fn delete(args: &DeleteArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let delete = |ledger: &Ledger| ledger.delete(&args.id).map_err(failed);
    let written = opening.with(&args.name, session, delete)?;
    said(&written, session)
}

/// The id, and the clock right after the write.
fn said(written: &Written, session: &mut Session) -> Result<()> {
    if session.out.json() {
        let object = Object::default().field("id", &written.id);
        return session
            .out
            .object(object.field("clock", &written.event.to_string()));
    }
    session.out.line(&written.id)?;
    session.out.note(format_args!("clock {}", written.event));
    Ok(())
}
