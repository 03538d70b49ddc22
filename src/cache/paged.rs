//! A cache in pages, as engines keep it that serve many sequences (W. Kwon et al., *Efficient Memory
//! Management for Large Language Model Serving with PagedAttention*, 2023).

use core::num::NonZeroUsize;

use masktile_kernels::attention::{Data, Pages};
use masktile_kernels::mask::Grid;

use super::{counts_fit, fits};
use crate::Result;
use crate::attention::Attention;
use crate::error::{Error, ErrorKind, same};
use crate::mask::Causal;
use crate::number::{AnyTensor, AttentionKernel, Number};
use crate::view::{TensorMut, TensorRef, View, copy};

/// Keys and values in pages, to read: token `t` of batch `b` is token `t mod n` of page
/// `table[b, t / n]`, with pages of `n` tokens. Pages may be shared between batches.
///
/// ```
/// use masktile::{TensorMut, TensorRef, View, Workspace, cache::PagedKv};
///
/// let pages = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];             // 3 pages of 2 tokens
/// let pages = TensorRef::new(&pages, [3, 1, 2, 1])?;
/// let table = [2, 0];                                     // tokens 5 6 1 2
/// let kv = PagedKv::new(pages, pages, View::new(&table, [1, 2])?, &[3])?;
///
/// let (q, mut out) = ([0.0], [0.0]);
/// kv.attend(TensorRef::new(&q, [1, 1, 1, 1])?)
///     .run(&mut TensorMut::new(&mut out, [1, 1, 1, 1])?, &mut Workspace::new())?;
/// assert_eq!(out, [4.0]);                                 // the mean of 5, 6 and 1
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PagedKv<'a> {
    keys: AnyTensor<'a>,
    values: AnyTensor<'a>,
    table: View<'a, u32, 2>,
    lengths: &'a [usize],
    page: NonZeroUsize,
}

impl<'a> PagedKv<'a> {
    /// `keys` and `values` are pages x kv_heads x page length x dim (values with a width of their
    /// own), `table` batch x pages of a sequence. Of the table only what `lengths` needs is read:
    /// the rest may be anything.
    ///
    /// # Errors
    /// If sizes do not fit, or the table names a page that is not there.
    pub fn new<K: Number, V: Number>(
        keys: TensorRef<'a, K>,
        values: TensorRef<'a, V>,
        table: View<'a, u32, 2>,
        lengths: &'a [usize],
    ) -> Result<Self> {
        let page = check(keys.shape(), values.shape(), table, lengths)?;
        let (keys, values) = (AnyTensor::of(keys), AnyTensor::of(values));
        Ok(PagedKv { keys, values, table, lengths, page })
    }

    /// Attention of `q`, the last tokens of each batch, over all its tokens:
    /// [`Causal::ending_at`] the lengths. Another mask takes its place; compose it with that one
    /// where both are meant. The mask speaks of as many keys as the longest batch has; those
    /// behind a batch's length are masked whatever it says.
    pub fn attend<Q: Number>(self, q: TensorRef<'a, Q>) -> Attention<'a> {
        Attention::paged(q, self).mask(Causal::ending_at(self.lengths))
    }

    /// How many tokens each batch has.
    pub fn lengths(&self) -> &'a [usize] {
        self.lengths
    }

    /// How many tokens the longest batch has.
    pub fn longest(&self) -> usize {
        self.lengths.iter().max().copied().unwrap_or(0)
    }

    /// Heads, width of the keys, width of the values.
    pub(crate) fn widths(&self) -> [usize; 3] {
        let ([_, heads, _, dim], [.., value_dim]) = (self.keys.shape(), self.values.shape());
        [heads, dim, value_dim]
    }

    /// Keys and values as kernels read them.
    pub(crate) fn data(&self) -> (Data, Data) {
        (Data::Numbers(self.keys.tensor()), Data::Numbers(self.values.tensor()))
    }

    /// Where their pages are.
    pub(crate) fn pages(&self) -> Pages {
        let [batch, page] = self.table.strides();
        let table = Grid { data: self.table.as_ptr(), strides: [batch, 0, 0, page] };
        Pages { table, len: self.page }
    }

    /// The kernel that they take, where that is not the one of f32.
    pub(crate) fn kernel(&self) -> Option<AttentionKernel> {
        self.keys.kernel().or(self.values.kernel())
    }
}

