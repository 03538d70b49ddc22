//! A table for each family of operations and number of threads, instruction sets side by side.

use crate::ops::{self, Unit};
use crate::order::{grouped, unique};
use crate::record::Record;
use crate::table::{Table, digits};

/// More of them stand in a table of their own, so that lines end before column 100.
const ISAS_IN_A_TABLE: usize = 3;

/// All tables of `records`, those of instructions where they were counted.
pub fn tables(records: &[Record]) -> String {
    let groups = grouped(records, |record| Group::of(record));
    let counted = records.iter().any(|record| record.instructions.is_some());
    let mut text = String::new();
    for (group, members) in &groups {
        let isas = unique(members.iter().map(|record| record.key.who()));
        for isas in isas.chunks(ISAS_IN_A_TABLE) {
            text += &format!("\n{}\n{}", group.title(), speeds(members, isas));
        }
        if counted && group.threads == 1 {
            let title = format!("{}, {}: instructions of a call", group.family, group.dtype);
            text += &format!("\n{title}\n{}", instructions(members, &isas));
        }
    }
    text
}

/// What stands in one table.
#[derive(PartialEq)]
struct Group {
    family: String,
    form: &'static str,
    dtype: String,
    threads: u32,
    unit: Unit,
}

impl Group {
    fn of(record: &Record) -> Self {
        let key = &record.key;
        Group {
            family: key.family().to_owned(),
            form: ops::known(&key.op).map_or("", |op| op.form),
            dtype: key.dtype.clone(),
            threads: key.threads,
            unit: record.speed().1,
        }
    }

    fn title(&self) -> String {
        let Group { family, dtype, threads, unit, .. } = self;
        let s = if *threads == 1 { "" } else { "s" };
        let peak = match unit {
            Unit::Gflops => "the peak of fused multiply-adds",
            Unit::Gbps => "reading from where the operands fit",
        };
        let form = self.form;
        format!("{family}, {dtype}, {threads} thread{s}: {unit} and share of {peak}\nshape: {form}")
    }
}

fn of<'a>(members: &[&'a Record], isa: &str) -> Option<&'a Record> {
    members.iter().copied().find(|record| record.key.who() == isa)
}

fn speeds(records: &[&Record], isas: &[&str]) -> Table {
    let columns = isas.iter().flat_map(|isa| match *isa {
        "scalar" => vec!["scalar", "share"],
        isa => vec![isa, "share", "x"],
    });
    let mut table = Table::new(1, ["shape"].into_iter().chain(columns).chain(["±"]));
    for (label, members) in grouped(records.iter().copied(), |record| record.key.label()) {
        let scalar = of(&members, "scalar").map(|record| record.median_ns);
        let mut cells = vec![label];
        for isa in isas {
            let record = of(&members, isa);
            let cell = |f: fn(&Record) -> String| record.map_or("-".into(), f);
            cells.push(cell(|record| digits(record.speed().0)));
            cells.push(cell(|record| format!("{:.2}", record.of_peak)));
            if *isa != "scalar" {
                let ratio = record.zip(scalar).map(|(record, scalar)| scalar / record.median_ns);
                cells.push(ratio.map_or("-".into(), |ratio| format!("{ratio:.1}")));
            }
        }
        let spread = isas.iter().filter_map(|isa| of(&members, isa)).map(|record| record.spread);
        cells.push(format!("{:.0} %", 100.0 * spread.fold(0.0, f64::max)));
        table.row(cells);
    }
    table
}

fn instructions(records: &[&Record], isas: &[&str]) -> Table {
    let mut table = Table::new(1, ["shape"].into_iter().chain(isas.iter().copied()));
    for (label, members) in grouped(records.iter().copied(), |record| record.key.label()) {
        let count = |isa: &&str| of(&members, isa).and_then(|record| record.instructions);
        let cells = isas.iter().map(|isa| count(isa).map_or("-".into(), |n| n.to_string()));
        table.row([label].into_iter().chain(cells));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Key, Machine, OURS, SCHEMA};

    fn record(op: &str, shape: &str, mask: &str, isa: &str) -> Record {
        let key = Key {
            op: op.into(),
            dtype: "f32".into(),
            shape: shape.into(),
            mask: mask.into(),
            implementation: OURS.into(),
            isa: Some(isa.into()),
            threads: 1,
        };
        let machine = Machine {
            name: "m".into(),
            cpu: "c".into(),
            cores: 1,
            peaks: Vec::new(),
            reads: Vec::new(),
        };
        Record {
            schema: SCHEMA,
            key,
            median_ns: 1234.5,
            spread: 0.123,
            rounds: 5,
            gflops: Some(1234.5),
            gbps: None,
            of_peak: 0.951,
            flops: 1e6,
            bytes: 1e6,
            instructions: Some(123_456_789_012),
            machine,
        }
    }

    /// The longest names on four instruction sets: two tables of times, one of instructions.
    #[test]
    fn lines_end_before_column_100() {
        let mut records = Vec::new();
        for op in ops::OPERATIONS {
            for (shape, mask) in op.shapes.iter().flat_map(|s| op.masks.iter().map(move |m| (s, m)))
            {
                for isa in ["scalar", "neon", "avx2", "avx512"] {
                    records.push(record(op.name, shape, &mask.to_string(), isa));
                }
            }
        }
        let text = tables(&records);
        let longest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 100, "{longest}");
        assert_eq!(text.matches("attention, f32").count(), 3);
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let mut records = [("8x8x8", "scalar"), ("8x8x8", "avx2"), ("9x9x9", "avx2")]
            .map(|(shape, isa)| record("matmul", shape, "none", isa));
        records[1].median_ns /= 10.0;
        records.iter_mut().for_each(|record| record.instructions = None);
        let text = tables(&records);
        let cells = |shape: &str| {
            let line = text.lines().find(|line| line.starts_with(shape)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cells("8x8x8")[1..6], ["1234", "0.95", "1234", "0.95", "10.0"]);
        assert_eq!(cells("9x9x9")[1..6], ["-", "-", "1234", "0.95", "-"]);
    }
}
