//! Gives the linker the memory map of the board that `MASKTILE_BOARD` names: boards/NAME.x.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(small_ram)");
    println!("cargo::rerun-if-env-changed=MASKTILE_BOARD");
    println!("cargo::rerun-if-changed=boards");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let board = env::var("MASKTILE_BOARD").unwrap_or_else(|_| "mps2".into());
    if board == "microbit" {
        println!("cargo::rustc-cfg=small_ram");
    }
    let map = Path::new("boards").join(board).with_extension("x");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::copy(&map, Path::new(&out).join("memory.x"))
        .unwrap_or_else(|error| panic!("{}: {error}", map.display()));
    println!("cargo::rustc-link-search={out}");
}
