//! Results as text: one line of progress and the tables.

use std::fmt::Write;

use super::row::Row;

/// The heart of one measurement, for the progress output.
pub(crate) fn brief(row: &Row) -> String {
    let mut text = value(row);
    if let (Some(ns), None) = (row.cpu_ns_per_op, row.heap_bytes) {
        let _ = write!(text, ", {} an operation", nanos(ns));
    }
    text
}

/// All rows: one block a workload, a line an engine, a column an input.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for workload in distinct(rows.iter().map(|row| row.workload.clone())) {
        let of: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        let is_growth = of[0].is_growth();
        let unit = unit(of[0], is_growth);
        let _ = writeln!(text, "\n{workload} ({unit}; times the least of any peer)");
        if is_growth {
            for input in distinct(of.iter().map(|row| row.input.clone())) {
                let of: Vec<&Row> = of
                    .iter()
                    .filter(|row| row.input == input)
                    .copied()
                    .collect();
                push_grid(
                    &mut text,
                    &input,
                    &of,
                    |row| short(row.size),
                    |row| row.cpu_ns_per_op.map_or_else(String::new, nanos),
                );
            }
        } else {
            push_grid(&mut text, "", &of, |row| row.input.clone(), value);
            push_notes(&mut text, &of);
        }
    }
    text
}

fn unit(row: &Row, is_growth: bool) -> &'static str {
    match (row.heap_bytes, row.encoded_bytes) {
        (Some(_), _) => "heap, live/peak",
        (_, Some(_)) => "bytes",
        _ if is_growth => "processor time an operation or element, by edits",
        _ => "processor time, least/median",
    }
}

/// The figure with its companion.
fn value(row: &Row) -> String {
    match (row.heap_bytes, row.heap_peak_bytes, row.encoded_bytes) {
        (Some(live), Some(peak), _) => format!("{}/{}", bytes(live), bytes(peak)),
        (_, _, Some(encoded)) => bytes(encoded),
        _ if row.workload == "list_get" => row.cpu_ns_per_op.map_or_else(String::new, nanos),
        _ => {
            let ms = |ms: Option<f64>| nanos(ms.unwrap_or_default() * 1e6);
            format!("{}/{}", ms(row.cpu_ms_min), ms(row.cpu_ms_median))
        }
    }
}

fn push_grid(
    text: &mut String,
    title: &str,
    rows: &[&Row],
    column: impl Fn(&Row) -> String,
    cell: impl Fn(&Row) -> String,
) {
    let columns = distinct(rows.iter().map(|row| column(row)));
    let _ = write!(text, "  {title:<14}");
    for name in &columns {
        let _ = write!(text, " {name:>23}");
    }
    text.push('\n');
    for engine in distinct(rows.iter().map(|row| row.engine.clone())) {
        let _ = write!(text, "  {engine:<14}");
        for name in &columns {
            let mut found = rows.iter().filter(|row| row.engine == engine);
            let shown = found
                .find(|row| column(row) == *name)
                .map_or_else(String::new, |row| match row.ratio_to_least {
                    Some(ratio) => format!("{} {ratio:>5.2}x", cell(row)),
                    None => format!("{}   n/a ", cell(row)),
                });
            let _ = write!(text, " {shown:>23}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

fn push_notes(text: &mut String, rows: &[&Row]) {
    let notes = rows.iter().filter_map(|row| {
        let note = row.note.as_ref()?;
        Some(format!("  {}: {note}\n", row.engine))
    });
    distinct(notes).iter().for_each(|note| text.push_str(note));
}

/// The values without repetitions, in the order of their first appearance.
pub(crate) fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// A time with the unit that suits it, three significant digits.
pub(crate) fn nanos(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{}s", digits(ns / 1e9)),
        ns if ns >= 1e6 => format!("{}ms", digits(ns / 1e6)),
        ns if ns >= 1e3 => format!("{}us", digits(ns / 1e3)),
        ns => format!("{}ns", digits(ns)),
    }
}

/// Bytes with the unit that suits them, thousands not 1,024.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{}GB", digits(bytes / 1e9)),
        bytes if bytes >= 1e6 => format!("{}MB", digits(bytes / 1e6)),
        bytes if bytes >= 1e3 => format!("{}kB", digits(bytes / 1e3)),
        bytes => format!("{bytes}B"),
    }
}

/// A number of elements, short.
pub(crate) fn short(count: u64) -> String {
    match count {
        count if count >= 1_000_000 => format!("{}M", count / 1_000_000),
        count if count >= 1_000 => format!("{}k", count / 1_000),
        count => count.to_string(),
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_bytes_have_three_digits_and_a_unit() {
        assert_eq!(nanos(26.04), "26.0ns");
        assert_eq!(nanos(1_380_000.0), "1.38ms");
        assert_eq!(bytes(105_900), "106kB");
        assert_eq!(
            (short(300_000), short(10_000_000)),
            ("300k".to_owned(), "10M".to_owned())
        );
    }

    #[test]
    fn a_table_has_a_line_an_engine_and_a_column_an_input() {
        let row = |engine: &str, input: &str| Row {
            workload: "text_local".to_owned(),
            input: input.to_owned(),
            engine: engine.to_owned(),
            cpu_ms_min: Some(1.0),
            cpu_ms_median: Some(2.0),
            ratio_to_least: Some(1.0),
            note: Some("careful".to_owned()),
            ..Row::default()
        };
        let table = table(&[row("a", "x"), row("a", "y"), row("b", "y")]);
        assert_eq!(table.matches("1.00ms/2.00ms  1.00x").count(), 3, "{table}");
        assert_eq!(table.matches("a: careful").count(), 1);
    }
}