/// The tokens of a page, of sizes that fit.
fn check(
    keys: [usize; 4],
    values: [usize; 4],
    table: View<'_, u32, 2>,
    lengths: &[usize],
) -> Result<NonZeroUsize> {
    for ((given, wanted), what) in
        values.into_iter().zip(keys).zip(["pages", "heads", "page length"])
    {
        same("values", what, given, wanted)?;
    }
    let [pages, _, page, _] = keys;
    let Some(page) = NonZeroUsize::new(page) else {
        return Err(Error::new("keys", ErrorKind::Zero { what: "page length" }));
    };
    let [batch, columns] = table.shape();
    same("lengths", "batch", lengths.len(), batch)?;
    let limit = columns.saturating_mul(page.get());
    for (b, &given) in lengths.iter().enumerate() {
        if given > limit {
            let kind = ErrorKind::TooLarge { what: "length", given, limit };
            return Err(Error::new("lengths", kind));
        }
        for column in 0..given.div_ceil(page.get()) {
            let given = table.get([b, column]).map_or(usize::MAX, |page| *page as usize);
            if given >= pages {
                let limit = pages.saturating_sub(1);
                let kind = ErrorKind::TooLarge { what: "page", given, limit };
                return Err(Error::new("table", kind));
            }
        }
    }
    Ok(page)
}

/// Keys and values in pages, to append to. Which pages a sequence gets is the engine's business: it
/// writes the table before it appends.
#[derive(Debug)]
pub struct PagedCache<'a, T = f32> {
    keys: TensorMut<'a, T>,
    values: TensorMut<'a, T>,
    table: View<'a, u32, 2>,
    lengths: &'a mut [usize],
}

impl<'a, T: Number> PagedCache<'a, T> {
    /// As [`PagedKv::new`], with `lengths[b]` tokens of each batch `b` so far.
    ///
    /// # Errors
    /// As [`PagedKv::new`].
    pub fn new(
        keys: TensorMut<'a, T>,
        values: TensorMut<'a, T>,
        table: View<'a, u32, 2>,
        lengths: &'a mut [usize],
    ) -> Result<Self> {
        check(keys.shape(), values.shape(), table, lengths)?;
        Ok(PagedCache { keys, values, table, lengths })
    }

    /// Appends the first `counts[b]` tokens of each batch `b` of keys and values, batch x kv_heads
    /// x tokens x dim, to the pages that the table names; in the cache's type.
    ///
    /// ```
    /// use masktile::{TensorMut, TensorRef, View, cache::PagedCache};
    /// let (mut keys, mut values, mut lengths) = ([0.0; 6], [0.0; 6], [1]);
    /// let table = [2, 0];                                 // pages of 2 tokens
    /// let shape = [3, 1, 2, 1];
    /// let mut cache = PagedCache::new(
    ///     TensorMut::new(&mut keys, shape)?,
    ///     TensorMut::new(&mut values, shape)?,
    ///     View::new(&table, [1, 2])?,
    ///     &mut lengths,
    /// )?;
    /// let tokens = TensorRef::new(&[7.0, 8.0], [1, 1, 2, 1])?;
    /// cache.append(tokens, tokens, &[2])?;
    /// assert_eq!(keys, [8.0, 0.0, 0.0, 0.0, 0.0, 7.0]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shapes do not fit, there is no room, or the table names a page that is not there; the
    /// cache is unchanged then.
    pub fn append<F: Number>(
        &mut self,
        keys: TensorRef<'_, F>,
        values: TensorRef<'_, F>,
        counts: &[usize],
    ) -> Result<()> {
        let [batch, columns] = self.table.shape();
        let [_, _, page, _] = self.keys.shape();
        fits([keys.shape(), values.shape()], batch, [self.keys.shape(), self.values.shape()])?;
        let room = columns.saturating_mul(page);
        counts_fit(counts, self.lengths, keys.shape()[2], room)?;
        for (b, (length, count)) in self.lengths.iter().zip(counts).enumerate() {
            (*length..length + count).try_for_each(|token| self.place(b, token).map(|_| ()))?;
        }
        for (b, count) in counts.iter().enumerate() {
            let length = self.lengths.get(b).copied().unwrap_or(0);
            for t in 0..*count {
                let [at, slot] = self.place(b, length + t)?;
                for (from, to) in [(keys, &mut self.keys), (values, &mut self.values)] {
                    let from = from.narrow(0, b, 1)?.narrow(2, t, 1)?;
                    copy(from, to.reborrow().narrow(0, at, 1)?.narrow(2, slot, 1)?);
                }
            }
            if let Some(length) = self.lengths.get_mut(b) {
                *length += count;
            }
        }
        Ok(())
    }

    /// The page of a token, and its place there.
    fn place(&self, batch: usize, token: usize) -> Result<[usize; 2]> {
        let [pages, _, page, _] = self.keys.shape();
        let (column, slot) = (token.checked_div(page), token.checked_rem(page));
        let (column, slot) = (column.unwrap_or(0), slot.unwrap_or(0));
        let given = self.table.get([batch, column]).map_or(usize::MAX, |page| *page as usize);
        if given < pages {
            return Ok([given, slot]);
        }
        let limit = pages.saturating_sub(1);
        Err(Error::new("table", ErrorKind::TooLarge { what: "page", given, limit }))
    }

    /// Keys and values so far.
    ///
    /// # Errors
    /// None: the cache was checked when it was made and with each append.
    pub fn kv(&self) -> Result<PagedKv<'_>> {
        PagedKv::new(self.keys.as_ref(), self.values.as_ref(), self.table, self.lengths)
    }
}
