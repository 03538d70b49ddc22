//! Four bits a weight, in groups with a scale and a zero of their own.

use half::f16;
use masktile_kernels::gemm;

use super::{block_count, weights};
use crate::Result;
use crate::error::{Error, ErrorKind, long_enough};
use crate::number::Number;
use crate::view::MatRef;

/// Weights that share a scale and a zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// 32 along a row.
    Of32,
    /// 64 along a row.
    Of64,
    /// 128 along a row.
    Of128,
}

impl Group {
    /// How many they are.
    pub const fn size(self) -> usize {
        gemm::UNIT << self.log_units()
    }

    const fn log_units(self) -> u32 {
        match self {
            Group::Of32 => 0,
            Group::Of64 => 1,
            Group::Of128 => 2,
        }
    }
}

/// A weight of four bits, out x in, with a scale and a zero for each group: a weight is
/// `(code - zero) * scale`.
///
/// | part | of each row | numbers |
/// | --- | --- | --- |
/// | `codes` | in / 2 | bytes: weight `2 b` in the lower half of byte `b`, weight `2 b + 1` in the upper |
/// | `scales` | in / group | f16 |
/// | `zeros` | in / group | bytes: the code that stands for zero |
///
/// From the files of other tools, whose tensors are in x out:
/// * **GPTQ** (without `act-order`): `qweight`, `in / 8` x out words of 32 bits, transposed and written
///   little-endian is `codes`; `scales` transposed is `scales`; `qzeros` holds eight zeros a word along
///   out, each less by one in the files of its first version: transposed, one to a byte, plus that one.
/// * **AWQ**: a word of `qweight`, in x `out / 8`, and of `qzeros` holds eight outputs, in this order from
///   the lowest bits on: 0, 2, 4, 6, 1, 3, 5, 7. The zeros are as they are.
///
/// ```
/// use masktile::quantised::{Group, Q4Groups};
/// use masktile::{MatMut, MatRef, Matmul, Workspace, f16};
///
/// let codes = [0x98; 16];                                 // 8 and 9 in turn, one group of 32
/// let scales = [f16::from_f32(0.5)];
/// let weight = Q4Groups::new(&codes, &scales, &[8], [1, 32], Group::Of32)?;
/// assert_eq!([weight.get([0, 0]), weight.get([0, 1])], [Some(0.0), Some(0.5)]);
///
/// let (x, mut y) = ([1.0; 32], [0.0]);
/// Matmul::quantised(MatRef::new(&x, [1, 32])?, weight)
///     .run(&mut MatMut::new(&mut y, [1, 1])?, &mut Workspace::new())?;
/// assert_eq!(y, [8.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Q4Groups<'a> {
    codes: &'a [u8],
    scales: &'a [f16],
    zeros: &'a [u8],
    shape: [usize; 2],
    group: Group,
}

impl<'a> Q4Groups<'a> {
    /// The out x in weight of these parts.
    ///
    /// # Errors
    /// If the columns are no multiple of the group, or a part is too short.
    pub fn new(
        codes: &'a [u8],
        scales: &'a [f16],
        zeros: &'a [u8],
        shape: [usize; 2],
        group: Group,
    ) -> Result<Self> {
        check(codes.len(), scales.len(), zeros.len(), shape, group)?;
        Ok(Q4Groups { codes, scales, zeros, shape, group })
    }

