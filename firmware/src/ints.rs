//! Quantised steps of a decoder, for cores without a floating-point unit: nothing of them is a
//! float. The bytes are made up; every core has to give the hash that the host gives.

use masktile::int8::{self, FromInt8, FromInt16, Multiplier, Multipliers, SoftmaxInt};
use masktile::{Causal, MatMut, MatRef, MatmulInt8, Result, TensorMut, TensorRef};

/// Tokens, and width of a token.
pub const TOKENS: usize = 16;
pub const WIDTH: usize = 32;
/// Bytes of the longest result.
pub const LONGEST: usize = 2 * TOKENS * TOKENS;

const WORKSPACE: usize = int8::workspace_len(TOKENS, WIDTH, WIDTH);
const HEADS: usize = 2;
const HEAD: usize = WIDTH / HEADS;

/// Bytes that look random.
const fn bytes<const N: usize>(mut seed: u32) -> [i8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        bytes[i] = (seed >> 24) as i8;
        i += 1;
    }
    bytes
}

static TOKENS_IN: [i8; TOKENS * WIDTH] = bytes(1);
/// Out x in.
static WEIGHT: [i8; WIDTH * WIDTH] = bytes(2);
static KEYS: [i8; TOKENS * WIDTH] = bytes(3);
static BIAS: [i32; WIDTH] = [1000; WIDTH];

/// A step of the check.
#[derive(Clone, Copy)]
pub enum IntStep {
    /// A fully connected layer: TOKENS x WIDTH by WIDTH x WIDTH.
    FullyConnected,
    /// Scores of two heads, TOKENS x TOKENS each: queries by keys, both quantised on the way.
    BatchMatmul,
    /// Their causal softmax to bytes.
    Softmax,
    /// A causal softmax of 16 bits, of one head.
    Softmax16,
}

impl IntStep {
    /// All of them, with the hash of their result.
    pub const ALL: [(IntStep, u32); 4] = [
        (IntStep::FullyConnected, 0xdec0_e5a6),
        (IntStep::BatchMatmul, 0x8d39_e137),
        (IntStep::Softmax, 0x5a6c_c4ba),
        (IntStep::Softmax16, 0xbe3b_b863),
    ];

    /// As the report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            IntStep::FullyConnected => "fully-connected",
            IntStep::BatchMatmul => "batch-matmul",
            IntStep::Softmax => "softmax",
            IntStep::Softmax16 => "softmax-16",
        }
    }

    /// Multiplications, or kept keys.
    pub const fn work(self) -> usize {
        let kept = TOKENS * (TOKENS + 1) / 2;
        match self {
            IntStep::FullyConnected => TOKENS * WIDTH * WIDTH,
            IntStep::BatchMatmul => HEADS * TOKENS * TOKENS * HEAD,
            IntStep::Softmax => HEADS * kept,
            IntStep::Softmax16 => kept,
        }
    }

    /// The hash of the result, computed in `memory`.
    ///
    /// # Errors
    /// None, if the sizes above fit.
    pub fn run(self, memory: &mut Memory) -> Result<u32> {
        let factor = Multiplier { value: 1_500_000_000, shift: -9 };
        let out = &mut memory.bytes;
        match self {
            IntStep::FullyConnected => {
                let weight = MatRef::new(&WEIGHT, [WIDTH, WIDTH])?.transposed();
                MatmulInt8::new(MatRef::new(&TOKENS_IN, [TOKENS, WIDTH])?, weight)
                    .zero_points(-7, 0)
                    .bias(&BIAS)
                    .requantized(Multipliers::Same(factor), 3i8)
                    .run(&mut MatMut::new(out, [TOKENS, WIDTH])?, &mut memory.workspace)?;
                Ok(hash(out.iter().take(TOKENS * WIDTH).map(|x| i32::from(*x))))
            }
            IntStep::BatchMatmul => {
                let (split, turned) =
                    ([TOKENS * WIDTH, HEAD, WIDTH, 1], [TOKENS * WIDTH, HEAD, 1, WIDTH]);
                let queries = TensorRef::with_strides(&TOKENS_IN, [1, HEADS, TOKENS, HEAD], split)?;
                let keys = TensorRef::with_strides(&KEYS, [1, HEADS, HEAD, TOKENS], turned)?;
                MatmulInt8::new(queries, keys)
                    .zero_points(-7, 5)
                    .requantized(Multipliers::Same(factor), 0i8)
                    .run(
                        &mut TensorMut::new(out, [1, HEADS, TOKENS, TOKENS])?,
                        &mut memory.workspace,
                    )?;
                Ok(hash(out.iter().map(|x| i32::from(*x))))
            }
            IntStep::Softmax => {
                // A byte stands for 0.1.
                let multiplier = Multiplier { value: 1_717_986_918, shift: 23 };
                SoftmaxInt::new(FromInt8 { multiplier, diff_min: -248 })
                    .mask(Causal::top_left())
                    .run_in_place(TensorMut::new(out, [1, HEADS, TOKENS, TOKENS])?)?;
                Ok(hash(out.iter().map(|x| i32::from(*x))))
            }
            IntStep::Softmax16 => {
                for (place, byte) in memory.words.iter_mut().zip(&WEIGHT) {
                    *place = i16::from(*byte) * 100;
                }
                // A number stands for 0.001.
                let multiplier = Multiplier { value: 1_759_200_000, shift: 3 };
                SoftmaxInt::new(FromInt16 { multiplier })
                    .mask(Causal::top_left())
                    .run_in_place(MatMut::new(&mut memory.words, [TOKENS, TOKENS])?)?;
                Ok(hash(memory.words.iter().map(|x| i32::from(*x))))
            }
        }
    }
}

/// What the steps work on: each takes the result of the one before.
pub struct Memory {
    bytes: [i8; LONGEST],
    words: [i16; TOKENS * TOKENS],
    /// None on a microcontroller.
    workspace: [f32; WORKSPACE],
}

impl Memory {
    /// Empty.
    pub const NEW: Memory =
        Memory { bytes: [0; LONGEST], words: [0; TOKENS * TOKENS], workspace: [0.0; WORKSPACE] };
}

/// FNV-1a, of words.
fn hash(numbers: impl Iterator<Item = i32>) -> u32 {
    numbers.fold(0x811c_9dc5, |hash, x| (hash ^ x as u32).wrapping_mul(0x0100_0193))
}
