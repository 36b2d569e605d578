//! The pictures of the page that are drawn from the rows of its tables.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::{growth as sizes, ledger as ledgers, svg};

/// Rates of key-values, side by side.
pub(super) fn bars(rows: &[Value]) -> Result<String> {
    Ok(svg::bars(&typed(rows)?))
}

/// Curves of ledgers.
pub(super) fn ledger(rows: &[Value]) -> Result<String> {
    ledgers::draw(&typed(rows)?)
}

/// Curves of key-values.
pub(super) fn growth(rows: &[Value]) -> Result<String> {
    sizes::draw(&typed(rows)?)
}

fn typed<Row: DeserializeOwned>(rows: &[Value]) -> Result<Vec<Row>> {
    let row = |row: &Value| {
        Row::deserialize(row)
            .map_err(|error| Error::Usage(format!("{row} cannot be drawn: {error}")))
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_row_is_told() {
        let error = bars(&[serde_json::json!({"workload": "get_1"})]);
        let error = error.expect_err("it has no figures").to_string();
        assert!(
            error.contains("get_1") && error.contains("missing field"),
            "{error}"
        );
    }
}
