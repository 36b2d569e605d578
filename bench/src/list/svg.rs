//! Results as a picture: bars for each task (the longer, the better), then a panel of lines for each
//! growth curve, both axes logarithmic.

use std::fmt::Write;

use super::report;
use super::row::Row;

const WIDTH: usize = 760;
const LABEL: usize = 110;
const BAR: f64 = 480.0;
const LINE: usize = 18;
const PANEL_WIDTH: f64 = 370.0;
const PANEL_HEIGHT: f64 = 260.0;

/// The picture of `rows` as an SVG document.
pub(crate) fn draw(rows: &[Row]) -> String {
    let (growth, tasks): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_growth());
    let mut body = String::new();
    let y = push_bars(&mut body, &tasks, 10);
    let height = push_panels(&mut body, &growth, y + LINE) + LINE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn color(engine: &str) -> &'static str {
    match engine {
        "siltstone" => "#b5562b",
        "diamond-types" => "#2f6f9f",
        "cola" => "#5b8c3a",
        "loro" => "#7a56a3",
        "loro-movable" => "#b48ad6",
        "yrs" => "#c79a1e",
        "automerge" => "#4a9c96",
        _ => "#8a99a8",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// One group of bars for each task; the least figure has the longest bar. Returns where they end.
fn push_bars(body: &mut String, rows: &[&Row], mut y: usize) -> usize {
    let task = |row: &&Row| format!("{}, {}", row.workload, row.input);
    for title in report::distinct(rows.iter().map(task)) {
        y += LINE + 6;
        let _ = writeln!(
            body,
            r#"<text x="10" y="{y}" font-weight="bold">{}</text>"#,
            escaped(&title)
        );
        let group = || rows.iter().filter(|row| task(row) == title);
        let figures = || group().filter_map(|row| Some((row, row.figure()?)));
        let least = figures().map(|(_, figure)| figure).fold(f64::MAX, f64::min);
        for (row, figure) in figures() {
            y += LINE;
            let width = (least / figure.max(f64::MIN_POSITIVE) * BAR).clamp(1.0, BAR);
            let _ = writeln!(
                body,
                r#"<text x="10" y="{y}">{}</text><rect x="{LABEL}" y="{}" width="{width:.0}" height="13" fill="{}"/><text x="{:.0}" y="{y}">{}</text>"#,
                row.engine,
                y - 11,
                color(&row.engine),
                LABEL as f64 + width + 6.0,
                shown(row),
            );
        }
    }
    y
}

fn shown(row: &Row) -> String {
    let bytes = row.heap_bytes.or(row.encoded_bytes);
    match (bytes, row.cpu_ms_min, row.cpu_ns_per_op) {
        (Some(bytes), _, _) => report::bytes(bytes),
        (None, _, Some(ns)) if row.workload == "list_get" => report::nanos(ns),
        (None, Some(ms), _) => report::nanos(ms * 1e6),
        _ => String::new(),
    }
}

/// One panel for each growth curve, two in a line. Returns where they end.
fn push_panels(body: &mut String, rows: &[&Row], y: usize) -> usize {
    let curve = |row: &&Row| format!("{}, {}", row.workload, row.input);
    let titles = report::distinct(rows.iter().map(curve));
    let mut bottom = y;
    for (number, title) in titles.iter().enumerate() {
        let left = 10.0 + (number % 2) as f64 * PANEL_WIDTH;
        let top = y as f64 + (number / 2) as f64 * (PANEL_HEIGHT + 50.0);
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| curve(row) == *title)
            .copied()
            .collect();
        push_panel(body, title, &of, left, top);
        bottom = (top + PANEL_HEIGHT + 50.0) as usize;
    }
    bottom
}

/// A range of whole decades, as powers of ten.
#[derive(Clone, Copy)]
struct Decades {
    first: i32,
    last: i32,
}

