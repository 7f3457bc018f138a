//! Draws the scaling axes: cost against size on logarithmic scales, ours and PostgreSQL's on one
//! sheet.

use crate::cluster::Result;
use crate::scaling::{Axis, Event, Series};
use plotters::prelude::*;
use std::path::Path;

const SHEET: (u32, u32) = (960, 600);

/// The events that are drawn. The others are too small for the same sheet.
const DRAWN: [Event; 4] = [Event::First, Event::Started, Event::Stopped, Event::BareFork];

const fn colour(event: Event) -> RGBColor {
    match event {
        Event::First => RGBColor(31, 119, 180),
        Event::Started => RGBColor(44, 160, 44),
        Event::Stopped => RGBColor(214, 39, 40),
        Event::Asked | Event::PostmasterCpu | Event::BareFork => RGBColor(127, 127, 127),
    }
}

/// Writes a drawing for each axis into `folder`: `cost-by-slots.svg`, `cost-by-live-workers.svg`.
pub(crate) fn write(axes: &[Axis], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("making {}: {error}", folder.display()))?;
    for axis in axes {
        let file = folder.join(format!("cost-by-{}.svg", axis.name.replace(' ', "-")));
        std::fs::write(&file, draw(axis)?)
            .map_err(|error| format!("writing {}: {error}", file.display()))?;
        println!("drawn: {}", file.display());
    }
    Ok(())
}

/// Medians in microseconds, by size. A logarithmic scale has no 0, so a size of 0 is drawn at 1.
fn points(series: &Series) -> Vec<(f64, f64)> {
    let point = |point: &crate::scaling::Point| {
        (f64::from(point.size.max(1)), point.figure.median.max(1.0) / 1e3)
    };
    series.points.iter().map(point).collect()
}

/// The bounds of the numbers, widened to whole decades; 1 to 10 if there are none.
fn decades(numbers: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let least = numbers.clone().fold(f64::INFINITY, f64::min);
    let most = numbers.fold(0.0, f64::max);
    if least > most {
        return 1.0..10.0;
    }
    let low = 10f64.powf(least.log10().floor());
    low..10f64.powf(most.log10().ceil()).max(low * 10.0)
}

fn draw(axis: &Axis) -> Result<String> {
    let both = [("", &axis.ours), ("PostgreSQL: ", &axis.postgres)];
    let drawn = || both.into_iter().flat_map(|(_, all)| all.iter());
    let drawn = || drawn().filter(|series| DRAWN.contains(&series.event)).flat_map(points);
    let sizes = drawn().map(|(size, _)| size).collect::<Vec<_>>();
    let costs = drawn().map(|(_, cost)| cost).collect::<Vec<_>>();
    let mut text = String::new();
    {
        let sheet = SVGBackend::with_string(&mut text, SHEET).into_drawing_area();
        sheet.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&sheet)
            .caption(format!("Cost of one worker by number of {}", axis.name), ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(
                decades(sizes.iter().copied()).log_scale(),
                decades(costs.iter().copied()).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc(format!("{} (0 is drawn at 1)", axis.name))
            .y_desc("median, µs")
            .x_label_formatter(&|size| format!("{size:.0}"))
            .y_label_formatter(&|cost| format!("{cost}"))
            .light_line_style(BLACK.mix(0.06))
            .draw()?;
        for (who, all) in both {
            for series in all.iter().filter(|series| DRAWN.contains(&series.event)) {
                let style = colour(series.event).stroke_width(2);
                let label = format!("{who}{}", series.event.name());
                let all = points(series);
                let marks = all.clone().into_iter();
                if who.is_empty() {
                    chart
                        .draw_series(LineSeries::new(all, style))?
                        .label(label)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
                    chart.draw_series(marks.map(|at| Circle::new(at, 4, style.filled())))?;
                } else {
                    chart
                        .draw_series(DashedLineSeries::new(all, 6, 5, style))?
                        .label(label)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 9, y)], style));
                    chart.draw_series(marks.map(|at| Circle::new(at, 4, style)))?;
                }
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        sheet.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figure;
    use crate::scaling::Point;

    fn series(costs: &[f64]) -> Vec<Series> {
        let point = |(at, &cost): (usize, &f64)| Point {
            size: at as u32 * 100,
            figure: Figure::one(cost),
            smallest: Figure::one(costs[0]),
        };
        DRAWN
            .map(|event| Series { event, points: costs.iter().enumerate().map(point).collect() })
            .to_vec()
    }

    fn axis(ours: Vec<Series>, postgres: Vec<Series>) -> Axis {
        Axis { name: "live workers", ours, postgres, note: String::new() }
    }

    /// Breaks if a series or a label is missing.
    #[test]
    fn a_sheet_shows_both_and_says_what_is_what() {
        let text = draw(&axis(series(&[1e5, 2e5]), series(&[1e6, 9e6]))).unwrap();
        for label in ["by number of live workers", "median, µs", "PostgreSQL: terminate"] {
            assert!(text.contains(label), "{label}");
        }
        assert!(text.contains("register → first line"));
    }

    /// Breaks if empty or zero series reach a logarithm.
    #[test]
    fn nothing_and_zeros_are_a_sheet_all_the_same() {
        for axis in [axis(Vec::new(), Vec::new()), axis(series(&[0.0, 0.0]), Vec::new())] {
            let text = draw(&axis).unwrap();
            assert!(text.starts_with("<svg") && !text.contains("NaN") && !text.contains("inf"));
        }
    }
}
