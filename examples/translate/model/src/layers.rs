//! What the layers are made of: linear maps, layer normalisation and embeddings.
//!
//! Parameters are bfloat16, as in the file, and every f32 made of one is exact.

use masktile::{Activation, Isa, MatMut, MatRef, Matmul, PackedB, Result, TensorMut, TensorRef};
use masktile::{attention, matmul};

use crate::{CHARACTER, HEAD_DIM, HEADS, HIDDEN, POSITION, WIDTH};

/// Outputs, and rows, of a linear map that are computed at once where its weight is widened.
const PIECE: usize = 16;
/// The most outputs that a linear map has: queries, keys and values.
const MOST_OUTPUTS: usize = 3 * WIDTH;
const EPSILON: f32 = 1e-5;

/// Where a layer's results stand until they are used, for `sentences` of `tokens` each.
#[derive(Debug)]
pub struct Work<'w> {
    /// How many sentences.
    pub sentences: usize,
    /// Tokens of a sentence.
    pub tokens: usize,
    /// A row of [`WIDTH`] for each token.
    pub narrow: &'w mut [f32],
    /// A row of three times [`WIDTH`] for each token.
    pub wide: &'w mut [f32],
    /// What its operations take.
    pub tools: Tools<'w>,
}

/// What every operation takes.
#[derive(Debug)]
pub struct Tools<'t> {
    /// The instruction set.
    pub isa: Isa,
    /// Scratch memory of at least [`scratch_len`].
    pub scratch: &'t mut [f32],
}

impl Tools<'_> {
    /// The same for a shorter time.
    pub fn reborrow(&mut self) -> Tools<'_> {
        Tools { isa: self.isa, scratch: self.scratch }
    }
}

impl Work<'_> {
    /// How many rows there are: one for each token.
    pub fn rows(&self) -> usize {
        self.sentences * self.tokens
    }
}

/// How a weight is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As in the file, and widened a piece at a time: half the memory, for flash.
    Narrow,
    /// Widened once and packed for an instruction set.
    Packed,
}

/// Floats of scratch memory for linear maps of `rows` and attention of `queries` to `keys`.
pub const fn scratch_len(form: Form, rows: usize, queries: usize, keys: usize) -> usize {
    let linear = match form {
        Form::Narrow => PIECE * HIDDEN + matmul::workspace_len(PIECE, PIECE, HIDDEN),
        Form::Packed => longest(
            matmul::workspace_len(rows, MOST_OUTPUTS, WIDTH),
            matmul::workspace_len(rows, WIDTH, HIDDEN),
        ),
    };
    let attention = attention::workspace_len(queries, keys, HEAD_DIM, HEAD_DIM);
    longest(MOST_OUTPUTS + linear, attention)
}

/// The greater of two lengths.
pub const fn longest(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// A parameter as it is in the file: a bfloat16, its lower byte first.
pub type Bf16 = [u8; 2];

/// The numbers as f32, of which a bfloat16 is the upper half.
pub fn widen(numbers: &[Bf16], wide: &mut [f32]) {
    for (place, number) in wide.iter_mut().zip(numbers) {
        *place = f32::from_bits(u32::from(u16::from_le_bytes(*number)) << 16);
    }
}

/// The parts of rows, each of [`WIDTH`] (queries, keys, values), as batch x heads x tokens x dim.
///
/// # Errors
/// If there are fewer numbers.
pub fn heads<const PARTS: usize>(
    rows: &[f32],
    [sentences, tokens]: [usize; 2],
) -> Result<[TensorRef<'_>; PARTS]> {
    let all = TensorRef::new(rows, [sentences, tokens, PARTS * HEADS, HEAD_DIM])?;
    let mut parts = [all.heads_and_tokens_swapped(); PARTS];
    for (part, place) in parts.iter_mut().enumerate() {
        *place = place.narrow(1, part * HEADS, HEADS)?;
    }
    Ok(parts)
}

/// Rows of [`WIDTH`] to write, as batch x heads x tokens x dim.
///
/// # Errors
/// If there are fewer numbers.
pub fn heads_mut(rows: &mut [f32], [sentences, tokens]: [usize; 2]) -> Result<TensorMut<'_>> {
    let rows = TensorMut::new(rows, [sentences, tokens, HEADS, HEAD_DIM])?;
    Ok(rows.heads_and_tokens_swapped())
}

/// A weight, outputs x inputs.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// [`Form::Narrow`]
    Narrow(&'a [Bf16]),
    /// [`Form::Packed`]
    Packed(PackedB<'a>),
}

/// What becomes of a linear map's results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// They are stored.
    Store,
    /// Negative ones become 0.
    Relu,
    /// They are added to what is there: a residual connection.
    Add,
}

/// `x W^T + b`
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// W
    pub weight: Weight<'a>,
    /// b, one for each output
    pub bias: &'a [Bf16],
    /// Columns of x.
    pub inputs: usize,
}

