//! Operations per second as horizontal bars, one group a workload, scaled to its best engine.

use std::fmt::Write;

use crate::report;
use crate::row::Row;

const WIDTH: usize = 720;
const LABEL: usize = 110;
const BAR: usize = 480;
const LINE: usize = 18;

/// The picture of `rows` as an SVG document.
pub(crate) fn bars(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = 10;
    let mut workload = "";
    for row in rows_by_workload(rows) {
        if row.workload != workload {
            workload = &row.workload;
            y += LINE + 6;
            let _ = writeln!(
                body,
                r#"<text x="10" y="{y}" font-weight="bold">{workload} (ops/s)</text>"#
            );
        }
        y += LINE;
        let best = rows
            .iter()
            .filter(|other| other.workload == workload)
            .map(|other| other.ops_per_s)
            .fold(f64::MIN_POSITIVE, f64::max);
        let width = (row.ops_per_s / best * BAR as f64).max(1.0);
        let color = if row.engine == "siltstone" {
            "#b5562b"
        } else {
            "#8a99a8"
        };
        let _ = writeln!(
            body,
            r#"<text x="10" y="{y}">{}</text><rect x="{LABEL}" y="{}" width="{width:.0}" height="13" fill="{color}"/><text x="{:.0}" y="{y}">{}</text>"#,
            row.engine,
            y - 11,
            LABEL as f64 + width + 6.0,
            report::count(row.ops_per_s)
        );
    }
    let height = y + LINE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// The rows grouped by workload, in the order of first appearance.
fn rows_by_workload(rows: &[Row]) -> Vec<&Row> {
    let place = |row: &&Row| rows.iter().position(|first| first.workload == row.workload);
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(place);
    sorted
}
