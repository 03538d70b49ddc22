//! The page around the charts.

use std::fmt::Write;

use super::Measured;
use super::charts::{self, Chart};
use super::svg::escape;
use crate::order::unique;
use crate::record::{Machine, Record};
use crate::table::digits;

const STYLE: &str = include_str!("style.css");

/// All of it.
pub fn page(machines: &[Measured]) -> String {
    let mut body = String::new();
    for of in machines {
        body += &machine(of);
    }
    if machines.len() > 1 {
        body += &section(
            "Machines side by side",
            "One thread, each machine with its fastest instruction set.",
            &charts::machines(machines),
        );
    }
    body += &numbers(machines);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>masktile by instruction set</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>masktile by instruction set</h1>\n\
         <p>Medians of interleaved rounds. Point at a mark for its numbers. Masked work counts as \
         if it were done, so that a mask which saves work shows as speed.</p>\n{body}</body>\n</html>\n"
    )
}

fn machine(of: &Measured) -> String {
    let Machine { name, cpu, cores, .. } = &of.machine;
    let s = if *cores == 1 { "" } else { "s" };
    let of_cpu = if name == cpu { String::new() } else { format!("{cpu}, ") };
    let about = escape(&format!("{of_cpu}{cores} core{s}"));
    let mut text = format!("<h2>{}</h2>\n<p>{about}</p>\n{}", escape(name), limits(&of.machine));
    text += &section(
        "Rooflines",
        "What each kernel reaches on one thread, under the measured limits of arithmetic and of \
         reading from each level of cache.",
        &charts::rooflines(of),
    );
    text += &section("By shape", "One thread.", &charts::bars(of));
    text += &section("By size", "One thread, nothing masked.", &charts::sizes(of));
    text += &section(
        "By threads",
        "The dashed line is the ideal: as many times the speed as there are threads.",
        &charts::threads(of),
    );
    text
}

fn limits(machine: &Machine) -> String {
    let levels = unique(machine.reads.iter().map(|read| &*read.level));
    let heads = levels.iter().map(|level| format!("<th>{} GB/s</th>", escape(level)));
    let mut rows = String::new();
    for peak in &machine.peaks {
        let reads = machine.reads.iter().filter(|read| read.isa == peak.isa);
        let reads: String = reads.map(|read| format!("<td>{}</td>", digits(read.gbps))).collect();
        let (isa, gflops) = (escape(&peak.isa), digits(peak.gflops));
        // Writing to a string does not fail.
        let _ = writeln!(rows, "<tr><td class=\"word\">{isa}</td><td>{gflops}</td>{reads}</tr>");
    }
    format!(
        "<div class=\"machine wide\"><table>\n<tr><th class=\"word\">limits of one thread</th>\
         <th>fused multiply-adds, GFLOP/s</th>{}</tr>\n{rows}</table></div>\n",
        heads.collect::<String>()
    )
}

/// Nothing where there are no charts.
fn section(title: &str, about: &str, charts: &[Chart]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    let figures: String = charts.iter().map(figure).collect();
    format!("<h2>{title}</h2>\n<p>{about}</p>\n<div class=\"charts\">\n{figures}</div>\n")
}

fn figure(chart: &Chart) -> String {
    let Chart { caption, legend, svg } = chart;
    let entry = |(name, class): &(String, String)| {
        format!("<span class=\"{class}\">{}</span>", escape(name))
    };
    let legend: String = legend.iter().map(entry).collect();
    let caption = escape(caption);
    format!(
        "<figure>\n<figcaption>{caption}</figcaption>\n<div class=\"legend\">{legend}</div>\n{svg}</figure>\n"
    )
}

/// Every record, for who does not see charts or wants to copy.
fn numbers(machines: &[Measured]) -> String {
    let mut rows = String::new();
    for record in machines.iter().flat_map(|of| &of.records) {
        rows += &row(record);
    }
    format!(
        "<details>\n<summary>All numbers</summary>\n<div class=\"wide\"><table>\n\
         <tr><th class=\"word\">machine</th><th class=\"word\">what</th><th>time, us</th><th>± %</th>\
         <th>speed</th><th>of peak</th><th>instructions</th></tr>\n{rows}</table></div>\n</details>\n"
    )
}

fn row(record: &Record) -> String {
    let count = record.instructions.map_or(String::new(), |count| count.to_string());
    format!(
        "<tr><td class=\"word\">{}</td><td class=\"word\">{}</td><td>{}</td><td>{:.0}</td>\
         <td>{}</td><td>{:.3}</td><td>{count}</td></tr>\n",
        escape(&record.machine.name),
        escape(&record.key.to_string()),
        digits(record.median_ns / 1e3),
        100.0 * record.spread,
        charts::speed(record),
        record.of_peak,
    )
}