impl Linear<'_> {
    /// `rows` rows of x to as many of y.
    ///
    /// # Errors
    /// If memory is too short.
    pub fn run(
        &self,
        rows: usize,
        x: &[f32],
        y: &mut [f32],
        then: Then,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let x = MatRef::new(x, [rows, self.inputs])?;
        self.run_into(x, &mut MatMut::new(y, [rows, self.bias.len()])?, then, tools)
    }

    /// The rows of x to those of y, wherever they lie.
    ///
    /// # Errors
    /// If the shapes do not fit, or memory is too short.
    pub fn run_into(
        &self,
        x: MatRef<'_>,
        y: &mut MatMut<'_>,
        then: Then,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let outputs = self.bias.len();
        let (bias, scratch) = tools.scratch.split_at_mut_checked(outputs).unwrap_or_default();
        widen(self.bias, bias);
        let tools = Tools { isa: tools.isa, scratch };
        match self.weight {
            Weight::Packed(weight) => {
                finished(Matmul::packed(x, weight), bias, then).isa(tools.isa).run(y, tools.scratch)
            }
            Weight::Narrow(weight) => self.by_pieces(weight, x, y, bias, then, tools),
        }
    }

    /// The same with a weight of which no more than a piece is ever wide. An element's bits do not
    /// depend on what is computed with it.
    fn by_pieces(
        &self,
        mut weight: &[Bf16],
        x: MatRef<'_>,
        y: &mut MatMut<'_>,
        bias: &[f32],
        then: Then,
        tools: Tools<'_>,
    ) -> Result<()> {
        let (wide, scratch) =
            tools.scratch.split_at_mut_checked(PIECE * self.inputs).unwrap_or_default();
        for (index, bias) in bias.chunks(PIECE).enumerate() {
            let (piece, rest) =
                weight.split_at_checked(bias.len() * self.inputs).unwrap_or_default();
            weight = rest;
            widen(piece, wide);
            let piece = MatRef::new(wide, [bias.len(), self.inputs])?.transposed();
            for first in (0..x.rows()).step_by(PIECE) {
                let rows = PIECE.min(x.rows() - first);
                let y = y.reborrow().narrow(0, first, rows)?;
                finished(Matmul::new(x.narrow(0, first, rows)?, piece), bias, then)
                    .isa(tools.isa)
                    .run(&mut y.narrow(1, index * PIECE, bias.len())?, scratch)?;
            }
        }
        Ok(())
    }
}

fn finished<'a>(product: Matmul<'a>, bias: &'a [f32], then: Then) -> Matmul<'a> {
    let product = product.bias(bias);
    match then {
        Then::Store => product,
        Then::Relu => product.activation(Activation::Relu),
        Then::Add => product.beta(1.0),
    }
}

/// Layer normalisation: `(x - mean) / sqrt(variance + epsilon) * gain + bias` of each row.
///
/// J. L. Ba, J. R. Kiros and G. E. Hinton, *Layer Normalization*, 2016.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// A factor for each column.
    pub gain: &'a [Bf16],
    /// A number to add for each column.
    pub bias: &'a [Bf16],
}

impl Norm<'_> {
    /// Rows of x to as many of y.
    pub fn run(&self, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.as_chunks::<WIDTH>().0.iter().zip(y.as_chunks_mut().0) {
            *y = *x;
        }
        self.run_in_place(y.get_mut(..x.len()).unwrap_or_default());
    }

    /// Each row of x. Only + - * / and a correctly rounded root in one order: the same bits on
    /// every processor.
    pub fn run_in_place(&self, x: &mut [f32]) {
        let (mut gain, mut bias) = ([0.0; WIDTH], [0.0; WIDTH]);
        widen(self.gain, &mut gain);
        widen(self.bias, &mut bias);
        for row in x.as_chunks_mut::<WIDTH>().0 {
            let mean = sum(row) / WIDTH as f32;
            row.iter_mut().for_each(|x| *x -= mean);
            let variance = sum(&row.map(|x| x * x)) / WIDTH as f32;
            let factor = 1.0 / libm::sqrtf(variance + EPSILON);
            for ((x, gain), bias) in row.iter_mut().zip(&gain).zip(&bias) {
                *x = *x * factor * gain + bias;
            }
        }
    }
}

/// Sixteen sums of every sixteenth number, then halves added to halves: what vectors do well.
fn sum(row: &[f32; WIDTH]) -> f32 {
    let mut sums = [0.0; 16];
    for numbers in row.as_chunks::<16>().0 {
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
    let mut half = sums.len() / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut_checked(half).unwrap_or_default();
        for (sum, other) in low.iter_mut().zip(high) {
            *sum += *other;
        }
        half /= 2;
    }
    let [sum, ..] = sums;
    sum
}

/// Numbers for each character and for each position.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// characters x [`CHARACTER`]
    pub characters: &'a [Bf16],
    /// positions x [`POSITION`]
    pub positions: &'a [Bf16],
}

impl Embedding<'_> {
    /// The embeddings of characters, one behind the other.
    pub fn characters(&self, tokens: impl Iterator<Item = u8>, rows: &mut [f32]) {
        let table = self.characters.as_chunks::<CHARACTER>().0;
        for (token, row) in tokens.zip(rows.as_chunks_mut::<CHARACTER>().0) {
            widen(table.get(usize::from(token)).unwrap_or(&[[0; 2]; CHARACTER]), row);
        }
    }

    /// The embedding of a position.
    pub fn position(&self, position: usize) -> [f32; POSITION] {
        let (table, mut wide) = (self.positions.as_chunks::<POSITION>().0, [0.0; POSITION]);
        widen(table.get(position).unwrap_or(&[[0; 2]; POSITION]), &mut wide);
        wide
    }
}
