//! Results as tables of a page.

use std::fmt::Write;

use serde_json::Value;

use crate::report;

fn number(row: &Value, name: &str) -> Option<f64> {
    row.get(name)?.as_f64()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A figure as `show` shows it; nothing where there is none.
fn cell(row: &Value, name: &str, show: impl Fn(f64) -> String) -> String {
    number(row, name).map_or_else(String::new, show)
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1048576.0)
}

/// Thousands, as sizes of stored lists are told.
fn kilobytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{:.2} MB", bytes / 1e6),
        bytes => format!("{:.1} kB", bytes / 1e3),
    }
}

fn micros(us: f64) -> String {
    match us {
        us if us >= 10_000.0 => format!("{:.0} ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0} us"),
        us => format!("{us:.1} us"),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 0.01 => format!("{ratio:.4}x"),
        ratio => format!("{ratio:.2}x"),
    }
}

/// A figure and its unit; a rate needs no space between.
fn with_unit(value: f64, unit: &str) -> String {
    let space = if unit.starts_with('/') { "" } else { " " };
    format!("{}{space}{unit}", report::count(value))
}

/// Rows of Siltstone stand out.
fn emphasized(row: &Value, shown: String) -> String {
    match text(row, "engine") == "siltstone" && !shown.is_empty() {
        true => format!("**{shown}**"),
        false => shown,
    }
}

