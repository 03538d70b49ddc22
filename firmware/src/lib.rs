//! What the firmware computes: parts of a decoder on numbers of a real transformer layer (a slice
//! of `tests/data/minilm-layer3.safetensors`, see there), kept in flash.
//!
//! The same code on the host gives the bits that every core has to give; `tests/expected.rs`
//! compares the files under `data/` with it, so that they cannot rot.
#![no_std]

pub mod ints;

use masktile::{
    Attention, Causal, Mask, MatMut, MatRef, Matmul, Result, Softmax, TensorMut, TensorRef,
    attention, decoder, decoder::KvCache, matmul,
};

/// Tokens.
pub const N: usize = 10;
/// Width of a token here: a twelfth of the layer's, and exactly one of its heads.
pub const D: usize = 32;
/// Tokens that the cache gets at once; the others come one by one.
const PREFILL: usize = 6;
/// The last token counts as padding where keys are padded.
const LENGTH: usize = N - 1;
/// Floats of scratch memory that the longest of the steps needs.
pub const WORKSPACE: usize = longest(
    matmul::workspace_len(N, D, D),
    longest(attention::workspace_len(PREFILL, PREFILL, D, D), attention::workspace_len(1, N, D, D)),
);

const fn longest(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The layer's numbers.
pub struct Layer<'a> {
    /// N x D: the layer's input.
    pub hidden: &'a [f32],
    /// D out x D in.
    pub weight: &'a [f32],
    /// D
    pub bias: &'a [f32],
    /// N x D: queries, keys and values of one head.
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

/// Floats of a layer.
pub const LAYER_LEN: usize = 4 * N * D + D * D + D;

impl<'a> Layer<'a> {
    /// The parts of `numbers`, in the order of the fields.
    pub fn new(numbers: &'a [f32; LAYER_LEN]) -> Self {
        let mut rest = &numbers[..];
        let mut next = |len| {
            let (part, behind) = rest.split_at_checked(len).unwrap_or((&[], &[]));
            rest = behind;
            part
        };
        let (hidden, weight, bias) = (next(N * D), next(D * D), next(D));
        Layer { hidden, weight, bias, q: next(N * D), k: next(N * D), v: next(N * D) }
    }
}

/// The layer in flash.
pub static LAYER: [f32; LAYER_LEN] = floats(include_bytes!("../data/layer.bin"));

/// The results in flash: those of [`Step::ALL`] one behind the other.
pub static EXPECTED: [f32; Step::EXPECTED] = floats(include_bytes!("../data/expected.bin"));

/// Little-endian floats.
const fn floats<const BYTES: usize, const N: usize>(bytes: &[u8; BYTES]) -> [f32; N] {
    assert!(BYTES == 4 * N, "the file is of another length");
    let mut floats = [0.0; N];
    let mut i = 0;
    while i < N {
        let at = 4 * i;
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        floats[i] = f32::from_bits(u32::from_le_bytes(word));
        i += 1;
    }
    floats
}

/// A step of the check.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `hidden weight^T + bias`, N x D.
    Project,
    /// `q k^T / sqrt(D)`, causal, keys padded: N x N probabilities.
    Softmax,
    /// Causal attention over a cache, the first tokens at once and then one by one: N x D.
    Attention,
    /// `hidden` with the bias as one more row, (N + 1) x D.
    JoinRow,
    /// `hidden` with the bias as more columns, N x 2 D.
    JoinColumns,
}

impl Step {
    /// All of them, in the order of [`EXPECTED`].
    pub const ALL: [Step; 5] =
        [Step::Project, Step::Softmax, Step::Attention, Step::JoinRow, Step::JoinColumns];
    /// Floats of all results.
    pub const EXPECTED: usize = 2 * N * D + N * N + (N + 1) * D + N * 2 * D;
    /// Floats of the longest.
    pub const LONGEST: usize = N * 2 * D;

    /// As the report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Project => "project",
            Step::Softmax => "softmax",
            Step::Attention => "attention",
            Step::JoinRow => "join-row",
            Step::JoinColumns => "join-columns",
        }
    }

    /// Floats of its result.
    pub const fn len(self) -> usize {
        match self {
            Step::Project | Step::Attention => N * D,
            Step::Softmax => N * N,
            Step::JoinRow => (N + 1) * D,
            Step::JoinColumns => N * 2 * D,
        }
    }

    /// Writes the result to the first floats of `out`.
    ///
    /// # Errors
    /// If a buffer is too short.
    pub fn run(self, layer: &Layer<'_>, out: &mut [f32], memory: &mut Memory) -> Result<()> {
        let hidden = MatRef::new(layer.hidden, [N, D])?;
        match self {
            Step::Project => Matmul::new(hidden, MatRef::new(layer.weight, [D, D])?.transposed())
                .bias(layer.bias)
                .run(&mut MatMut::new(out, [N, D])?, &mut memory.workspace),
            Step::Softmax => {
                let keys = MatRef::new(layer.k, [N, D])?.transposed();
                Matmul::new(MatRef::new(layer.q, [N, D])?, keys)
                    .run(&mut MatMut::new(out, [N, N])?, &mut memory.workspace)?;
                Softmax::new()
                    .scale(1.0 / 5.656_854_2)
                    .mask(Mask::All(&[Causal::top_left().into(), Mask::KeyLengths(&[LENGTH])]))
                    .run_in_place(MatMut::new(out, [N, N])?)
            }
            Step::Attention => attend(layer, out, memory),
            Step::JoinRow => {
                decoder::join_as_row(hidden, layer.bias, &mut MatMut::new(out, [N + 1, D])?)
            }
            Step::JoinColumns => {
                decoder::join_as_columns(hidden, layer.bias, &mut MatMut::new(out, [N, 2 * D])?)
            }
        }
    }
}

/// What the steps need beside their results.
pub struct Memory {
    pub workspace: [f32; WORKSPACE],
    pub keys: [f32; N * D],
    pub values: [f32; N * D],
}

impl Memory {
    /// Empty.
    pub const NEW: Memory =
        Memory { workspace: [0.0; WORKSPACE], keys: [0.0; N * D], values: [0.0; N * D] };
}

fn attend(layer: &Layer<'_>, out: &mut [f32], memory: &mut Memory) -> Result<()> {
    let shape = [1, 1, N, D];
    let mut cache = KvCache::new(
        TensorMut::new(&mut memory.keys, shape)?,
        TensorMut::new(&mut memory.values, shape)?,
    )?;
    let (q, k, v) = (
        TensorRef::new(layer.q, shape)?,
        TensorRef::new(layer.k, shape)?,
        TensorRef::new(layer.v, shape)?,
    );
    let mut out = TensorMut::new(out, shape)?;
    while cache.len() < N {
        let (first, tokens) = match cache.len() {
            0 => (0, PREFILL),
            len => (len, 1),
        };
        cache.append(k.narrow(2, first, tokens)?, v.narrow(2, first, tokens)?)?;
        Attention::new(q.narrow(2, first, tokens)?, cache.keys(), cache.values())
            .mask(Causal::bottom_right())
            .run(&mut out.reborrow().narrow(2, first, tokens)?, &mut memory.workspace)?;
    }
    Ok(())
}
