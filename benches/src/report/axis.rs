//! Axes: numbers to places in a drawing, with ticks and labels.

use super::svg::{Anchor, Rect, Svg};
use crate::table::digits;

/// Where a chart's data are drawn.
#[derive(Clone, Copy)]
pub struct Plot {
    pub area: Rect,
    pub x: Axis,
    pub y: Axis,
}

/// From the least to the greatest number of an axis.
#[derive(Clone, Copy, Debug)]
pub enum Axis {
    /// From zero.
    Linear(f64),
    /// Ticks at powers of two.
    Binary(f64, f64),
    /// Ticks at 1, 2 and 5 of each power of ten.
    Decimal(f64, f64),
}

impl Axis {
    /// 0 at the start, 1 at the end.
    fn share(self, value: f64) -> f64 {
        match self {
            Axis::Linear(most) => value / most,
            Axis::Binary(least, most) | Axis::Decimal(least, most) => {
                (value / least).ln() / (most / least).ln()
            }
        }
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Axis::Linear(most) => {
                let step = step(most / 5.0);
                (0..)
                    .map(|i| f64::from(i) * step)
                    .take_while(|tick| *tick <= most * 1.0001)
                    .collect()
            }
            Axis::Binary(least, most) => {
                let (from, to) = (least.log2().ceil() as i32, most.log2().floor() as i32);
                (from..=to).map(|power| 2f64.powi(power)).collect()
            }
            Axis::Decimal(least, most) => {
                let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
                let ticks = powers.flat_map(|p| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(p)));
                ticks.filter(|tick| (least * 0.9999..=most * 1.0001).contains(tick)).collect()
            }
        }
    }
}

/// 1, 2 or 5 of a power of ten, at least `least`.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= least * 0.9999)
        .unwrap_or(least)
}

/// `1/8` or `64`
fn binary(value: f64) -> String {
    if value < 1.0 { format!("1/{:.0}", 1.0 / value) } else { format!("{value:.0}") }
}

impl Plot {
    pub fn x(&self, value: f64) -> f64 {
        let Rect(left, _, width, _) = self.area;
        left + width * self.x.share(value)
    }

    pub fn y(&self, value: f64) -> f64 {
        let Rect(_, top, _, height) = self.area;
        top + height * (1.0 - self.y.share(value))
    }

    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x(x), self.y(y))
    }

    /// Grid, ticks and the axes' names.
    pub fn draw_axes(&self, svg: &mut Svg, x_name: &str, y_name: &str) {
        self.draw_x(svg, x_name);
        let Rect(left, top, width, height) = self.area;
        for tick in self.y.ticks() {
            let y = self.y(tick);
            svg.line("grid", (left, y), (left + width, y));
            svg.text("tick", Anchor::End, (left - 7.0, y + 3.5), &self.label(self.y, tick));
        }
        svg.turned_text("name", Anchor::Middle, (13.0, top + height / 2.0), -90.0, y_name);
    }

    /// The lower axis alone.
    pub fn draw_x(&self, svg: &mut Svg, name: &str) {
        let Rect(left, top, width, height) = self.area;
        let bottom = top + height;
        for tick in self.x.ticks() {
            let x = self.x(tick);
            svg.line("grid", (x, top), (x, bottom));
            svg.text("tick", Anchor::Middle, (x, bottom + 15.0), &self.label(self.x, tick));
        }
        svg.text("name", Anchor::Middle, (left + width / 2.0, bottom + 33.0), name);
    }

    fn label(&self, axis: Axis, tick: f64) -> String {
        match axis {
            Axis::Binary(..) => binary(tick),
            _ if tick == tick.round() => format!("{tick:.0}"),
            _ => digits(tick).trim_end_matches('0').to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(Axis::Linear(103.0).ticks(), [0.0, 50.0, 100.0]);
        assert_eq!(Axis::Linear(2.0).ticks(), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(Axis::Binary(0.3, 4.1).ticks(), [0.5, 1.0, 2.0, 4.0]);
        assert_eq!(Axis::Decimal(0.5, 20.0).ticks(), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(binary(0.125), "1/8");
    }

    #[test]
    fn places_run_from_corner_to_corner() {
        let area = Rect(10.0, 20.0, 100.0, 50.0);
        let plot = Plot { area, x: Axis::Binary(1.0, 16.0), y: Axis::Linear(8.0) };
        let near = |(x, y): (f64, f64), (a, b): (f64, f64)| (x - a).abs() + (y - b).abs() < 1e-9;
        assert!(near(plot.at(1.0, 0.0), (10.0, 70.0)));
        assert!(near(plot.at(4.0, 4.0), (60.0, 45.0)));
        assert!(near(plot.at(16.0, 8.0), (110.0, 20.0)));
    }
}