    /// Quantises `weight`, out x in: a group's codes span its least and greatest weight, and zero.
    ///
    /// No weight is off by more than the group's scale, and but those at the ends by more than half of
    /// it and a thousandth. The scale is a 15th of that span, rounded to f16.
    ///
    /// # Errors
    /// As [`Q4Groups::new`].
    ///
    /// ```
    /// use masktile::quantised::{Group, Q4Groups};
    /// use masktile::{MatRef, f16};
    /// let weight: [f32; 64] = std::array::from_fn(|i| i as f32 / 4.0);
    /// let (mut codes, mut scales, mut zeros) = ([0; 32], [f16::ZERO; 1], [0; 1]);
    /// let weight = MatRef::new(&weight, [1, 64])?;
    /// let weight = Q4Groups::quantise(weight, &mut codes, &mut scales, &mut zeros, Group::Of64)?;
    /// assert!((weight.get([0, 40]).unwrap() - 10.0).abs() < 0.53);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn quantise<T: Number>(
        weight: MatRef<'_, T>,
        codes: &'a mut [u8],
        scales: &'a mut [f16],
        zeros: &'a mut [u8],
        group: Group,
    ) -> Result<Self> {
        let shape = weight.shape();
        check(codes.len(), scales.len(), zeros.len(), shape, group)?;
        let (size, mut places) = (group.size(), scales.iter_mut().zip(zeros.iter_mut()));
        let mut bytes = codes.chunks_mut(gemm::UNIT / 2);
        for row in 0..if shape[1] == 0 { 0 } else { shape[0] } {
            for first in (0..shape[1]).step_by(size) {
                let Some((scale, zero)) = places.next() else { break };
                let units = (first..first + size).step_by(gemm::UNIT);
                let unit = |first| weights::<T, { gemm::UNIT }>(&weight, row, first);
                let ends = units.clone().flat_map(unit).fold((0.0, 0.0), ends);
                (*scale, *zero) = scale_and_zero(ends);
                for (unit, bytes) in units.map(unit).zip(&mut bytes) {
                    encode(&unit, scale.to_f32(), *zero, bytes);
                }
            }
        }
        Ok(Q4Groups { codes, scales, zeros, shape, group })
    }

    /// out x in
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The weight at `index`, if there is one: a float, exactly as products take it.
    pub fn get(&self, [row, column]: [usize; 2]) -> Option<f32> {
        let [rows, columns] = self.shape;
        if row >= rows || column >= columns {
            return None;
        }
        let at = row * columns + column;
        let byte = self.codes.get(at / 2)?;
        let code = if at.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
        let scale = self.scales.get(at / self.group.size())?.to_f32();
        let zero = *self.zeros.get(at / self.group.size())?;
        Some(f32::from(code) * scale - f32::from(zero) * scale)
    }

    pub(super) fn kernel(&self) -> gemm::Quantised {
        gemm::Quantised::Q4Groups(gemm::Q4Groups {
            codes: self.codes.as_ptr(),
            scales: self.scales.as_ptr(),
            zeros: self.zeros.as_ptr(),
            groups: self.shape[1] / self.group.size(),
            log_units: self.group.log_units(),
        })
    }
}

/// An error unless the parts hold a weight of the shape.
fn check(codes: usize, scales: usize, zeros: usize, shape: [usize; 2], group: Group) -> Result<()> {
    let groups = block_count(shape, group.size())?;
    let bytes = groups.checked_mul(group.size() / 2);
    long_enough("codes", codes, bytes.ok_or(Error::new("shape", ErrorKind::Overflow))?)?;
    long_enough("scales", scales, groups)?;
    long_enough("zeros", zeros, groups)
}

fn ends((least, greatest): (f32, f32), x: f32) -> (f32, f32) {
    (least.min(x), greatest.max(x))
}

/// Of a group between these ends, zero among them.
fn scale_and_zero((least, greatest): (f32, f32)) -> (f16, u8) {
    let scale = f16::from_f32((greatest - least) / 15.0);
    if scale == f16::ZERO {
        return (scale, 0);
    }
    (scale, (libm::roundf(-least / scale.to_f32()) as u8).min(15))
}

/// Writes the codes of weights in pairs.
fn encode(weights: &[f32; gemm::UNIT], scale: f32, zero: u8, bytes: &mut [u8]) {
    let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |x: &f32| ((libm::roundf(x * factor) + f32::from(zero)) as u8).min(15);
    for (byte, pair) in bytes.iter_mut().zip(weights.as_chunks::<2>().0) {
        *byte = code(&pair[0]) | code(&pair[1]) << 4;
    }
}
