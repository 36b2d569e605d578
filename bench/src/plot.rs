//! Lines over an axis as SVG, a panel each, over the crate `plotters`.

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::report;

const WIDTH: u32 = 820;
const HEIGHT: u32 = 250;
const COLORS: [RGBColor; 4] = [
    RGBColor(181, 86, 43),
    RGBColor(47, 111, 159),
    RGBColor(91, 140, 58),
    RGBColor(122, 86, 163),
];

/// One line of a panel.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over one axis.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) across: String,
    pub(crate) lines: Vec<Line>,
}

/// How the axes are divided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from zero up.
    Even,
    /// Both by powers of ten.
    Decades,
}

/// The panels, one below the other.
pub(crate) fn draw(panels: &[Panel], scale: Scale) -> Result<String> {
    let mut text = String::new();
    let height = HEIGHT * panels.len().max(1) as u32;
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        for (area, panel) in root
            .split_evenly((panels.len().max(1), 1))
            .iter()
            .zip(panels)
        {
            let points = || panel.lines.iter().flat_map(|line| line.points.iter());
            let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN, f64::max);
            let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MAX, f64::min);
            if points().next().is_none() {
                continue;
            }
            let mut chart = ChartBuilder::on(area);
            chart
                .caption(&panel.title, ("sans-serif", 15))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(64);
            match scale {
                Scale::Even => {
                    let (across, up) = (0.0..most(|at| at.0), 0.0..most(|at| at.1) * 1.1 + 1e-9);
                    fill(chart.build_cartesian_2d(across, up), panel)?;
                }
                Scale::Decades => {
                    let decades = |low: f64, high: f64| {
                        let power = |value: f64| 10_f64.powf(value);
                        let (low, high) = (low.max(1e-6).log10(), high.max(1e-6).log10());
                        (power(low.floor())..power((high + 1e-9).ceil())).log_scale()
                    };
                    let across = decades(least(|at| at.0), most(|at| at.0));
                    let up = decades(least(|at| at.1), most(|at| at.1));
                    fill(chart.build_cartesian_2d(across, up), panel)?;
                }
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Built<'a, 'b, X, Y> = std::result::Result<
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    DrawingAreaErrorKind<std::io::Error>,
>;

fn fill<'a, 'b: 'a, X, Y>(chart: Built<'a, 'b, X, Y>, panel: &Panel) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = chart.map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc(&panel.across)
        .x_label_formatter(&|value| report::count(*value))
        .y_label_formatter(&|value| report::count(*value))
        .light_line_style(RGBColor(245, 245, 245))
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(failed)?;
    for (line, color) in panel.lines.iter().zip(COLORS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                color.stroke_width(2),
            ))
            .map_err(failed)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::io("draw a picture", std::io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_title_is_in_the_picture() {
        let panel = || Panel {
            title: "memory".into(),
            across: "seconds".into(),
            lines: vec![
                Line {
                    name: "alpha".into(),
                    points: vec![(1.0, 10.0), (10.0, 1e6), (100.0, 0.0)],
                },
                Line {
                    name: "beta".into(),
                    points: vec![(1.0, 7.0), (100.0, 7.0)],
                },
            ],
        };
        for scale in [Scale::Even, Scale::Decades] {
            let text = draw(&[panel(), panel()], scale).unwrap();
            for word in ["memory", "seconds", "alpha", "beta"] {
                assert_eq!(text.matches(word).count(), 2, "{word}");
            }
            assert!(text.matches("<polyline").count() >= 4);
        }
        assert!(draw(&[], Scale::Even).unwrap().starts_with("<svg"));
    }
}
