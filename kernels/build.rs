//! Says once what the target has, for code that must know it at compile time:
//! * `vectors`: an instruction set beside scalar code. Without one nothing has to be inlined into a
//!   function with other target features, and the compiler may share code.
//! * `cortex_m_fpu`: a Cortex-M with a floating-point unit, whose arithmetic has fused multiply-add.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(vectors, cortex_m_fpu)");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let features = variable("CARGO_CFG_TARGET_FEATURE");
    let has = |feature: &str| features.split(',').any(|other| other == feature);
    let vectors = match variable("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => has("sse2"),
        "aarch64" => has("neon"),
        "wasm32" => has("simd128"),
        _ => false,
    };
    if vectors {
        println!("cargo::rustc-cfg=vectors");
    }
    let target = variable("TARGET");
    let is_cortex_m = ["thumbv7em", "thumbv8m.main"].iter().any(|core| target.starts_with(core));
    if is_cortex_m && target.ends_with("eabihf") {
        println!("cargo::rustc-cfg=cortex_m_fpu");
    }
}
