//! Keys or values as they lie: one strided tensor, or pages that a table finds; numbers, or codes of
//! eight bits with a scale for each token and head.

use core::num::NonZeroUsize;

use crate::mask::{Grid, Row};
use crate::number::{Dtype, Numbers};

/// Numbers of batch x heads x tokens x dim. Strides count elements.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Tensor {
    pub numbers: Numbers,
    pub strides: [usize; 4],
}

impl Tensor {
    /// Whether they are of f32, as all are where not `MIXED`.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn is_f32<const MIXED: bool>(&self) -> bool {
        !MIXED || self.numbers.dtype() == Dtype::F32
    }

    /// The numbers from `dim` of a position on.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn at(&self, row: Row, dim: usize) -> Numbers {
        let [batch, head, token, along] = self.strides;
        let offset = row.batch * batch + row.head * head + row.query * token + dim * along;
        self.numbers.skip(offset)
    }
}

/// Keys or values of all batches and key/value heads.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Tokens {
    pub data: Data,
    pub pages: Option<Pages>,
}

/// What the keys or values of a token are. With [`Pages`] strides are of page, head, token and dim.
#[derive(Clone, Copy, Debug)]
pub enum Data {
    /// Numbers as they are.
    Numbers(Tensor),
    /// Each is `code * scale`, rounded to f32. The scales have no last axis.
    Scaled {
        /// batch, head, token, dim
        codes: Grid<i8>,
        /// batch, head, token
        scales: Grid<f32>,
    },
}

/// Token `t` of batch `b` is token `t mod len` of page `table[b, t / len]`. The table's strides are of
/// batch and, last, of page.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Pages {
    pub table: Grid<u32>,
    pub len: NonZeroUsize,
}

impl Tokens {
    /// The strides of token and dim.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn strides(&self) -> (usize, usize) {
        let [_, _, token, dim] = match &self.data {
            Data::Numbers(tensor) => tensor.strides,
            Data::Scaled { codes, .. } => codes.strides,
        };
        (token, dim)
    }

    /// Whether a tile reads them where they lie: numbers of f32 whose last axis is contiguous.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn lie_as_rows<const MIXED: bool>(&self) -> bool {
        self.strides().1 == 1 && self.is_f32::<MIXED>()
    }

    /// Whether they are numbers of f32, as all are where not `MIXED`.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn is_f32<const MIXED: bool>(&self) -> bool {
        match &self.data {
            Data::Numbers(tensor) => tensor.is_f32::<MIXED>(),
            Data::Scaled { .. } => !MIXED,
        }
    }

    /// The place of token `token`, and how many from it on lie a token's stride apart.
    ///
    /// # Safety
    /// The table, if there is one, names the token's page.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn piece(&self, batch: usize, head: usize, token: usize) -> (Row, usize) {
        match self.pages {
            None => (Row { batch, head, query: token }, usize::MAX),
            Some(Pages { table, len }) => {
                let (page, token) = (token / len, token % len);
                let row = Row { batch, head: 0, query: 0 };
                // SAFETY: the caller's.
                let page = unsafe { table.at(row, page).read() } as usize;
                (Row { batch: page, head, query: token }, len.get() - token)
            }
        }
    }
}
