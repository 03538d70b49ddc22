//! Lines over a number that grows: sizes or threads.

use super::axis::{Axis, Plot};
use super::svg::{Anchor, Rect, Svg, text_width};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const TOP: f64 = 12.0;
const LEFT: f64 = 56.0;
const NAME: f64 = 11.0;

/// A line with its name behind the last point.
pub struct Line {
    /// The colour's class.
    pub class: String,
    pub name: String,
    /// In order, with what each says under the pointer.
    pub points: Vec<(f64, f64, String)>,
}

/// The chart, called `name`. Where `y_is_ratio`, both axes double, and the diagonal is the ideal.
pub fn lines(name: &str, axes: [&str; 2], lines: &[Line], y_is_ratio: bool) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most =
        |of: fn(&(f64, f64, String)) -> f64| points().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (right, highest) = (most(|point| point.0), most(|point| point.1));
    let left = points().map(|point| point.0).fold(right / 2.0, f64::min);
    let names = lines.iter().map(|line| text_width(&line.name, NAME)).fold(30.0, f64::max);
    let area = Rect(LEFT, TOP, WIDTH - LEFT - names - 24.0, HEIGHT - TOP - 50.0);
    let y = if y_is_ratio {
        let lowest = points().map(|point| point.1).fold(left, f64::min);
        Axis::Binary(lowest / 1.06, highest.max(right) * 1.06)
    } else {
        Axis::Linear(highest * 1.06)
    };
    let plot = Plot { area, x: Axis::Binary(left, right), y };
    let mut svg = Svg::new(WIDTH, HEIGHT);
    plot.draw_axes(&mut svg, axes[0], axes[1]);
    if y_is_ratio {
        svg.path("ideal", &[plot.at(left, left), plot.at(right, right)]);
    }
    for line in lines {
        let places: Vec<_> = line.points.iter().map(|(x, y, _)| plot.at(*x, *y)).collect();
        svg.path(&format!("line {}", line.class), &places);
        for (place, (_, _, title)) in places.iter().zip(&line.points) {
            svg.dot(&format!("dot {}", line.class), *place, 3.5, title);
        }
    }
    for (class, y, name) in end_names(&plot, lines) {
        let x = area.0 + area.2 + 9.0;
        svg.text(&format!("end {class}"), Anchor::Start, (x, y + 3.5), name);
    }
    svg.element(name)
}

/// Names by the lines' ends, moved apart where lines end near each other.
fn end_names<'a>(plot: &Plot, lines: &'a [Line]) -> Vec<(&'a str, f64, &'a str)> {
    const APART: f64 = 13.0;
    let end = |line: &Line| line.points.last().map_or(0.0, |(_, y, _)| plot.y(*y));
    let mut ends: Vec<_> =
        lines.iter().map(|line| (&*line.class, end(line), &*line.name)).collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let bottom = plot.area.1 + plot.area.3;
    for i in 1..ends.len() {
        ends[i].1 = ends[i].1.max(ends[i - 1].1 + APART);
    }
    for i in (0..ends.len()).rev() {
        let limit = ends.get(i + 1).map_or(bottom, |next| next.1 - APART);
        ends[i].1 = ends[i].1.min(limit);
    }
    ends
}
