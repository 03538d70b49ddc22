//! What happens to a finished tile of the product before it leaves the cache:
//! `x = clamp(activation(scale x + bias) + residual)`, then the caller's own function.

use super::min;
use super::pack::{load_strided, store};
use crate::activation;
use crate::simd::{LANES, Simd};

/// A matrix that an epilogue reads: element `[i, j]` at `i * row + j * column`; null for none.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Operand {
    pub data: *const f32,
    pub row: usize,
    pub column: usize,
}

impl Operand {
    /// No operand.
    pub const NONE: Operand = Operand { data: core::ptr::null(), row: 0, column: 0 };

    fn moved(self, rows: usize, columns: usize) -> Operand {
        if self.data.is_null() {
            return self;
        }
        let offset = rows.wrapping_mul(self.row).wrapping_add(columns.wrapping_mul(self.column));
        Operand { data: self.data.wrapping_add(offset), ..self }
    }

    fn transposed(self) -> Operand {
        Operand { data: self.data, row: self.column, column: self.row }
    }

    /// Up to a vector's columns of row `i` from column `j` on.
    ///
    /// # Safety
    /// They are valid for reading.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn load<S: Simd>(&self, s: S, i: usize, j: usize, n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { load_strided(s, self.moved(i, j).data, self.column, n) }
    }
}

/// Whether all activations were compiled, not ReLU alone: see the feature.
const ALL: bool = cfg!(feature = "activations");

/// A function of each element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `x / 2 (1 + erf(x / sqrt 2))`, the exact GELU (D. Hendrycks and K. Gimpel, 2016).
    GeluErf,
    /// Its approximation by tanh, as GPT-2 and its successors use it.
    GeluTanh,
    /// `x / (1 + exp(-x))`, also called swish (S. Elfwing et al., 2018).
    Silu,
}

impl Activation {
    /// Whether it was compiled. One that was not does nothing.
    pub const fn is_there(self) -> bool {
        ALL || matches!(self, Activation::None | Activation::Relu)
    }
}

/// A caller's function of the row, the first column, and contiguous finished elements there.
pub type Each<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// The steps, in this order; each is left out where it is none.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// Multiplies: `x * scale`.
    pub scale: Operand,
    /// Is added to that, with a rounding of its own.
    pub bias: Operand,
    /// Is applied to the sum.
    pub activation: Activation,
    /// Is added to that.
    pub residual: Operand,
    /// Least and greatest result; NaN stays NaN.
    pub clamp: Option<(f32, f32)>,
    /// Comes last.
    pub each: Option<Each<'a>>,
    /// The row and column that `each` calls the first.
    pub origin: (usize, usize),
}

impl Epilogue<'_> {
    /// Nothing to do.
    pub const NONE: Epilogue<'static> = Epilogue {
        scale: Operand::NONE,
        bias: Operand::NONE,
        activation: Activation::None,
        residual: Operand::NONE,
        clamp: None,
        each: None,
        origin: (0, 0),
    };

    pub(super) fn is_none(&self) -> bool {
        self.scale.data.is_null()
            && self.bias.data.is_null()
            && self.activation == Activation::None
            && self.residual.data.is_null()
            && self.clamp.is_none()
            && self.each.is_none()
    }

    /// Its bias, and the least result, if that is all there is: one number a column, one beside the
    /// other, and ReLU at most, as linear layers have it.
    fn linear(&self) -> Option<(*const f32, f32)> {
        let least = match self.activation {
            Activation::None => f32::NEG_INFINITY,
            Activation::Relu => 0.0,
            _ => return None,
        };
        let rest = Epilogue { bias: Operand::NONE, activation: Activation::None, ..*self };
        let is_row = !self.bias.data.is_null() && self.bias.row == 0 && self.bias.column == 1;
        (is_row && rest.is_none()).then_some((self.bias.data, least))
    }

    /// The steps of the part of C that starts at this row and column.
    pub(super) fn moved(self, rows: usize, columns: usize) -> Self {
        Epilogue {
            scale: self.scale.moved(rows, columns),
            bias: self.bias.moved(rows, columns),
            residual: self.residual.moved(rows, columns),
            origin: (self.origin.0 + rows, self.origin.1 + columns),
            ..self
        }
    }

    /// The steps of the transposed C, if nobody sees which way it lies.
    pub(super) fn transposed(self) -> Option<Self> {
        self.each.is_none().then_some(Epilogue {
            scale: self.scale.transposed(),
            bias: self.bias.transposed(),
            residual: self.residual.transposed(),
            ..self
        })
    }
}