/// A table: its columns, then a line for each row.
fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = format!(
        "| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

pub(super) fn kv(rows: &[Value]) -> String {
    let columns = [
        "workload",
        "engine",
        "rate",
        "p50",
        "p99",
        "longest",
        "on disk",
        "write amplification",
        "memory",
        "to the best peer",
    ];
    table(
        &columns,
        rows.iter().map(|row| {
            vec![
                text(row, "workload").to_owned(),
                text(row, "engine").to_owned(),
                cell(row, "ops_per_s", |rate| {
                    format!("{}/s", report::count(rate))
                }),
                cell(row, "p50_us", micros),
                cell(row, "p99_us", micros),
                cell(row, "max_us", micros),
                cell(row, "disk_bytes", mebibytes),
                cell(row, "write_amp", |amp| format!("{amp:.2}")),
                cell(row, "rss_bytes", mebibytes),
                emphasized(row, cell(row, "ratio_to_best", times)),
            ]
        }),
    )
}

pub(super) fn list(rows: &[Value]) -> String {
    let figure = |row: &Value| {
        let heap = cell(row, "heap_bytes", kilobytes);
        let bytes = format!("{heap}{}", cell(row, "encoded_bytes", kilobytes));
        match bytes.is_empty() {
            true => cell(row, "cpu_ms_min", |ms| format!("{ms:.2} ms")),
            false => bytes,
        }
    };
    table(
        &[
            "workload",
            "input",
            "size",
            "library",
            "figure",
            "to the best",
        ],
        rows.iter().map(|row| {
            vec![
                text(row, "workload").to_owned(),
                text(row, "input").to_owned(),
                cell(row, "size", report::count),
                text(row, "engine").to_owned(),
                figure(row),
                emphasized(row, cell(row, "ratio_to_least", times)),
            ]
        }),
    )
}

pub(super) fn figures(rows: &[Value]) -> String {
    let goal = |row: &Value| {
        let goal = row.get("goal");
        let of = |name| goal.and_then(|goal| number(goal, name));
        [
            of("at_least").map(|least| format!("at least {}", report::count(least))),
            of("at_most").map(|most| format!("at most {}", report::count(most))),
            of("times_peer").map(|ratio| format!("at least {ratio}x")),
            of("part_of_peer").map(|ratio| format!("at most {ratio}x")),
        ]
        .into_iter()
        .flatten()
        .collect()
    };
    table(
        &["figure", "engine", "", "p99", "to the peer", "wanted"],
        rows.iter().map(|row| {
            let unit = text(row, "unit");
            vec![
                text(row, "figure").to_owned(),
                text(row, "engine").to_owned(),
                cell(row, "value", |value| with_unit(value, unit)),
                cell(row, "p99_us", micros),
                emphasized(row, cell(row, "ratio_to_peer", times)),
                goal(row),
            ]
        }),
    )
}

/// As [`figures`], where a figure's name says nothing without its workload's.
pub(super) fn figures_by_workload(rows: &[Value]) -> String {
    let named = rows.iter().map(|row| {
        let figure = format!("{}: {}", text(row, "workload"), text(row, "figure"));
        let mut row = row.clone();
        row["figure"] = figure.into();
        row
    });
    figures(&named.collect::<Vec<_>>())
}

pub(super) fn growth(rows: &[Value]) -> String {
    let columns = [
        "entries",
        "put",
        "get",
        "scan, an entry",
        "open",
        "compact, an entry",
        "on disk, an entry",
        "memory",
    ];
    table(
        &columns,
        rows.iter().map(|row| {
            let ns = |name: &str| cell(row, name, |ns| format!("{ns:.0} ns"));
            let entries = number(row, "entries").unwrap_or(1.0);
            vec![
                report::count(entries),
                ns("put_ns"),
                ns("get_ns"),
                ns("scan_ns"),
                cell(row, "open_ms", |ms| format!("{ms:.1} ms")),
                ns("compact_ns"),
                cell(row, "disk_bytes", |bytes| {
                    format!("{:.1} bytes", bytes / entries)
                }),
                cell(row, "memory_bytes", mebibytes),
            ]
        }),
    )
}

pub(super) fn many(rows: &[Value]) -> String {
    let kibibytes = |bytes: f64| format!("{:.0} KiB", bytes / 1024.0);
    let columns = [
        "databases",
        "opened in",
        "memory open",
        "after a write",
        "threads",
        "files",
        "processor time, idle",
    ];
    table(
        &columns,
        rows.iter().map(|row| {
            vec![
                cell(row, "databases", report::count),
                cell(row, "open_ms", |ms| format!("{ms:.2} ms")),
                cell(row, "memory_bytes", kibibytes),
                cell(row, "written_memory_bytes", kibibytes),
                cell(row, "threads", |count| format!("{count:.1}")),
                cell(row, "files", |count| format!("{count:.1}")),
                cell(row, "idle_cpu_us_per_s", |us| format!("{us:.1} us/s")),
            ]
        }),
    )
}

pub(super) fn soak(rows: &[Value]) -> String {
    let most = |name: &str| {
        rows.iter()
            .filter_map(|row| number(row, name))
            .fold(0.0, f64::max)
    };
    let mean = |name: &str| {
        rows.iter().filter_map(|row| number(row, name)).sum::<f64>() / rows.len().max(1) as f64
    };
    let rate = |name: &str| format!("{}/s", report::count(mean(name)));
    let last = rows.last().and_then(|row| number(row, "seconds"));
    let line = |what: &str, shown: String| vec![what.to_owned(), shown];
    table(
        &["", ""],
        [
            line("time", format!("{:.0} s", last.unwrap_or(0.0))),
            line("memory, most", mebibytes(most("rss_bytes"))),
            line("of it its own", mebibytes(most("anonymous_bytes"))),
            line("on disk, most", mebibytes(most("disk_bytes"))),
            line("writes", rate("writes_per_s")),
            line("p99 of writes, worst sample", micros(most("write_p99_us"))),
            line(
                "longest write",
                format!("{:.0} ms", most("longest_write_ms")),
            ),
            line("reads", rate("reads_per_s")),
            line("p99 of reads, worst sample", micros(most("read_p99_us"))),
            line("scans of 100", rate("scans_per_s")),
            line("p99 of scans, worst sample", micros(most("scan_p99_us"))),
        ]
        .into_iter(),
    )
}
