//! Which instruction set is used: detection, forcing by API, and the environment variable, which
//! is read once a process, so each of its cases is a process of its own (this binary again).

use std::process::Command;

use masktile::{Isa, MatRef, isa};

#[test]
fn detection_agrees_with_the_standard_library() {
    let names: Vec<&str> = Isa::available().map(Isa::name).collect();
    assert_eq!(names[0], "scalar");
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        assert_eq!(names.contains(&"avx2"), avx2);
        assert_eq!(names.contains(&"avx512"), avx512);
    }
    #[cfg(target_arch = "aarch64")]
    assert_eq!(names, ["scalar", "neon"]);
    // An emulated processor says beforehand what it has.
    if let Ok(wanted) = std::env::var("MASKTILE_TEST_ISAS") {
        assert_eq!(names.join(","), wanted);
    }
    println!("available: {names:?}");
    assert_eq!(Isa::detect().name(), *names.last().unwrap());
}

#[test]
fn names() {
    for isa in Isa::available() {
        assert_eq!(isa::named(isa.name()), Ok(isa));
        assert_eq!(isa::named(&isa.name().to_uppercase()), Ok(isa));
    }
    let available: Vec<&str> = Isa::available().map(Isa::name).collect();
    let missing = Isa::known_names().find(|name| !available.contains(name)).unwrap();
    let list = available.join(", ");
    let message = |name| isa::named(name).unwrap_err().to_string();
    assert_eq!(
        message(missing),
        format!("`isa`: given {missing:?}, which this machine lacks, wanted one of {list}")
    );
    for (given, shown) in
        [("", ""), ("sse9", "sse9"), ("äöü€ and some more letters", "äöü€ and some mo")]
    {
        let wanted =
            format!("`isa`: given {shown:?}, which is no instruction set, wanted one of {list}");
        let given = message(given);
        assert!(given.starts_with(&wanted[..wanted.find(", which").unwrap() - 1]), "{given}");
        assert!(given.ends_with(&list), "{given}");
    }
}

/// Not a test of its own: prints what an operation would use.
#[test]
fn print_current() {
    println!("current: {}", isa::current().map_or_else(|e| e.to_string(), |isa| isa.to_string()));
    let (a, mut c) = ([1.0], [7.0]);
    let a = MatRef::new(&a, [1, 1]).unwrap();
    let mut out = masktile::MatMut::new(&mut c, [1, 1]).unwrap();
    let result = masktile::Matmul::new(a, a).run(&mut out, &mut [0.0; 64]);
    println!("ran: {}, {}", result.is_ok(), c[0]);
}

fn with_variable(value: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["print_current", "--exact", "--nocapture"]).env_remove(isa::VARIABLE);
    if let Some(value) = value {
        command.env(isa::VARIABLE, value);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn the_environment_variable() {
    if cfg!(not(target_arch = "x86_64")) {
        println!("left out: under emulation a process cannot start itself again");
        return;
    }
    let best = Isa::detect().name();
    for value in [None, Some(""), Some(best)] {
        let output = with_variable(value);
        assert!(output.contains(&format!("current: {best}\nran: true, 1")), "{output}");
    }
    for isa in Isa::available() {
        let output = with_variable(Some(isa.name()));
        assert!(output.contains(&format!("current: {isa}\nran: true, 1")), "{output}");
    }
    let output = with_variable(Some("avx9000"));
    let wanted = "current: `MASKTILE_ISA`: given \"avx9000\", which is no instruction set, wanted one of scalar";
    assert!(output.contains(wanted), "{output}");
    assert!(output.contains("ran: false, 7"), "untouched: {output}");
    let output = with_variable(Some("neon"));
    assert!(
        output.contains("`MASKTILE_ISA`: given \"neon\", which this machine lacks"),
        "{output}"
    );
}

#[test]
fn forcing() {
    for isa in Isa::available() {
        isa::force(Some(isa));
        assert_eq!(isa::current(), Ok(isa));
    }
    isa::force(None);
    assert_eq!(isa::current(), Ok(Isa::detect()));
}
