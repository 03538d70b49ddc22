//! The files under `data/` are what the test data of the library and this library give.
//! `MASKTILE_RECORD=1 cargo test` writes them anew.

use std::{fs, path::Path};

use masktile_firmware::ints::{self, IntStep};
use masktile_firmware::{D, Layer, Memory, N, Step};
use safetensors::SafeTensors;

/// Rows `0..rows`, columns `0..columns` from element `first` on.
fn slice(file: &SafeTensors<'_>, name: &str, first: usize, rows: usize, stride: usize) -> Vec<f32> {
    let data = file.tensor(name).expect(name).data();
    let number = |i: usize| f32::from_le_bytes(data[4 * i..4 * i + 4].try_into().unwrap());
    (0..rows).flat_map(|i| (0..D).map(move |j| number(first + i * stride + j))).collect()
}

fn layer() -> Vec<f32> {
    let bytes = fs::read("../tests/data/minilm-layer3.safetensors").unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    // The last sentence (of 35 tokens), and its first head.
    let (sentence, head) = (2 * 35 * 384, 2 * 12 * 35 * D);
    [
        slice(&file, "hidden", sentence, N, 384),
        slice(&file, "w_query", 0, D, 384),
        slice(&file, "b_query", 0, 1, 384),
        slice(&file, "q", head, N, D),
        slice(&file, "k", head, N, D),
        slice(&file, "v", head, N, D),
    ]
    .concat()
}

fn results(layer: &[f32]) -> Vec<f32> {
    let layer = Layer::new(layer.try_into().unwrap());
    let mut memory = Memory::NEW;
    let run = |step: Step| {
        let mut out = vec![0.0; Step::LONGEST];
        step.run(&layer, &mut out, &mut memory).unwrap();
        out.truncate(step.len());
        out
    };
    Step::ALL.into_iter().flat_map(run).collect()
}

fn check(path: &str, floats: &[f32]) {
    let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    if std::env::var_os("MASKTILE_RECORD").is_some() {
        fs::write(path, &bytes).unwrap();
    }
    let kept = fs::read(Path::new(path)).unwrap_or_default();
    assert!(kept == bytes, "{path} is stale: MASKTILE_RECORD=1 cargo test writes it anew");
}

#[test]
fn files_are_what_the_library_gives() {
    let layer = layer();
    check("data/layer.bin", &layer);
    check("data/expected.bin", &results(&layer));
}

#[test]
fn the_readme_shows_the_example_that_is_built() {
    let example = fs::read_to_string("examples/step.rs").unwrap();
    assert!(fs::read_to_string("../README.md").unwrap().contains(&example));
}

#[test]
fn hashes_are_what_the_library_gives() {
    let mut memory = ints::Memory::NEW;
    let given = IntStep::ALL.map(|(step, _)| step.run(&mut memory).unwrap());
    assert_eq!(given, IntStep::ALL.map(|(_, hash)| hash), "given {given:#010x?}");
}
