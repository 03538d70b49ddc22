//! What becomes of the sums, and the factors of it.

use masktile_kernels::gemm::{Activation, Epilogue, Operand};
use masktile_kernels::int8 as kernel;

#[doc(inline)]
pub use masktile_kernels::fixed::Multiplier;
#[doc(inline)]
pub use masktile_kernels::int8::{Exact, Multipliers};

use super::MatmulInt8;
use crate::Result;
use crate::error::same;

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// u8 or i8
pub trait Byte: kernel::Narrow + Sealed + Sync {
    /// 0
    const ZERO: Self;
    /// The least and the greatest.
    const RANGE: [Self; 2];
    /// Whether it is i8.
    const IS_SIGNED: bool;
}

impl Sealed for u8 {}
impl Sealed for i8 {}

impl Byte for u8 {
    const ZERO: u8 = 0;
    const RANGE: [u8; 2] = [u8::MIN, u8::MAX];
    const IS_SIGNED: bool = false;
}

impl Byte for i8 {
    const ZERO: i8 = 0;
    const RANGE: [i8; 2] = [i8::MIN, i8::MAX];
    const IS_SIGNED: bool = true;
}

/// A way to finish the sums of a product: [`Exact`], [`Dequantized`] or [`Requantized`].
pub trait Finishing: Copy + Sealed {
    /// What C holds.
    type Out: Copy;
    #[doc(hidden)]
    type Kernel: kernel::Finish<Out = Self::Out>;
    /// The same as the kernel takes it, for so many rows and columns in all.
    #[doc(hidden)]
    fn lowered(self, rows: usize, columns: usize) -> Result<Self::Kernel>;
}

impl Sealed for Exact {}

impl Finishing for Exact {
    type Out = i32;
    type Kernel = Exact;
    fn lowered(self, _: usize, _: usize) -> Result<Exact> {
        Ok(Exact)
    }
}

/// The factors of floats.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// The same for all (per tensor).
    Same(f32),
    /// One for each column of C (per channel of the weight).
    PerColumn(&'a [f32]),
}

/// `activation(scale row_scale sum + bias)` as f32, each step rounded by itself, with the same bits
/// on every instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Dequantized<'a> {
    scales: Scales<'a>,
    row_scales: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    activation: Activation,
}

impl Sealed for Dequantized<'_> {}

impl<'a> Finishing for Dequantized<'a> {
    type Out = f32;
    type Kernel = kernel::Dequantize<'a>;
    fn lowered(self, rows: usize, columns: usize) -> Result<Self::Kernel> {
        let by_column =
            |argument, numbers: Option<&[f32]>| match numbers {
                Some(numbers) => same(argument, "length", numbers.len(), columns)
                    .map(|()| Operand { data: numbers.as_ptr(), row: 0, column: 1 }),
                None => Ok(Operand::NONE),
            };
        let (scale, own) = match self.scales {
            Scales::Same(scale) => (scale, None),
            Scales::PerColumn(scales) => (1.0, Some(scales)),
        };
        if let Some(scales) = self.row_scales {
            same("row_scales", "length", scales.len(), rows)?;
        }
        let epilogue = Epilogue {
            scale: by_column("scales", own)?,
            bias: by_column("float_bias", self.bias)?,
            activation: self.activation,
            ..Epilogue::NONE
        };
        Ok(kernel::Dequantize { scale, row_scales: self.row_scales.unwrap_or(&[]), epilogue })
    }
}

impl<'a, A: Byte, const N: usize> MatmulInt8<'a, A, Dequantized<'a>, N> {
    /// A factor for each row of C besides, as activations quantised token by token have. Rows count
    /// on through the leading axes.
    pub fn row_scales(mut self, scales: &'a [f32]) -> Self {
        self.finish.row_scales = Some(scales);
        self
    }

    /// A float for each column of C, added to the scaled sums.
    pub fn float_bias(mut self, bias: &'a [f32]) -> Self {
        self.finish.bias = Some(bias);
        self
    }

    /// A function of each element, after the bias.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.finish.activation = activation;
        self
    }
}

/// `clamp(zero + multiplier sum)` as bytes, by [`Multiplier::apply`].
#[derive(Clone, Copy, Debug)]
pub struct Requantized<'a, T> {
    multipliers: Multipliers<'a>,
    zero: T,
    range: [T; 2],
}

impl<T> Sealed for Requantized<'_, T> {}

impl<'a, T: Byte> Finishing for Requantized<'a, T> {
    type Out = T;
    type Kernel = kernel::Requantize<'a, T>;
    fn lowered(self, _: usize, columns: usize) -> Result<Self::Kernel> {
        let Requantized { multipliers, zero, range: [least, greatest] } = self;
        if let Multipliers::PerColumn(all) = multipliers {
            same("multipliers", "length", all.len(), columns)?;
        }
        Ok(kernel::Requantize { multipliers, zero: zero.into(), least, greatest })
    }
}

impl<'a, A: Byte, T: Byte, const N: usize> MatmulInt8<'a, A, Requantized<'a, T>, N> {
    /// The least and the greatest result, zero point included: what a fused activation leaves.
    /// Default all that the type holds.
    pub fn clamp(mut self, least: T, greatest: T) -> Self {
        self.finish.range = [least, greatest];
        self
    }
}

impl<'a, A: Byte, const N: usize> MatmulInt8<'a, A, Exact, N> {
    /// The sums as floats times `scales`, which are `scale_a scale_b`: see [`Dequantized`] for what
    /// may follow.
    ///
    /// ```
    /// use masktile::int8::Scales;
    /// use masktile::{Activation, MatMut, MatRef, MatmulInt8};
    /// let (a, b, mut c) = ([1i8, 2], [3i8, 4, 5, -6], [0f32; 2]);
    /// MatmulInt8::new(MatRef::new(&a, [1, 2])?, MatRef::new(&b, [2, 2])?)
    ///     .dequantized(Scales::PerColumn(&[0.5, 0.25]))
    ///     .activation(Activation::Relu)
    ///     .run(&mut MatMut::new(&mut c, [1, 2])?, &mut masktile::Workspace::new())?;
    /// assert_eq!(c, [6.5, 0.0]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn dequantized(self, scales: Scales<'a>) -> MatmulInt8<'a, A, Dequantized<'a>, N> {
        let (row_scales, bias, activation) = (None, None, Activation::None);
        self.finished(Dequantized { scales, row_scales, bias, activation })
    }

    /// The sums times `multipliers`, which are `scale_a scale_b / scale_c`, as i8 or u8 with the
    /// zero point `zero`. See [`int8`](crate::int8) for an example.
    pub fn requantized<T: Byte>(
        self,
        multipliers: Multipliers<'a>,
        zero: T,
    ) -> MatmulInt8<'a, A, Requantized<'a, T>, N> {
        self.finished(Requantized { multipliers, zero, range: T::RANGE })
    }
}
