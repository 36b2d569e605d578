//! The demo's input: cities of GeoNames, packed into the command (`data/README.md`).

use crate::document::{self, KEY_FIELD, Record};
use crate::failure::{Failure, Result};
use flate2::read::GzDecoder;
use std::io::Read;

const PACKED: &[u8] = include_bytes!("../../../../data/cities.jsonl.gz");

/// The cities in key order; with `most`, that many of them from all over the world.
pub(crate) fn records(most: Option<usize>) -> Result<Vec<Record>> {
    let mut text = String::new();
    GzDecoder::new(PACKED)
        .read_to_string(&mut text)
        .map_err(|e| Failure::io("built-in cities", &e))?;
    let lines: Vec<&str> = text.lines().collect();
    let every = most.map_or(1, |most| lines.len().div_ceil(most.max(100)));
    let record = |line: &&str| document::from_line(line, KEY_FIELD).map_err(Failure::Other);
    lines.iter().step_by(every.max(1)).map(record).collect()
}

/// Three cities to follow through the demo.
pub(crate) fn samples(records: &[Record]) -> [Vec<u8>; 3] {
    let known = ["NO/Oslo", "JP/Tokyo", "KE/Nairobi"];
    let there = |key: &&str| records.iter().any(|(k, _)| k == key.as_bytes());
    if known.iter().all(there) {
        return known.map(|key| key.as_bytes().to_vec());
    }
    [1, 2, 3].map(|quarter| records[records.len() * quarter / 4].0.clone())
}

/// The population in a city's record.
pub(crate) fn population(value: &[u8]) -> u64 {
    let fields = document::cells(value).unwrap_or_default();
    let found = fields.iter().find(|(name, _)| name == "population");
    found.and_then(|(_, cell)| cell.parse().ok()).unwrap_or(0)
}

/// The record with another population.
pub(crate) fn with_population(value: &[u8], now: u64) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let old = format!("\"population\":{}", population(value));
    text.replacen(&old, &format!("\"population\":{now}"), 1)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cities_are_all_there_in_order() {
        let records = records(None).unwrap();
        assert_eq!(records.len(), 34_006);
        assert!(records.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(samples(&records)[0], b"NO/Oslo");
    }

    #[test]
    fn a_population_changes_and_nothing_else() {
        let value = br#"{"name":"Oslo","population":1082575,"timezone":"Europe/Oslo"}"#;
        assert_eq!(population(value), 1_082_575);
        let grown = with_population(value, 7);
        assert_eq!(
            grown,
            br#"{"name":"Oslo","population":7,"timezone":"Europe/Oslo"}"#
        );
    }
}
