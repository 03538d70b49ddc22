//! The numbers as tables for a person, at most 100 columns wide, and as JSON lines for a program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use masktile::Isa;
use serde::Serialize;

use crate::limits::Limits;
use crate::measure::Time;

/// One implementation at one shape, as it was measured.
pub struct Point {
    pub op: &'static str,
    pub dtype: &'static str,
    pub shape: String,
    pub implementation: &'static str,
    /// Of masktile; peers choose theirs.
    pub isa: Option<Isa>,
    pub threads: u32,
    pub flops: f64,
    pub time: Time,
}

/// One implementation at one shape, beside the machine's peak and the best peer.
#[derive(Serialize)]
struct Row {
    op: &'static str,
    dtype: &'static str,
    shape: String,
    #[serde(rename = "impl")]
    implementation: &'static str,
    isa: Option<&'static str>,
    threads: u32,
    median_ns: f64,
    spread: f64,
    gflops: f64,
    of_peak: f64,
    ratio_to_best_peer: Option<f64>,
}

impl Row {
    fn new(point: &Point, limits: &Limits, best_peer: Option<&Point>) -> Self {
        let Time { median_ns, spread } = point.time;
        let gflops = point.flops / median_ns;
        let peak = point.isa.map_or_else(|| limits.best_peak(), |isa| limits.peak(isa));
        let best_peer = best_peer.filter(|_| point.isa.is_some());
        Row {
            op: point.op,
            dtype: point.dtype,
            shape: point.shape.clone(),
            implementation: point.implementation,
            isa: point.isa.map(Isa::name),
            threads: point.threads,
            median_ns,
            spread,
            gflops,
            of_peak: gflops / peak,
            ratio_to_best_peer: best_peer.map(|peer| peer.time.median_ns / median_ns),
        }
    }

    fn is_peer(&self) -> bool {
        self.isa.is_none()
    }

    fn column(&self) -> Column {
        (self.implementation, self.isa)
    }
}

/// An implementation, and its instruction set if it is masktile.
type Column = (&'static str, Option<&'static str>);

/// The rows of one operation, those of a shape together.
pub struct Report {
    shapes: Vec<Vec<Row>>,
}

impl Report {
    /// `points` are in the order of their shapes.
    pub fn new(points: &[Point], limits: &Limits) -> Self {
        let same_shape = |a: &Point, b: &Point| a.shape == b.shape;
        let rows = |points: &[Point]| {
            let peers = points.iter().filter(|point| point.isa.is_none());
            let best = peers.min_by(|a, b| a.time.median_ns.total_cmp(&b.time.median_ns));
            points.iter().map(|point| Row::new(point, limits, best)).collect()
        };
        Report { shapes: points.chunk_by(same_shape).map(rows).collect() }
    }

    /// The speeds, then what they are of the peak and of the best peer.
    pub fn print(&self) {
        let columns = self.columns();
        self.print_speeds(&columns);
        let ours: Vec<_> = columns.into_iter().filter(|(_, isa)| isa.is_some()).collect();
        if !ours.is_empty() {
            self.print_ratios(&ours);
        }
    }

    /// Every column that some shape has, ours first.
    fn columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for row in self.shapes.iter().flatten() {
            if !columns.contains(&row.column()) {
                columns.push(row.column());
            }
        }
        columns.sort_by_key(|(_, isa)| isa.is_none());
        columns
    }

    fn print_speeds(&self, columns: &[Column]) {
        println!("\nGFLOP/s");
        let heads: Vec<_> = columns.iter().map(|column| heading(*column)).collect();
        line("", heads.iter().map(|[upper, _]| *upper));
        line("m x k x n", heads.iter().map(|[_, lower]| *lower));
        for rows in &self.shapes {
            let cell = |column: &Column| find(rows, *column).map_or("-".into(), speed);
            line(name(rows), columns.iter().map(cell));
        }
        println!("t: B is stored n x k");
    }

    fn print_ratios(&self, ours: &[Column]) {
        println!("\nShare of the peak of fused multiply-adds; speed over that of the best peer");
        let (isas, blank) =
            (ours.iter().map(|(_, isa)| isa.unwrap_or("")), ours.iter().map(|_| ""));
        line("", blank.clone().map(|_| "of peak").chain(blank.map(|_| "of peer")));
        line("m x k x n", isas.clone().chain(isas).chain(["best peer"]));
        for rows in &self.shapes {
            let shares = ours.iter().map(|column| ratio(find(rows, *column).map(share)));
            let ratios = ours.iter().map(|column| ratio(find(rows, *column).and_then(to_peer)));
            let best = best_peer(rows).map_or("-", |row| row.implementation).to_owned();
            line(name(rows), shares.chain(ratios).chain([best]));
        }
        let mean = |of: fn(&Row) -> Option<f64>| {
            ours.iter().map(move |column| ratio(self.geometric_mean(*column, of)))
        };
        line("geometric mean", mean(|row| Some(share(row))).chain(mean(to_peer)));
    }

    /// Over the shapes that have such a number; none if no shape has.
    fn geometric_mean(&self, column: Column, of: fn(&Row) -> Option<f64>) -> Option<f64> {
        let rows = self.shapes.iter().filter_map(|rows| find(rows, column));
        let logs: Vec<f64> = rows.filter_map(of).map(f64::ln).collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    }
}

/// All rows, one JSON object a line.
pub fn write_json(reports: &[Report], path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for row in reports.iter().flat_map(|report| report.shapes.iter().flatten()) {
        serde_json::to_writer(&mut file, row)?;
        writeln!(file)?;
    }
    Ok(file.flush()?)
}

/// The two lines over a column, of at most 7 letters.
fn heading((implementation, isa): Column) -> [&'static str; 2] {
    match (implementation, isa) {
        (_, Some(isa)) => ["ours", isa],
        ("matrixmultiply", _) => ["matrix-", "mult."],
        ("openblas", _) => ["open-", "blas"],
        ("rten-gemm", _) => ["rten-", "gemm"],
        (short, _) => ["", short],
    }
}

fn line(first: &str, cells: impl Iterator<Item = impl AsRef<str>>) {
    let cells: String = cells.map(|cell| format!(" {:>7}", cell.as_ref())).collect();
    println!("{}", format!("{first:<14}{cells}").trim_end());
}

fn name(rows: &[Row]) -> &str {
    rows.first().map_or("", |row| &row.shape)
}

fn find(rows: &[Row], column: Column) -> Option<&Row> {
    rows.iter().find(|row| row.column() == column)
}

fn best_peer(rows: &[Row]) -> Option<&Row> {
    let peers = rows.iter().filter(|row| row.is_peer());
    peers.min_by(|a, b| a.median_ns.total_cmp(&b.median_ns))
}

fn speed(row: &Row) -> String {
    format!("{:.1}", row.gflops)
}

fn share(row: &Row) -> f64 {
    row.of_peak
}

fn to_peer(row: &Row) -> Option<f64> {
    row.ratio_to_best_peer
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
}
