//! Growth as lines: one panel a figure, over the number of documents.

use crate::error::Result;
use crate::figure::Row;
use crate::plot::{self, Line, Panel, Scale};

/// The rows of the growth workload as a picture.
pub(crate) fn draw(rows: &[Row]) -> Result<String> {
    let mut panels: Vec<Panel> = Vec::new();
    for row in rows.iter().filter(|row| row.workload == "growth") {
        let Some((figure, documents)) = at(&row.figure) else {
            continue;
        };
        let title = format!("{figure}, {}", row.unit);
        let known = panels.iter().position(|panel| panel.title == title);
        let panel = known.unwrap_or_else(|| {
            panels.push(Panel {
                title,
                across: "documents".into(),
                lines: vec![Line {
                    name: row.engine.clone(),
                    points: Vec::new(),
                }],
            });
            panels.len() - 1
        });
        panels[panel].lines[0].points.push((documents, row.value));
    }
    plot::draw(&panels, Scale::Decades)
}

/// What is measured, and at how many documents.
fn at(figure: &str) -> Option<(&str, f64)> {
    let (figure, documents) = figure.rsplit_once(", ")?;
    let documents = documents.strip_suffix(" documents")?.parse().ok()?;
    Some((figure, documents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Goal;

    #[test]
    fn every_figure_has_a_panel_with_all_its_points() {
        let row =
            |figure: &str, value| Row::new("growth", figure, "siltstone", value, "ms", Goal::None);
        let picture = draw(&[
            row("opening, 1000 documents", 1.0),
            row("opening, 10000 documents", 2.0),
            row("memory, 1000 documents", 3.0),
            row("something else", 4.0),
        ]);
        let picture = picture.expect("a picture");
        assert_eq!(picture.matches("opening, ms").count(), 1);
        assert_eq!(picture.matches("memory, ms").count(), 1);
        assert!(!picture.contains("something else"));
    }
}
