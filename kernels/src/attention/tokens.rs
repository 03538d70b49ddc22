//! Keys or values as they lie: one strided tensor, or pages that a table finds.

use core::num::NonZeroUsize;

use crate::mask::{Grid, Row};

/// Keys or values of all batches and key/value heads.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Tokens {
    /// Batch, head, token, dim.
    Strided(Grid<f32>),
    /// Token `t` of batch `b` is token `t mod len` of page `table[b, t / len]`. The pages' strides
    /// are of page, head, token, dim; the table's are of batch and, last, of page.
    Paged { pages: Grid<f32>, table: Grid<u32>, len: NonZeroUsize },
}

impl Tokens {
    /// The strides of token and dim.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn strides(&self) -> (usize, usize) {
        let (Tokens::Strided(grid) | Tokens::Paged { pages: grid, .. }) = self;
        let [_, _, token, dim] = grid.strides;
        (token, dim)
    }

    /// Where token `token` lies, and how many from it on lie a token's stride apart.
    ///
    /// # Safety
    /// The table, if there is one, names the token's page.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn piece(
        &self,
        batch: usize,
        head: usize,
        token: usize,
    ) -> (*const f32, usize) {
        match *self {
            Tokens::Strided(grid) => (grid.at(Row { batch, head, query: token }, 0), usize::MAX),
            Tokens::Paged { pages, table, len } => {
                let (page, token) = (token / len, token % len);
                let row = Row { batch, head: 0, query: 0 };
                // SAFETY: the caller's.
                let page = unsafe { table.at(row, page).read() } as usize;
                let row = Row { batch: page, head, query: token };
                (pages.at(row, 0), len.get() - token)
            }
        }
    }
}
