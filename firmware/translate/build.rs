//! Gives the linker the memory map, and the program the weights as one run of numbers.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "../../examples/translate/model/src/flat.rs"]
mod flat;

const WEIGHTS: &str = "../../examples/translate/model/data/weights.safetensors";
/// As `translate_model::LAYERS`; the program's array of them says so if it is not.
const LAYERS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={WEIGHTS}");
    println!("cargo::rerun-if-changed=memory.x");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy("memory.x", out.join("memory.x"))?;
    println!("cargo::rustc-link-search={}", out.display());
    fs::write(out.join("weights.bin"), flat::read(Path::new(WEIGHTS), LAYERS)?.as_flattened())?;
    Ok(())
}
