//! The program as it is used: what it prints, what it writes, its exit statuses.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use masktile::Isa;
use masktile_bench::ops::OPERATIONS;
use masktile_bench::record::{self, Output, Record};

/// Exit status, standard output and standard error.
type Outcome = (i32, String, String);

fn bench(args: &[&str]) -> Outcome {
    outcome(command(args))
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masktile-bench"));
    command.args(args).env_remove("MASKTILE_ISA");
    command
}

fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A place for a test's files, which other tests do not use.
fn place(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Real records of small cases, measured once for a test.
fn measured(place: &Path, args: &[&str]) -> Vec<Record> {
    let file = place.join("measured.jsonl");
    let small = ["run", "--rounds", "5", "--json", text(&file)];
    let (status, _, errors) = bench(&[&small[..], args].concat());
    assert_eq!(status, 0, "{errors}");
    record::read(&file).unwrap()
}

fn write(path: &Path, records: &[Record]) {
    Output::create(path).unwrap().write(records).unwrap();
}

#[test]
fn run_prints_and_writes_every_instruction_set() {
    let place = place("run");
    let file = place.join("run.jsonl");
    let (status, output, errors) = bench(&[
        "run",
        "--op",
        "matmul,softmax,attention,silu",
        "--shape",
        "16x16x16,4x8x8x8,64",
        "--mask",
        "none,causal",
        "--threads",
        "1,2",
        "--rounds",
        "5",
        "--machine",
        "here",
        "--json",
        text(&file),
    ]);
    assert_eq!(status, 0, "{errors}");
    let longest = output.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{output}");
    let records = record::read(&file).unwrap();
    for isa in Isa::available() {
        let of = |op: &str, mask: &str, threads| {
            let found = records.iter().find(|record| {
                let key = &record.key;
                key.op == op
                    && key.mask == mask
                    && key.threads == threads
                    && key.who() == isa.name()
            });
            found.unwrap_or_else(|| panic!("no {isa} {op} {mask} {threads}"))
        };
        assert!(output.contains(isa.name()));
        for record in
            [of("matmul", "none", 1), of("matmul", "none", 2), of("attention", "causal", 1)]
        {
            assert!(record.gflops.unwrap() > 0.0 && record.gbps.is_none());
        }
        for record in [of("softmax", "causal", 1), of("silu", "none", 1)] {
            assert!(record.gbps.unwrap() > 0.0 && record.gflops.is_none());
        }
        let record = of("matmul", "none", 1);
        assert_eq!((record.flops, record.bytes), (8192.0, 3072.0));
        assert_eq!(record.machine.name, "here");
        assert!(
            record.machine.peaks.iter().any(|peak| peak.isa == isa.name() && peak.gflops > 0.0)
        );
        assert!((record.gflops.unwrap() - record.flops / record.median_ns).abs() < 1e-9);
    }
    // No parts for threads: on one alone.
    assert!(!records.iter().any(|record| record.key.op == "softmax" && record.key.threads == 2));
}

#[test]
fn ctrl_c_prints_what_was_measured() {
    let place = place("interrupt");
    let file = place.join("run.jsonl");
    let mut child = command(&["run", "--op", "matmul", "--json", text(&file)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    output.read_line(&mut text).unwrap();
    assert!(text.contains("pinned"), "{text}");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    output.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(text.contains("interrupted") && text.contains("matmul, f32, 1 thread"), "{text}");
    let all: usize = OPERATIONS.iter().find(|op| op.name == "matmul").unwrap().shapes.len();
    let shapes = record::read(&file).unwrap().len().div_ceil(Isa::available().count());
    assert!(0 < shapes && shapes < all, "{shapes}");
}

#[test]
fn verify_passes_on_this_machine() {
    let (status, output, errors) = bench(&["verify"]);
    assert_eq!(status, 0, "{output}{errors}");
    for name in OPERATIONS.iter().map(|op| op.name).chain(Isa::available().map(Isa::name)) {
        assert!(output.contains(name), "{name}");
    }
}

#[test]
fn info_tells_what_is_chosen() {
    let (status, output, errors) = bench(&["info"]);
    assert_eq!(status, 0, "{errors}");
    let best = Isa::detect();
    assert!(output.contains(&format!("chosen     {best}: the best")), "{output}");
    for word in ["processor", "caches", "GFLOP/s", "DRAM GB/s"] {
        assert!(output.contains(word), "{word}");
    }
    let mut command = command(&["info"]);
    command.env("MASKTILE_ISA", "scalar");
    let (status, output, _) = outcome(command);
    assert_eq!(status, 0);
    assert!(output.contains("chosen     scalar: MASKTILE_ISA names it"), "{output}");
}

/// Changes in time count beyond both spreads together, changes in instructions always.
#[test]
fn compare_tells_regressions_from_noise() {
    let place = place("compare");
    let [old, new] = ["old", "new"].map(|name| place.join(name));
    let mut records = measured(&place, &["--op", "silu", "--shape", "64", "--isa", "scalar"]);
    let [record] = &mut records[..] else { panic!("one case") };
    record.spread = 0.02;
    record.instructions = Some(1000);
    write(&old, std::slice::from_ref(record));
    let compare = |args: &[&str], median: f64, spread, instructions| {
        let mut record = record.clone();
        record.median_ns *= median;
        record.spread = spread;
        record.instructions = instructions;
        write(&new, &[record]);
        bench(&[&["compare", text(&old), text(&new)], args].concat())
    };
    let cases = [
        (1.0, 0.02, Some(1000), 0, "no regression"),
        (1.2, 0.02, Some(1000), 1, "0 faster and 1 slower"),
        (1.2, 0.3, Some(1000), 0, "0 faster and 0 slower"),
        (0.8, 0.02, Some(1000), 0, "1 faster and 0 slower"),
        (1.045, 0.01, Some(1000), 0, "0 faster and 1 slower"),
        (1.0, 0.02, Some(1100), 1, "REGRESSED"),
        (1.0, 0.02, None, 0, "no regression"),
    ];
    for (median, spread, instructions, wanted, says) in cases {
        let (status, output, errors) = compare(&[], median, spread, instructions);
        let case = format!("{median} {spread} {instructions:?}: {output}{errors}");
        assert_eq!(status, wanted, "{case}");
        assert!(output.contains(says), "{case}");
    }
    assert_eq!(compare(&["--fail-below", "0.8"], 1.2, 0.02, None).0, 0);
    assert_eq!(compare(&["--fail-below", "0.99"], 1.045, 0.01, None).0, 1);
}

#[test]
fn report_draws_every_chart_without_a_network() {
    let place = place("report");
    let files = ["here", "there"].map(|name| place.join(name));
    let mut records = measured(
        &place,
        &[
            "--op",
            "matmul,attention",
            "--shape",
            "16x16x16,32x32x32,8x64x64x64",
            "--mask",
            "none,causal",
            "--threads",
            "1,2",
            "--machine",
            "here",
        ],
    );
    write(&files[0], &records);
    for record in &mut records {
        record.machine.name = "<there>".into();
        record.median_ns /= 2.0;
    }
    // A peer, and an operation that this version does not know.
    let mut other = records[0].clone();
    other.key.implementation = "peer".into();
    other.key.isa = None;
    records.push(other.clone());
    other.key.op = "convolution".into();
    records.push(other);
    write(&files[1], &records);
    let out = place.join("page");
    let (status, _, errors) =
        bench(&["report", text(&files[0]), text(&files[1]), "--out", text(&out)]);
    assert_eq!(status, 0, "{errors}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    // Of each machine: a roofline an instruction set, bars of 2 families, 1 over sizes, 2 over
    // threads; and 2 by machine.
    let charts = 2 * (Isa::available().count() + 2 + 1 + 2) + 2;
    assert_eq!(page.matches("<svg").count(), charts);
    for wanted in [
        "Roofline of scalar on here",
        "&lt;there&gt;",
        "speed, GFLOP/s",
        "flop/byte",
        "peer",
        "convolution",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for unwanted in ["<there>", "http", "<script", "NaN", "inf"] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
}

/// Counted twice it is the same number; where valgrind is missing, that is said.
#[test]
fn instructions_are_counted_or_valgrind_is_asked_for() {
    let args = ["run", "--op", "matmul", "--shape", "16x16x16", "--isa", "scalar", "--callgrind"];
    let has_valgrind = Command::new("valgrind").arg("--version").output().is_ok();
    println!("valgrind: {has_valgrind}");
    if !has_valgrind {
        let (status, _, errors) = bench(&args);
        assert_eq!(status, 2);
        assert!(errors.contains("needs valgrind"), "{errors}");
        return;
    }
    let place = place("callgrind");
    let count = || measured(&place, &args[1..])[0].instructions.unwrap();
    let first = count();
    assert!(first > 16 * 16 * 16 / 16, "{first}");
    assert_eq!(first, count());
}

#[test]
fn bad_input_gets_one_clear_line_and_status_2() {
    let place = place("bad");
    let [good, newer, none, broken, empty] =
        ["good", "newer", "none", "broken", "empty"].map(|name| place.join(name));
    let records = measured(&place, &["--op", "silu", "--shape", "64", "--isa", "scalar"]);
    write(&good, &records);
    let line = fs::read_to_string(&good).unwrap();
    fs::write(&newer, line.clone() + &line.replace("\"schema\":1", "\"schema\":2")).unwrap();
    fs::write(&none, line.replace("\"schema\":1,", "")).unwrap();
    fs::write(&broken, "{\"schema\":1,").unwrap();
    fs::write(&empty, "\n").unwrap();
    let mut others = records;
    others[0].key.shape = "65".into();
    let other = place.join("other");
    write(&other, &others);
    let missing = place.join("missing");
    let out = place.join("page");
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--isa", "avx1024"], "wanted one of scalar"),
        (&["run", "--op", "convolution"], "wanted one of matmul"),
        (&["run", "--op", "matmul", "--shape", "12x"], "given \"12x\", wanted m x k x n"),
        (&["run", "--shape", "1x2x3x4x5x6"], "wanted m x k x n"),
        (&["run", "--op", "matmul", "--shape", "9999999x9999999x9"], "wanted at most 8 GiB"),
        (&["run", "--mask", "holes"], "possible values: none, causal"),
        (&["run", "--op", "silu", "--mask", "causal"], "no operation has such a mask"),
        (&["run", "--threads", "0"], "--threads"),
        (&["run", "--json", "/nonexistent/file"], "cannot write /nonexistent/file"),
        (&["run", "--quik"], "unexpected argument '--quik'"),
        (&["walk"], "unrecognized subcommand 'walk'"),
        (&["report", text(&missing), "--out", text(&out)], "cannot read"),
        (&["report", text(&newer), "--out", text(&out)], "newer:2: schema 2, this program reads 1"),
        (&["report", text(&none), "--out", text(&out)], "none:1: no schema"),
        (&["report", text(&broken), "--out", text(&out)], "broken:1: not a JSON object"),
        (&["report", text(&empty), "--out", text(&out)], "empty has no records"),
        (&["report", text(&good), "--out", text(&good)], "cannot make"),
        (&["compare", text(&good), text(&missing)], "cannot read"),
        (&["compare", text(&good), text(&newer)], "schema 2"),
        (&["compare", text(&good), text(&other)], "no measurement in common"),
        (
            &["compare", text(&good), text(&good), "--fail-below", "7"],
            "wanted a number from 0 to 1",
        ),
        (&["verify", "--op", "convolution"], "wanted one of matmul"),
    ];
    for (args, says) in cases {
        let (status, _, errors) = bench(args);
        assert_eq!(status, 2, "{args:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{args:?}: {errors}");
        assert!(
            errors.starts_with("masktile-bench: ") && errors.contains(says),
            "{args:?}: {errors}"
        );
    }
    let mut command = command(&["info"]);
    command.env("MASKTILE_ISA", "avx1024");
    let (status, _, errors) = outcome(command);
    assert_eq!(status, 2);
    assert!(errors.contains("MASKTILE_ISA") && errors.lines().count() == 1, "{errors}");
}
