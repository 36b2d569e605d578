//! Results as text: one line of progress, the table, JSON lines.

use std::fmt::Write;

use serde::Serialize;

use crate::row::Row;

/// The heart of one run, for the progress output.
pub(crate) fn brief(rows: &[Row]) -> String {
    let parts: Vec<_> = rows
        .iter()
        .map(|row| {
            let (rate, p99) = (count(row.ops_per_s), micros(row.p99_us));
            format!("{rate} ops/s, p99 {p99}, longest {}", micros(row.max_us))
        })
        .collect();
    parts.join("; ")
}

/// All rows as JSON, one a line.
pub(crate) fn json_lines<R: Serialize>(rows: &[R]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        text.push_str(&serde_json::to_string(row).unwrap_or_default());
        text.push('\n');
        text
    })
}

const COLUMNS: [&str; 13] = [
    "engine", "ops/s", "p50", "p99", "p99.9", "longest", "cpu/op", "disk", "w-amp", "w-call",
    "rss", "anon", "to best",
];

/// All rows as a table, one block a workload.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut workloads: Vec<&str> = Vec::new();
    for row in rows {
        if !workloads.contains(&row.workload.as_str()) {
            workloads.push(&row.workload);
        }
    }
    for workload in workloads {
        let _ = writeln!(text, "\n{workload}");
        push_line(&mut text, COLUMNS.map(str::to_owned));
        for row in rows.iter().filter(|row| row.workload == workload) {
            push_line(&mut text, cells(row));
        }
        for row in rows.iter().filter(|row| row.workload == workload) {
            push_notes(&mut text, row);
        }
    }
    text
}

fn cells(row: &Row) -> [String; 13] {
    [
        row.engine.clone(),
        count(row.ops_per_s),
        micros(row.p50_us),
        micros(row.p99_us),
        micros(row.p999_us),
        micros(row.max_us),
        micros(row.cpu_us_per_op),
        mebibytes(row.disk_bytes),
        row.write_amp
            .map_or_else(String::new, |amp| format!("{amp:.2}")),
        row.write_call_amp
            .map_or_else(String::new, |amp| format!("{amp:.2}")),
        mebibytes(row.rss_bytes),
        mebibytes(row.rss_anon_bytes),
        row.ratio_to_best
            .map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
    ]
}

fn push_line(text: &mut String, cells: [String; 13]) {
    for (at, cell) in cells.iter().enumerate() {
        let _ = if at == 0 {
            write!(text, "  {cell:<10}")
        } else {
            write!(text, " {cell:>9}")
        };
    }
    text.push('\n');
}

fn push_notes(text: &mut String, row: &Row) {
    if let Some(live) = row.live_compressed_bytes {
        let part = |bytes: u64| bytes as f64 / live as f64;
        let _ = write!(
            text,
            "  {:<10} on disk {:.2}x of the live entries compressed ({})",
            row.engine,
            part(row.disk_bytes),
            mebibytes(live)
        );
        if let Some(compacted) = row.compacted_disk_bytes {
            let _ = write!(text, ", {:.2}x after a full compaction", part(compacted));
        }
        text.push('\n');
    }
    if let Some(log) = row.log_user_bytes {
        let rate = log as f64 / (row.p50_us / 1e6) / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "  {:<10} {} only in the log, {rate:.0} MiB/s",
            row.engine,
            mebibytes(log)
        );
    }
}

/// A count with a metric suffix, three significant digits.
pub(crate) fn count(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e5 => format!("{:.0}k", v / 1e3),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v >= 1e3 => format!("{:.2}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn micros(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2}s", us / 1e6),
        us if us >= 1e5 => format!("{:.0}ms", us / 1e3),
        us if us >= 1e3 => format!("{:.1}ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0}us"),
        us if us >= 10.0 => format!("{us:.1}us"),
        us => format!("{us:.2}us"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}MiB", bytes as f64 / f64::from(1 << 20))
}