impl Decades {
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let logs = values.map(|value| value.max(1e-3).log10());
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), log| {
            (low.min(log), high.max(log))
        });
        let first = low.floor() as i32;
        Self {
            first,
            last: (high.ceil() as i32).max(first + 1),
        }
    }

    /// Where `value` lies between the ends, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (value.max(1e-3).log10() - f64::from(self.first)) / f64::from(self.last - self.first)
    }
}

fn push_panel(body: &mut String, title: &str, rows: &[&Row], left: f64, top: f64) {
    let points = || {
        rows.iter()
            .filter_map(|row| Some((row, row.cpu_ns_per_op?)))
    };
    if points().next().is_none() {
        return;
    }
    let sizes = Decades::around(rows.iter().map(|row| row.size as f64));
    let costs = Decades::around(points().map(|(_, ns)| ns));
    let (x0, x1) = (left + 50.0, left + PANEL_WIDTH - 20.0);
    let (y0, y1) = (top + PANEL_HEIGHT - 20.0, top + 50.0);
    let x = |size: f64| x0 + sizes.place(size) * (x1 - x0);
    let y = |ns: f64| y0 + costs.place(ns) * (y1 - y0);
    let _ = writeln!(
        body,
        r#"<text x="{left}" y="{}" font-weight="bold">{}: time an operation, by edits</text>"#,
        top + 14.0,
        escaped(title)
    );
    for power in costs.first..=costs.last {
        let (ns, at) = (10f64.powi(power), y(10f64.powi(power)));
        let _ = writeln!(
            body,
            r##"<path d="M{x0:.0} {at:.1}H{x1:.0}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" text-anchor="end" font-size="10">{}</text>"##,
            x0 - 4.0,
            at + 3.0,
            decade(ns),
        );
    }
    for power in sizes.first..=sizes.last {
        let (size, at) = (10f64.powi(power), x(10f64.powi(power)));
        let _ = writeln!(
            body,
            r##"<path d="M{at:.1} {y0:.0}V{y1:.0}" stroke="#ddd"/><text x="{at:.1}" y="{:.0}" text-anchor="middle" font-size="10">{}</text>"##,
            y0 + 14.0,
            report::short(size as u64),
        );
    }
    for (number, engine) in report::distinct(rows.iter().map(|row| row.engine.clone()))
        .iter()
        .enumerate()
    {
        let color = color(engine);
        let line: Vec<String> = points()
            .filter(|(row, _)| row.engine == *engine)
            .map(|(row, ns)| format!("{:.1},{:.1}", x(row.size as f64), y(ns)))
            .collect();
        let _ = writeln!(
            body,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/><text x="{:.0}" y="{:.0}" font-size="10" fill="{color}">{engine}</text>"#,
            line.join(" "),
            left + 50.0 + (number % 4) as f64 * 78.0,
            top + 28.0 + (number / 4) as f64 * 12.0,
        );
    }
}

/// A power of ten of nanoseconds, without decimals.
fn decade(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.0}s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.0}ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.0}us", ns / 1e3),
        ns => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_figure_has_the_longest_bar_and_curves_stay_in_their_panel() {
        let row = |workload: &str, engine: &str, size, ns| Row {
            workload: workload.to_owned(),
            input: "append".to_owned(),
            engine: engine.to_owned(),
            size,
            cpu_ms_min: Some(ns),
            cpu_ns_per_op: Some(ns),
            ..Row::default()
        };
        let picture = draw(&[
            row("list_edit", "siltstone", 10, 5.0),
            row("list_edit", "loro", 10, 10.0),
            row("growth_edit", "loro", 1_000, 1.0),
            row("growth_edit", "loro", 1_000_000, 1_000.0),
        ]);
        assert!(picture.contains(r##"width="480" height="13" fill="#b5562b""##));
        assert!(picture.contains(r##"width="240" height="13" fill="#7a56a3""##));
        // From the lower left corner of the panel to the upper right one.
        assert!(picture.contains(r#"points="60.0,"#) && picture.contains(" 360.0,"));
    }
}
