//! Bars: a group for each shape, a bar for each instruction set, peer or machine.

use super::axis::{Axis, Plot};
use super::svg::{Anchor, Rect, Svg, text_width};
use crate::ops::Unit;
use crate::table::digits;

const WIDTH: f64 = 640.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;
const NAME: f64 = 11.0;

/// A bar.
pub struct Bar {
    /// The colour's class.
    pub class: String,
    /// Its length.
    pub speed: f64,
    /// What stands behind it.
    pub note: String,
    /// What it says under the pointer.
    pub title: String,
}

/// Bars under one name.
pub struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// The chart, called `name`.
pub fn bars(name: &str, unit: Unit, groups: &[Group]) -> String {
    let names = groups.iter().map(|group| text_width(&group.name, NAME)).fold(40.0, f64::max);
    let left = names + 16.0;
    let count: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = count as f64 * BAR + groups.len() as f64 * GAP + GAP;
    let area = Rect(left, 6.0, WIDTH - left - 86.0, height);
    let most = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.speed).fold(0.0, f64::max);
    let plot = Plot { area, x: Axis::Linear(most.max(f64::MIN_POSITIVE)), y: Axis::Linear(1.0) };
    let mut svg = Svg::new(WIDTH, height + 50.0);
    plot.draw_x(&mut svg, &format!("speed, {unit}"));
    let mut y = 6.0 + GAP;
    for group in groups {
        let middle = y + group.bars.len() as f64 * BAR / 2.0;
        svg.text("group", Anchor::End, (left - 8.0, middle + 4.0), &group.name);
        for bar in &group.bars {
            let end = plot.x(bar.speed);
            let rect = Rect(left, y + 0.5, (end - left).max(0.5), BAR - 1.0);
            svg.rect(&format!("bar {}", bar.class), rect, &bar.title);
            let note = format!("{}{}", digits(bar.speed), bar.note);
            svg.text("note", Anchor::Start, (end + 5.0, y + BAR - 2.0), &note);
            y += BAR;
        }
        y += GAP;
    }
    svg.line("axis", (left, 6.0), (left, 6.0 + height));
    svg.element(name)
}
