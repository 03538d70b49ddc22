//! A roofline for an instruction set: what its kernels reach, under what arithmetic and reading
//! allow (S. Williams, A. Waterman and D. Patterson, *Roofline: An Insightful Visual Performance
//! Model*, 2009).

use super::axis::{Axis, Plot};
use super::colours;
use super::svg::{Anchor, Rect, Svg, text_width};
use crate::record::{Machine, Record};
use crate::table::digits;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 440.0;
const AREA: Rect = Rect(54.0, 12.0, 576.0, 376.0);
const LABEL: f64 = 9.5;

/// One kernel's place: operations for each byte, and speed.
struct Dot<'a> {
    record: &'a Record,
    intensity: f64,
    gflops: f64,
}

/// The chart of the records of one instruction set on one machine, all on one thread.
pub fn roofline(machine: &Machine, isa: &str, records: &[&Record]) -> Option<String> {
    let peak = machine.peaks.iter().find(|peak| peak.isa == isa)?.gflops;
    let reads: Vec<(&str, f64)> = machine
        .reads
        .iter()
        .filter(|read| read.isa == isa)
        .map(|read| (&*read.level, read.gbps))
        .collect();
    let dots: Vec<Dot<'_>> = records
        .iter()
        .map(|record| Dot {
            record,
            intensity: record.flops / record.bytes,
            gflops: record.flops / record.median_ns,
        })
        .collect();
    let plot = plot(peak, &reads, &dots);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    plot.draw_axes(
        &mut svg,
        "operations for each byte of operands and result, flop/byte",
        "speed, GFLOP/s",
    );
    let mut taken = draw_roofs(&mut svg, &plot, peak, &reads);
    draw_dots(&mut svg, &plot, &dots, &mut taken);
    Some(svg.element(&format!("Roofline of {isa} on {}", machine.name)))
}

fn plot(peak: f64, reads: &[(&str, f64)], dots: &[Dot<'_>]) -> Plot {
    let slowest = reads.iter().map(|(_, gbps)| *gbps).fold(f64::MAX, f64::min);
    let ridge = peak / slowest;
    let of = |f: fn(&Dot<'_>) -> f64| dots.iter().map(f);
    let left = of(|dot| dot.intensity).fold(0.25, f64::min) / 1.5;
    let right = of(|dot| dot.intensity).fold(ridge, f64::max) * 1.6;
    let bottom = of(|dot| dot.gflops).fold(slowest * left, f64::min) / 1.5;
    let top = of(|dot| dot.gflops).fold(peak, f64::max) * 1.5;
    Plot { area: AREA, x: Axis::Binary(left, right), y: Axis::Decimal(bottom, top) }
}

/// The roofs with their names; returns where those stand.
fn draw_roofs(svg: &mut Svg, plot: &Plot, peak: f64, reads: &[(&str, f64)]) -> Vec<Rect> {
    let Rect(left, _, width, _) = plot.area;
    let (Axis::Binary(least, most), Axis::Decimal(lowest, _)) = (plot.x, plot.y) else {
        return Vec::new();
    };
    let mut taken = Vec::new();
    let rise = plot.at(1.0, 1.0).1 - plot.at(1.0, 2.0).1;
    let run = plot.x(2.0) - plot.x(1.0);
    let degrees = -(rise / run).atan().to_degrees();
    // Names so far: the height of their lines at the left, and where they end.
    let mut names: Vec<(f64, f64)> = Vec::new();
    for (level, gbps) in reads {
        let from = least.max(lowest / gbps);
        svg.path("roof", &[plot.at(from, from * gbps), plot.at(peak / gbps, peak)]);
        let along = |distance: f64| {
            let radians = degrees.to_radians();
            let (x, y) = plot.at(from, from * gbps);
            (x + distance * radians.cos(), y + distance * radians.sin())
        };
        // Behind the name of a line that is near.
        let height = plot.y(least * gbps);
        let near = names.iter().filter(|(other, _)| (other - height).abs() < 22.0);
        let start = near.map(|(_, end)| end + 10.0).fold(14.0, f64::max);
        let text = format!("{level} {} GB/s", digits(*gbps));
        let length = text_width(&text, 10.5);
        names.push((height, start + length));
        let (x, y) = along(start);
        svg.turned_text("roof-name", Anchor::Start, (x - 3.5, y - 5.0), degrees, &text);
        taken.extend((0..=8).map(|i| {
            let (x, y) = along(start + f64::from(i) / 8.0 * length);
            Rect(x - 10.0, y - 16.0, 16.0, 16.0)
        }));
    }
    let fastest = reads.iter().map(|(_, gbps)| *gbps).fold(0.0, f64::max);
    let ridge = if fastest > 0.0 { (peak / fastest).max(least) } else { least };
    svg.path("roof", &[plot.at(ridge, peak), plot.at(most, peak)]);
    let text = format!("fused multiply-adds {} GFLOP/s", digits(peak));
    let y = plot.y(peak);
    svg.text("roof-name", Anchor::End, (left + width - 4.0, y - 6.0), &text);
    let length = text_width(&text, 10.5);
    taken.push(Rect(left + width - 4.0 - length, y - 17.0, length, 20.0));
    taken
}

/// Dots, filled where nothing is masked, and the names of those for which there is room.
fn draw_dots(svg: &mut Svg, plot: &Plot, dots: &[Dot<'_>], taken: &mut Vec<Rect>) {
    const RADIUS: f64 = 4.5;
    for dot in dots {
        let (x, y) = plot.at(dot.intensity, dot.gflops);
        taken.push(Rect(x - RADIUS, y - RADIUS, 2.0 * RADIUS, 2.0 * RADIUS));
    }
    for dot in dots {
        let key = &dot.record.key;
        let masked = if key.mask == "none" { "dot" } else { "ring" };
        let class = format!("{masked} {}", colours::of_operation(&key.op));
        let title = format!(
            "{key}: {} GFLOP/s, {} flop/byte, {:.0} % of peak",
            digits(dot.gflops),
            digits(dot.intensity),
            100.0 * dot.record.of_peak
        );
        svg.dot(&class, plot.at(dot.intensity, dot.gflops), RADIUS, &title);
    }
    for dot in dots.iter().filter(|dot| dot.record.key.mask == "none") {
        let at = plot.at(dot.intensity, dot.gflops);
        let text = dot.record.key.label();
        let size = (text_width(&text, LABEL), LABEL);
        let place = places(at, size).into_iter().find(|(_, _, rect)| {
            rect.is_within(plot.area) && !taken.iter().any(|other| rect.overlaps(*other))
        });
        if let Some((anchor, at, rect)) = place {
            svg.text("dot-name", anchor, at, &text);
            taken.push(rect);
        }
    }
}

/// Where a name may stand by its dot: anchor, point, and what it covers.
fn places((x, y): (f64, f64), (width, height): (f64, f64)) -> [(Anchor, (f64, f64), Rect); 6] {
    let right = |dy: f64| {
        (
            Anchor::Start,
            (x + 7.0, y + dy),
            Rect(x + 6.0, y + dy - height, width + 2.0, height + 3.0),
        )
    };
    let left = |dy: f64| {
        let rect = Rect(x - 8.0 - width, y + dy - height, width + 2.0, height + 3.0);
        (Anchor::End, (x - 7.0, y + dy), rect)
    };
    let middle = |dy: f64| {
        let rect = Rect(x - width / 2.0 - 1.0, y + dy - height, width + 2.0, height + 3.0);
        (Anchor::Middle, (x, y + dy), rect)
    };
    [right(3.5), left(3.5), middle(-8.0), middle(16.0), right(-6.0), left(13.0)]
}
