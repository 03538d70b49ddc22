//! The committed header is what cbindgen makes of the sources.

use std::path::Path;

/// Writes the header anew instead of comparing it.
const VARIABLE: &str = "MASKTILE_WRITE_HEADER";

#[test]
fn the_header_is_current() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(crate_dir).with_config(config).generate();
    let mut generated = Vec::new();
    bindings.unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    let path = crate_dir.join("assets/capi/include/masktile.h");
    if std::env::var_os(VARIABLE).is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not current: {VARIABLE}=1 cargo test --test header writes it",
        path.display()
    );
}