/// Rows of C that an epilogue works on, their columns contiguous.
pub(crate) struct Finished {
    pub c: *mut f32,
    pub c_row: usize,
    pub rows: usize,
    pub columns: usize,
    /// Where they are in C.
    pub row: usize,
    pub column: usize,
}

/// Applies the steps to a finished tile.
///
/// # Safety
/// The tile is valid for reading and writing, the operands at its place for reading, and nothing
/// overlaps it.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn finish<S: Simd>(s: S, epilogue: &Epilogue<'_>, tile: &Finished) {
    macro_rules! apply {
        ($f:expr) => {
            steps(
                s,
                epilogue,
                tile,
                #[inline(always)]
                |x| $f(s, x),
            )
        };
    }
    // SAFETY: the caller's. Chosen here, outside of the loops, so that each loop is one function.
    unsafe {
        match epilogue.activation {
            Activation::None => apply!(|_, x| x),
            Activation::Relu => apply!(activation::relu),
            _ if !ALL => apply!(|_, x| x),
            Activation::GeluErf => apply!(activation::gelu_erf),
            Activation::GeluTanh => apply!(activation::gelu_tanh),
            Activation::Silu => apply!(activation::silu),
        }
    }
    let Some(each) = epilogue.each else { return };
    let (row, column) = (epilogue.origin.0 + tile.row, epilogue.origin.1 + tile.column);
    for i in 0..tile.rows {
        let c = tile.c.wrapping_add(i * tile.c_row);
        // SAFETY: the tile's row, which nobody else holds.
        each(row + i, column, unsafe { core::slice::from_raw_parts_mut(c, tile.columns) });
    }
}

/// [`finish`] for most linear layers: a bias for each column and a least result. `false`: it is another
/// epilogue, and nothing was done.
///
/// # Safety
/// [`finish`]'s.
#[cfg_attr(vectors, inline(always))]
pub(crate) unsafe fn finish_linear<S: Simd>(
    s: S,
    epilogue: &Epilogue<'_>,
    tile: &Finished,
) -> bool {
    let Some((bias, least)) = epilogue.linear() else { return false };
    let least = s.splat(least);
    for j in (0..tile.columns).step_by(LANES) {
        let n = tile.columns - j;
        // SAFETY: the caller's: these columns are in the bias and in each row of the tile.
        unsafe {
            let bias = s.load_first(bias.wrapping_add(tile.column + j), n);
            let c = tile.c.wrapping_add(j);
            for i in 0..tile.rows {
                let c = c.wrapping_add(i * tile.c_row);
                // A NaN goes second, as for ReLU.
                let end = |x| s.max(least, s.add(x, bias));
                if n < LANES {
                    s.store_first(c, n, end(s.load_first(c, n)));
                } else {
                    s.store(c, end(s.load(c)));
                }
            }
        }
    }
    true
}

/// # Safety
/// [`finish`]'s.
#[cfg_attr(vectors, inline(always))]
unsafe fn steps<S: Simd>(
    s: S,
    epilogue: &Epilogue<'_>,
    tile: &Finished,
    activation: impl Fn(S::V) -> S::V,
) {
    let e = epilogue.moved(tile.row, tile.column);
    for i in 0..tile.rows {
        for j in (0..tile.columns).step_by(S::LANES) {
            let n = min(tile.columns - j, S::LANES);
            let c = tile.c.wrapping_add(i * tile.c_row + j);
            // SAFETY: `n` columns from `j` on are in row `i` of the tile and of each operand.
            unsafe {
                let mut x = load_strided(s, c, 1, n);
                if !e.scale.data.is_null() {
                    x = s.mul(x, e.scale.load(s, i, j, n));
                }
                if !e.bias.data.is_null() {
                    x = s.add(x, e.bias.load(s, i, j, n));
                }
                x = activation(x);
                if !e.residual.data.is_null() {
                    x = s.add(x, e.residual.load(s, i, j, n));
                }
                if let Some((least, greatest)) = e.clamp {
                    // A NaN in the first operand of a comparison would be lost: it goes second.
                    x = s.max(s.splat(least), x);
                    let over = s.lt(s.splat(greatest), x);
                    x = s.select(over, s.splat(greatest), x);
                }
                store(s, c, n, x);
            }
        }
    }
}
