//! Which charts a page has: each takes its records from those of a machine.

use super::bars::{self, Bar, Group};
use super::lines::{self, Line};
use super::{Measured, colours, roofline};
use crate::ops::{OPERATIONS, Operation, Unit};
use crate::order::{grouped, unique};
use crate::record::{OURS, Record};
use crate::table::digits;

/// A chart with what stands over it.
pub struct Chart {
    pub caption: String,
    /// Names with the classes of their colours.
    pub legend: Vec<(String, String)>,
    pub svg: String,
}

/// A roofline for each instruction set, the best first.
pub fn rooflines(of: &Measured) -> Vec<Chart> {
    let ours = |record: &&Record| record.key.implementation == OURS && record.key.threads == 1;
    let chart = |isa: &str| {
        let is = |record: &&Record| ours(record) && record.key.isa.as_deref() == Some(isa);
        let records: Vec<&Record> = of.records.iter().filter(is).collect();
        let svg = roofline::roofline(&of.machine, isa, &records).filter(|_| !records.is_empty())?;
        let shown = |name: &str| records.iter().any(|r| colours::name_of(&r.key.op) == name);
        let legend = colours::operations().into_iter().filter(|(name, _)| shown(name));
        let mut legend: Vec<_> = legend.map(|(name, class)| (name.to_owned(), class)).collect();
        if records.iter().any(|record| record.key.mask != "none") {
            legend.push(("with a mask".into(), "hollow".into()));
        }
        Some(Chart { caption: isa.to_owned(), legend, svg })
    };
    of.machine.peaks.iter().rev().filter_map(|peak| chart(&peak.isa)).collect()
}

/// Bars of each family of operations on one thread, by shape and instruction set.
pub fn bars(of: &Measured) -> Vec<Chart> {
    let chart = |family: &str| {
        let records = of_family(of, family);
        let unit = records.first()?.speed().1;
        let whos = unique(records.iter().map(|record| record.key.who()));
        let groups = groups(
            &records,
            |record| record.key.label(),
            |record| Bar {
                class: colours::of_who(record.key.who(), &whos),
                speed: record.speed().0,
                note: format!(" · {:.0} %", 100.0 * record.of_peak),
                title: title(record),
            },
        );
        let legend = whos.iter().map(|who| ((*who).to_owned(), colours::of_who(who, &whos)));
        let caption = format!("{family}: {unit} and share of the peak");
        let svg = bars::bars(&caption, unit, &groups);
        Some(Chart { legend: legend.collect(), svg, caption })
    };
    families().into_iter().filter_map(chart).collect()
}

/// Speed over size, for operations with shapes that differ in size alone.
pub fn sizes(of: &Measured) -> Vec<Chart> {
    OPERATIONS.iter().filter_map(|op| sizes_of(of, op)).collect()
}

fn sizes_of(of: &Measured, op: &Operation) -> Option<Chart> {
    let records: Vec<&Record> = of
        .records
        .iter()
        .filter(|record| record.key.op == op.name && record.key.mask == "none")
        .filter(|record| record.key.threads == 1)
        .collect();
    let unit = records.first()?.speed().1;
    let whos = unique(records.iter().map(|record| record.key.who()));
    let line = |who: &&str| {
        let of_who = records.iter().filter(|record| record.key.who() == *who);
        let point = |record: &&Record| {
            let size = (op.series.at)(&record.key.shape)?;
            Some((size, record.speed().0, title(record)))
        };
        let mut points: Vec<_> = of_who.filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { class: colours::of_who(who, &whos), name: (*who).to_owned(), points }
    };
    let drawn: Vec<Line> = whos.iter().map(line).filter(|line| line.points.len() > 1).collect();
    let axes = [op.series.label, &format!("speed, {unit}")];
    let caption = format!("{}: speed by size", op.name);
    let svg = lines::lines(&caption, axes, &drawn, false);
    (!drawn.is_empty()).then_some(Chart { legend: Vec::new(), svg, caption })
}

/// How many shapes are drawn over threads: those with the most work.
const SHAPES_OVER_THREADS: usize = 6;

/// Speed on several threads over that on one, with the best instruction set.
pub fn threads(of: &Measured) -> Vec<Chart> {
    let several = |op: &str| of.records.iter().any(|r| r.key.op == op && r.key.threads > 1);
    let ops = OPERATIONS.iter().filter(|op| several(op.name));
    ops.filter_map(|op| threads_of(of, op.name)).collect()
}

