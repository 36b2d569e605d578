//! One line of results.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Shape;

/// What one workload measured on one database. Absent figures do not apply to the workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The workload; the two callers of `mixed_1w1r` have a line each.
    pub(crate) workload: String,
    /// The database.
    pub(crate) engine: String,
    /// Operations a second (entries a second in `scan_full`).
    pub(crate) ops_per_s: f64,
    /// Median latency.
    pub(crate) p50_us: f64,
    /// Latency that 99 % of operations stay below.
    pub(crate) p99_us: f64,
    /// Latency that 99.9 % of operations stay below.
    pub(crate) p999_us: f64,
    /// The longest operation: the longest stall.
    pub(crate) max_us: f64,
    /// Processor time of the whole process an operation.
    pub(crate) cpu_us_per_op: f64,
    /// Bytes allocated in the database folder at the end.
    pub(crate) disk_bytes: u64,
    /// Bytes sent to storage a byte of key and value written.
    pub(crate) write_amp: Option<f64>,
    /// Bytes passed to write calls a byte of key and value written.
    pub(crate) write_call_amp: Option<f64>,
    /// Most memory ever resident in the process.
    pub(crate) rss_bytes: u64,
    /// Most anonymous memory resident: without mapped files and page cache.
    pub(crate) rss_anon_bytes: u64,
    /// Against the best log-structured peer: 1 is equal, more is better.
    pub(crate) ratio_to_best: Option<f64>,
    /// p99 as a part of the best peer's: 1 is equal, less is better.
    pub(crate) p99_ratio_to_best: Option<f64>,
    /// Write amplification as a part of the best peer's: 1 is equal, less is better.
    pub(crate) write_amp_ratio_to_best: Option<f64>,
    /// Bytes on disk as a part of the best peer's: 1 is equal, less is better.
    pub(crate) disk_ratio_to_best: Option<f64>,
    /// Bytes of the live entries as LZ4 blocks of 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live_compressed_bytes: Option<u64>,
    /// Bytes on disk after a full compaction on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compacted_disk_bytes: Option<u64>,
    /// Bytes of keys and values that were only in the log when the writer was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_user_bytes: Option<u64>,
    /// Entries in the database.
    pub(crate) entries: u64,
    /// What they are like.
    #[serde(default)]
    pub(crate) shape: Shape,
    /// Memory that the database was given, in MiB.
    #[serde(default)]
    pub(crate) memory_mib: usize,
    /// Rounds this line is the median of, figure by figure.
    pub(crate) rounds: u64,
}

/// The median of each figure over `rows`, which must be of one workload and database; the lower
/// of the two middle ones if their number is even.
pub(crate) fn median(rows: &[Row]) -> Option<Row> {
    let maps: Vec<_> = rows
        .iter()
        .map(|row| serde_json::to_value(row).unwrap_or_default())
        .collect();
    let mut merged = maps.first()?.clone();
    for (name, value) in merged.as_object_mut()? {
        let mut numbers: Vec<&Value> = maps
            .iter()
            .map(|map| &map[name.as_str()])
            .filter(|value| value.is_number())
            .collect();
        numbers.sort_by(|a, b| {
            a.as_f64()
                .unwrap_or_default()
                .total_cmp(&b.as_f64().unwrap_or_default())
        });
        if let Some(middle) = numbers.get(numbers.len().saturating_sub(1) / 2) {
            *value = (*middle).clone();
        }
    }
    let mut row: Row = serde_json::from_value(merged).ok()?;
    row.rounds = rows.len() as u64;
    Some(row)
}

/// Fills in the ratios of all `rows`; `is_bar` says which databases set the bar.
pub(crate) fn fill_ratios(rows: &mut [Row], is_bar: impl Fn(&str) -> bool) {
    let peers: Vec<Row> = rows
        .iter()
        .filter(|row| is_bar(&row.engine))
        .cloned()
        .collect();
    for row in rows {
        let same = || peers.iter().filter(|peer| peer.workload == row.workload);
        let least =
            |figure: &dyn Fn(&Row) -> Option<f64>| same().filter_map(figure).reduce(f64::min);
        let best_rate = same().map(|peer| peer.ops_per_s).reduce(f64::max);
        row.ratio_to_best = ratio(Some(row.ops_per_s), best_rate);
        row.p99_ratio_to_best = ratio(Some(row.p99_us), least(&|peer| Some(peer.p99_us)));
        row.write_amp_ratio_to_best = ratio(row.write_amp, least(&|peer| peer.write_amp));
        row.disk_ratio_to_best = ratio(
            Some(row.disk_bytes as f64),
            least(&|peer| Some(peer.disk_bytes as f64)),
        );
    }
}

fn ratio(own: Option<f64>, best: Option<f64>) -> Option<f64> {
    match (own, best) {
        (Some(own), Some(best)) if best > 0.0 => Some(own / best),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(engine: &str, ops_per_s: f64, p99_us: f64) -> Row {
        Row {
            workload: "w".to_owned(),
            engine: engine.to_owned(),
            ops_per_s,
            p99_us,
            ..Row::default()
        }
    }

    #[test]
    fn median_is_taken_figure_by_figure() {
        let rounds = [row("a", 1.0, 9.0), row("a", 3.0, 7.0), row("a", 2.0, 8.0)];
        let median = median(&rounds).unwrap();
        assert_eq!(
            (median.ops_per_s, median.p99_us, median.rounds),
            (2.0, 8.0, 3)
        );
        assert_eq!(median.write_amp, None);
    }

    #[test]
    fn ratios_are_against_the_best_engine_that_sets_the_bar() {
        let mut rows = [
            row("bar", 10.0, 4.0),
            row("slow", 5.0, 2.0),
            row("own", 20.0, 1.0),
        ];
        fill_ratios(&mut rows, |engine| engine != "own");
        assert_eq!(rows[2].ratio_to_best, Some(2.0));
        assert_eq!(rows[2].p99_ratio_to_best, Some(0.5));
        assert_eq!(rows[1].ratio_to_best, Some(0.5));
    }
}
