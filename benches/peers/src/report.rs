//! The numbers as tables for a person, at most 100 columns wide.

use masktile_bench::record::Record;

/// A record beside the best peer at the same shape.
struct Row<'a> {
    record: &'a Record,
    /// The best peer's time over ours; none for peers.
    ratio_to_best_peer: Option<f64>,
}

impl<'a> Row<'a> {
    fn is_peer(&self) -> bool {
        self.record.key.isa.is_none()
    }

    fn column(&self) -> Column<'a> {
        (&self.record.key.implementation, self.record.key.isa.as_deref())
    }
}

/// An implementation, and its instruction set if it is masktile.
type Column<'a> = (&'a str, Option<&'a str>);

/// The rows of one operation, those of a shape together.
pub struct Report<'a> {
    shapes: Vec<Vec<Row<'a>>>,
}

impl<'a> Report<'a> {
    /// `records` are in the order of their shapes.
    pub fn new(records: &'a [Record]) -> Self {
        let same_shape = |a: &Record, b: &Record| a.key.shape == b.key.shape;
        let rows = |records: &'a [Record]| {
            let peers = records.iter().filter(|record| record.key.isa.is_none());
            let best = peers.map(|peer| peer.median_ns).min_by(f64::total_cmp);
            let row = |record: &'a Record| {
                let best = best.filter(|_| record.key.isa.is_some());
                Row { record, ratio_to_best_peer: best.map(|best| best / record.median_ns) }
            };
            records.iter().map(row).collect()
        };
        Report { shapes: records.chunk_by(same_shape).map(rows).collect() }
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
    fn columns(&self) -> Vec<Column<'a>> {
        let mut columns: Vec<Column<'a>> = Vec::new();
        for row in self.shapes.iter().flatten() {
            if !columns.contains(&row.column()) {
                columns.push(row.column());
            }
        }
        columns.sort_by_key(|(_, isa)| isa.is_none());
        columns
    }

    fn print_speeds(&self, columns: &[Column<'_>]) {
        println!("\nGFLOP/s");
        let heads: Vec<_> = columns.iter().map(|column| heading(*column)).collect();
        line("", heads.iter().map(|[upper, _]| *upper));
        line("m x k x n", heads.iter().map(|[_, lower]| *lower));
        for rows in &self.shapes {
            let cell = |column: &Column<'_>| find(rows, *column).map_or("-".into(), speed);
            line(name(rows), columns.iter().map(cell));
        }
        println!("t: B is stored n x k");
    }

    fn print_ratios(&self, ours: &[Column<'_>]) {
        println!("\nShare of the peak of fused multiply-adds; speed over that of the best peer");
        let (isas, blank) =
            (ours.iter().map(|(_, isa)| isa.unwrap_or("")), ours.iter().map(|_| ""));
        line("", blank.clone().map(|_| "of peak").chain(blank.map(|_| "of peer")));
        line("m x k x n", isas.clone().chain(isas).chain(["best peer"]));
        for rows in &self.shapes {
            let shares = ours.iter().map(|column| ratio(find(rows, *column).map(share)));
            let ratios = ours.iter().map(|column| ratio(find(rows, *column).and_then(to_peer)));
            let best = best_peer(rows).map_or("-", |row| &row.record.key.implementation).to_owned();
            line(name(rows), shares.chain(ratios).chain([best]));
        }
        let mean = |of: fn(&Row<'_>) -> Option<f64>| {
            ours.iter().map(move |column| ratio(self.geometric_mean(*column, of)))
        };
        line("geometric mean", mean(|row| Some(share(row))).chain(mean(to_peer)));
    }

    /// Over the shapes that have such a number; none if no shape has.
    fn geometric_mean(&self, column: Column<'_>, of: fn(&Row<'_>) -> Option<f64>) -> Option<f64> {
        let rows = self.shapes.iter().filter_map(|rows| find(rows, column));
        let logs: Vec<f64> = rows.filter_map(of).map(f64::ln).collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    }
}

/// The two lines over a column, of at most 7 letters.
fn heading((implementation, isa): Column<'_>) -> [&str; 2] {
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

fn name<'a>(rows: &[Row<'a>]) -> &'a str {
    rows.first().map_or("", |row| &row.record.key.shape)
}

fn find<'r, 'a>(rows: &'r [Row<'a>], column: Column<'_>) -> Option<&'r Row<'a>> {
    rows.iter().find(|row| row.column() == column)
}

fn best_peer<'r, 'a>(rows: &'r [Row<'a>]) -> Option<&'r Row<'a>> {
    let peers = rows.iter().filter(|row| row.is_peer());
    peers.min_by(|a, b| a.record.median_ns.total_cmp(&b.record.median_ns))
}

fn speed(row: &Row<'_>) -> String {
    format!("{:.1}", row.record.speed().0)
}

fn share(row: &Row<'_>) -> f64 {
    row.record.of_peak
}

fn to_peer(row: &Row<'_>) -> Option<f64> {
    row.ratio_to_best_peer
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
}
