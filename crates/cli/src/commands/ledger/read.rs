//! `get`, `all`, `changes`, `history`, `conflicts`, `clock`.

use super::{Opening, clock_text, failed, parse_clock};
use crate::failure::Result;
use crate::object::{Object, json};
use crate::session::Session;
use crate::units::time;
use clap::Args;
use siltstone::Timestamp;
use siltstone::ledger::{AllDocs, Clock, Document, Ledger, Since, Version};
use std::ops::Bound;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The ledger
    name: String,
    /// The document's id
    id: String,
    /// As of this clock
    #[arg(long, value_name = "CLOCK", value_parser = parse_clock)]
    at: Option<Clock>,
}

/// Arguments of `all`.
#[derive(Debug, Args)]
pub(super) struct AllArgs {
    /// The ledger
    name: String,
    /// Ids that start with this
    #[arg(long)]
    prefix: Option<String>,
    /// Ids from this one on
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// Ids before this one
    #[arg(long, value_name = "ID")]
    to: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on after this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Largest id first
    #[arg(long)]
    reverse: bool,
    /// Deleted ones too, marked
    #[arg(long)]
    deleted: bool,
    /// Ids only
    #[arg(long)]
    ids: bool,
}

/// Arguments of `changes`.
#[derive(Debug, Args)]
pub(super) struct ChangesArgs {
    /// The ledger
    name: String,
    /// After this clock [default: from the beginning]
    #[arg(long, value_name = "CLOCK", value_parser = parse_clock)]
    since: Option<Clock>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The ledger
    name: String,
    /// The document's id
    id: String,
    /// At most so many versions
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

pub(super) fn get(args: &GetArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let document = opening.read(&args.name, session, |ledger| {
        match &args.at {
            Some(clock) => ledger.get_at(clock, &args.id),
            None => ledger.get(&args.id),
        }
        .map_err(failed)
    })?;
    session.out.line(json(&document.to_json_with_id(&args.id)))
}

pub(super) fn all(args: &AllArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let wanted = AllDocs {
        prefix: args.prefix.clone(),
        start: args.from.clone().map_or(Bound::Unbounded, Bound::Included),
        end: args.to.clone().map_or(Bound::Unbounded, Bound::Excluded),
        limit: args.limit,
        after: args.after.clone(),
        descending: args.reverse,
        include_deleted: args.deleted,
        include_docs: !args.ids,
    };
    let list = |ledger: &Ledger| ledger.all_docs(&wanted).map_err(failed);
    let page = opening.read(&args.name, session, list)?;
    for row in &page.rows {
        if args.ids && !session.out.json() {
            session.out.line(&row.id)?;
        } else {
            session
                .out
                .line(one(&row.id, row.document.as_ref(), row.deleted))?;
        }
    }
    if let Some(next) = &page.next {
        session
            .out
            .note(format_args!("there are more: go on with --after {next:?}"));
    }
    Ok(())
}

/// A document on a line, or its mark.
fn one(id: &str, document: Option<&Document>, deleted: bool) -> String {
    match document {
        Some(document) => json(&document.to_json_with_id(id)),
        None if deleted => Object::default()
            .field("_id", id)
            .field("_deleted", &true)
            .finish(),
        None => Object::default().field("_id", id).finish(),
    }
}

pub(super) fn changes(args: &ChangesArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let since = Since::from(args.since.clone().unwrap_or_else(Clock::start));
    let read = |ledger: &Ledger| ledger.changes(since, args.limit).map_err(failed);
    let changes = opening.read(&args.name, session, read)?;
    for row in &changes.rows {
        session
            .out
            .line(one(&row.id, row.document.as_ref(), row.deleted))?;
    }
    let clock = clock_text(&changes.next.clock);
    session.out.note(format_args!("go on with --since {clock}"));
    Ok(())
}

pub(super) fn history(args: &HistoryArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let read = |ledger: &Ledger| ledger.history(&args.id, args.limit).map_err(failed);
    let history = opening.read(&args.name, session, read)?;
    for version in &history.versions {
        version_line(version, session)?;
    }
    if history.truncated {
        session.out.note("there are more versions: raise --limit");
    }
    Ok(())
}

fn version_line(version: &Version, session: &mut Session) -> Result<()> {
    let by = version.author.as_deref().map(crate::object::hex);
    let document = version.document.as_ref().map(Document::to_json);
    if session.out.json() {
        let object = Object::default()
            .field("change", &version.change.to_string())
            .field("lamport", &version.lamport)
            .field("time_ms", &version.time)
            .field("author", &by)
            .field("current", &version.current)
            .field("document", &document);
        return session.out.object(object);
    }
    let at = time(Timestamp(version.time * 1000));
    let mark = if version.current { "*" } else { " " };
    let shown = document.map_or_else(|| "deleted".into(), |document| json(&document));
    let lamport = session.out.paint().dim(&format!("{:>6}", version.lamport));
    session
        .out
        .line(format_args!("{mark}{lamport}  {at}  {shown}"))
}

pub(super) fn conflicts(name: &str, opening: &Opening, session: &mut Session) -> Result<()> {
    let conflicts = opening.read(name, session, |ledger| ledger.conflicts().map_err(failed))?;
    for conflict in &conflicts {
        if session.out.json() {
            let shown = |version: &Version| version.document.as_ref().map(Document::to_json);
            let lost: Vec<_> = conflict.losers.iter().map(shown).collect();
            let object = Object::default()
                .field("id", &conflict.id)
                .field("kept", &shown(&conflict.winner))
                .field("lost", &lost);
            session.out.object(object)?;
            continue;
        }
        session.out.line(&conflict.id)?;
        version_line(&conflict.winner, session)?;
        for loser in &conflict.losers {
            version_line(loser, session)?;
        }
    }
    if conflicts.is_empty() {
        session.out.note("no conflicts");
    }
    Ok(())
}

pub(super) fn clock(name: &str, opening: &Opening, session: &mut Session) -> Result<()> {
    let clock = opening.read(name, session, |ledger| Ok(ledger.clock()))?;
    let text = clock_text(&clock);
    if session.out.json() {
        return session.out.object(Object::default().field("clock", &text));
    }
    session.out.line(text)
}
