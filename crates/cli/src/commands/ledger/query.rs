//! `query`: documents in the order of a field.

use super::{Opening, failed};
use crate::failure::Result;
use crate::object::{Object, json};
use crate::session::Session;
use clap::Args;
use serde_json::Value;
use siltstone::ledger::{IndexRow, Ledger, Query};
use std::ops::Bound;

/// Arguments of `query`.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// The ledger
    name: String,
    /// The field: names and positions with dots between, or _id
    field: String,
    /// Where it is this: JSON, or else text. May be given several times
    #[arg(long, value_name = "JSON", value_parser = parse_key)]
    key: Vec<Value>,
    /// From this value on
    #[arg(long, value_name = "JSON", value_parser = parse_key, allow_hyphen_values = true)]
    from: Option<Value>,
    /// Below this value
    #[arg(long, value_name = "JSON", value_parser = parse_key, allow_hyphen_values = true)]
    to: Option<Value>,
    /// Arrays that begin with the items of this one
    #[arg(long, value_name = "ARRAY", value_parser = parse_items)]
    prefix: Option<Items>,
    /// Largest value first
    #[arg(long)]
    reverse: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ids only
    #[arg(long)]
    ids: bool,
}

/// The items of an array.
#[derive(Debug, Clone)]
struct Items(Vec<Value>);

/// A value as JSON; what is no JSON is text, so that plain words need no quotes twice.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the parser of an argument may fail"
)]
fn parse_key(text: &str) -> Result<Value, String> {
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

fn parse_items(text: &str) -> Result<Items, String> {
    match serde_json::from_str(text) {
        Ok(Value::Array(items)) => Ok(Items(items)),
        _ => Err("it takes a JSON array, like [\"2024\", 5]".into()),
    }
}

pub(super) fn query(args: &QueryArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let wanted = Query {
        key: None,
        keys: (!args.key.is_empty()).then(|| args.key.clone()),
        range: (
            args.from.clone().map_or(Bound::Unbounded, Bound::Included),
            args.to.clone().map_or(Bound::Unbounded, Bound::Excluded),
        ),
        prefix: args.prefix.clone().map(|items| items.0),
        descending: args.reverse,
        limit: args.limit,
        include_docs: !args.ids,
    };
    let rows = opening.read_and_keep(&args.name, session, |ledger: &Ledger| {
        let index = ledger.index_by_field(&args.field).map_err(failed)?;
        let rows = index.query(&wanted).map_err(failed)?;
        index.flush();
        Ok(rows)
    })?;
    for row in &rows {
        match (args.ids, session.out.json()) {
            (true, false) => session.out.line(&row.id)?,
            _ => session.out.line(shown(row))?,
        }
    }
    Ok(())
}

fn shown(row: &IndexRow) -> String {
    match &row.document {
        Some(document) => json(&document.to_json_with_id(&row.id)),
        None => Object::default()
            .field("_id", &row.id)
            .field("key", &row.key)
            .finish(),
    }
}
