//! The weights' file as one run of numbers, in the order in which the model reads them. Also a part
//! of the firmware's build script, which has neither the model nor its library.

use std::error::Error;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

const EMBEDDINGS: [&str; 4] =
    ["source.character", "source.position", "target.character", "target.position"];
const ENCODER: [&str; 6] = ["norm1", "qkv", "out", "norm2", "up", "down"];
const DECODER: [&str; 10] =
    ["norm1", "qkv", "out", "norm2", "query", "memory", "cross_out", "norm3", "up", "down"];

/// Names of the file's tensors in the model's order.
fn names(layers: usize) -> Vec<String> {
    let parts = |part: String| [format!("{part}.weight"), format!("{part}.bias")];
    let stack = |of: &str, names: &[&str]| -> Vec<String> {
        let layer = |i| names.iter().flat_map(move |name| parts(format!("{of}.{i}.{name}")));
        (0..layers).flat_map(layer).chain(parts(format!("{of}_norm"))).collect()
    };
    let embeddings = EMBEDDINGS.map(str::to_owned).into_iter();
    let stacks = stack("encoder", &ENCODER).into_iter().chain(stack("decoder", &DECODER));
    embeddings.chain(stacks).chain(parts("logits".to_owned())).collect()
}

/// All numbers of the file at `path`, each the two bytes of a bfloat16.
///
/// # Errors
/// If it cannot be read or lacks a tensor, one is of another type, or there are others.
pub fn read(path: &Path, layers: usize) -> Result<Vec<[u8; 2]>, Box<dyn Error>> {
    let bytes =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let names = names(layers);
    if file.len() != names.len() {
        let (given, wanted) = (file.len(), names.len());
        return Err(format!("{}: given {given} tensors, wanted {wanted}", path.display()).into());
    }
    let mut numbers = Vec::new();
    for name in names {
        let tensor = file.tensor(&name)?;
        if tensor.dtype() != Dtype::BF16 {
            return Err(format!("{name}: given {:?}, wanted BF16", tensor.dtype()).into());
        }
        numbers.extend_from_slice(tensor.data().as_chunks().0);
    }
    Ok(numbers)
}