fn threads_of(of: &Measured, op: &str) -> Option<Chart> {
    let best = of.machine.peaks.iter().map(|peak| &*peak.isa).rfind(|isa| {
        of.records.iter().any(|record| record.key.op == op && record.key.who() == *isa)
    })?;
    let records = of.records.iter().filter(|r| r.key.op == op && r.key.who() == best);
    let records: Vec<&Record> = records.collect();
    let mut ones: Vec<&Record> = records.iter().copied().filter(|r| r.key.threads == 1).collect();
    ones.sort_by(|a, b| b.flops.total_cmp(&a.flops));
    ones.truncate(SHAPES_OVER_THREADS);
    let line = |(index, one): (usize, &&Record)| {
        let same = |record: &&&Record| record.key.label() == one.key.label();
        let point = |record: &&Record| {
            let speed_up = one.median_ns / record.median_ns;
            (f64::from(record.key.threads), speed_up, title(record))
        };
        let mut points: Vec<_> = records.iter().filter(same).map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { class: colours::nth(index + 1), name: one.key.label(), points }
    };
    let drawn: Vec<Line> = ones.iter().enumerate().map(line).collect();
    let caption = format!("{op}, {best}: speed over one thread");
    let svg = lines::lines(&caption, ["threads", "speed over one thread"], &drawn, true);
    (!drawn.is_empty()).then_some(Chart { legend: Vec::new(), svg, caption })
}

/// Bars of each family on one thread, each machine with its fastest instruction set.
pub fn machines(all: &[Measured]) -> Vec<Chart> {
    let legend =
        || all.iter().enumerate().map(|(i, of)| (of.machine.name.clone(), colours::nth(i + 1)));
    let chart = |family: &str| {
        let mut best: Vec<(usize, &Record)> = Vec::new();
        for (index, of) in all.iter().enumerate() {
            let ours = of_family(of, family).into_iter().filter(|r| r.key.implementation == OURS);
            for record in ours {
                let label = record.key.label();
                let same = |other: &&mut (usize, &Record)| {
                    other.0 == index && other.1.key.label() == label
                };
                match best.iter_mut().find(same) {
                    Some(other) if other.1.median_ns <= record.median_ns => {}
                    Some(other) => other.1 = record,
                    None => best.push((index, record)),
                }
            }
        }
        let unit = best.first()?.1.speed().1;
        let groups = groups(
            &best,
            |(_, record)| record.key.label(),
            |(index, record)| Bar {
                class: colours::nth(index + 1),
                speed: record.speed().0,
                note: format!(" {}", record.key.who()),
                title: format!("{}: {}", record.machine.name, title(record)),
            },
        );
        let groups: Vec<_> = groups.into_iter().filter(|group| group.bars.len() > 1).collect();
        let caption = format!("{family}: {unit} by machine");
        let svg = bars::bars(&caption, unit, &groups);
        (!groups.is_empty()).then_some(Chart { legend: legend().collect(), svg, caption })
    };
    families().into_iter().filter_map(chart).collect()
}

fn families() -> Vec<&'static str> {
    unique(OPERATIONS.iter().map(|op| op.family))
}

/// Records of a family of operations on one thread.
fn of_family<'a>(of: &'a Measured, family: &str) -> Vec<&'a Record> {
    let is = |record: &&Record| record.key.threads == 1 && record.key.family() == family;
    of.records.iter().filter(is).collect()
}

/// A bar for each item, in groups of the same name.
fn groups<T>(items: &[T], name: impl Fn(&T) -> String, bar: impl Fn(&T) -> Bar) -> Vec<Group> {
    let groups = grouped(items, |item| name(item)).into_iter();
    groups
        .map(|(name, items)| Group { name, bars: items.into_iter().map(&bar).collect() })
        .collect()
}

/// What a mark says under the pointer.
fn title(record: &Record) -> String {
    let (speed, unit) = record.speed();
    format!(
        "{}: {} {unit}, {:.0} % of the peak, {} us ± {:.0} %",
        record.key,
        digits(speed),
        100.0 * record.of_peak,
        digits(record.median_ns / 1e3),
        100.0 * record.spread
    )
}

/// Speed and unit, for a table.
pub fn speed(record: &Record) -> String {
    let (speed, unit): (f64, Unit) = record.speed();
    format!("{} {unit}", digits(speed))
}
