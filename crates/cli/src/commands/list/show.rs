//! `show` and `history`: beside a process that writes, too.

use crate::failure::Result;
use crate::object::{Object, json};
use crate::session::Session;
use crate::units::{parse_time, time};
use clap::Args;
use siltstone::Timestamp;
use siltstone::list::{Chars, Content, Frontier, Sequence, TransactionInfo, Values};
use siltstone::lists::{self, ListKind};

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The list or text
    name: String,
    /// After this many transactions, as `history` numbers them
    #[arg(long, value_name = "N", conflicts_with = "at_time")]
    at: Option<usize>,
    /// With what was written until then, like 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at_time: Option<Timestamp>,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The list or text
    name: String,
    /// Only the newest
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

impl ShowArgs {
    fn version<C: Content>(&self, sequence: &Sequence<C>) -> Frontier {
        match (self.at, self.at_time) {
            (Some(count), _) => sequence.frontier_after(count),
            (None, Some(until)) => sequence.frontier_at_time(until.0 / 1000),
            (None, None) => sequence.frontier(),
        }
    }
}

pub(super) fn show(args: &ShowArgs, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    match lists::kind(&reader, &args.name)? {
        ListKind::Text => {
            let text = lists::read::<Chars>(&reader, &args.name)?;
            let shown = text
                .at(&args.version(&text))
                .map_err(siltstone::Error::from)?
                .text();
            if session.out.json() {
                return session.out.object(Object::default().field("text", &shown));
            }
            session.out.bytes(shown.as_bytes())
        }
        ListKind::List => {
            let list = lists::read::<Values>(&reader, &args.name)?;
            let shown = list
                .at(&args.version(&list))
                .map_err(siltstone::Error::from)?
                .to_vec();
            if session.out.json() {
                return session
                    .out
                    .object(Object::default().field("values", &shown));
            }
            for (position, value) in shown.iter().enumerate() {
                let position = session.out.paint().dim(&format!("{position:>6}"));
                session
                    .out
                    .line(format_args!("{position}  {}", json(value)))?;
            }
            Ok(())
        }
    }
}

pub(super) fn history(args: &HistoryArgs, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    let history = match lists::kind(&reader, &args.name)? {
        ListKind::Text => lists::read::<Chars>(&reader, &args.name)?.history(),
        ListKind::List => lists::read::<Values>(&reader, &args.name)?.history(),
    };
    let skip = args
        .last
        .map_or(0, |last| history.len().saturating_sub(last));
    for (at, info) in history.iter().enumerate().skip(skip) {
        line(at + 1, info, session)?;
    }
    Ok(())
}

fn line(number: usize, info: &TransactionInfo, session: &mut Session) -> Result<()> {
    if session.out.json() {
        let object = Object::default()
            .field("number", &number)
            .field("session", &info.session.to_string())
            .field("author", info.session.author())
            .field("transaction", &info.tx)
            .field("time_ms", &info.time)
            .field("inserted", &info.inserted)
            .field("deleted", &info.deleted)
            .field("set", &info.set)
            .field("moved", &info.moved);
        return session.out.object(object);
    }
    let counts = [
        ("+", info.inserted),
        ("-", info.deleted),
        ("set ", info.set),
        ("moved ", info.moved),
    ];
    let done = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(sign, count)| format!("{sign}{count}"));
    let at = time(Timestamp(info.time.saturating_mul(1000)));
    let done = done.collect::<Vec<_>>().join(" ");
    let number = session.out.paint().bold(&format!("{number:>6}"));
    session.out.line(format_args!(
        "{number}  {at}  {:<16}  {done}",
        info.session.author()
    ))
}
