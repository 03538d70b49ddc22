//! Caches of keys and values, over memory of the caller's.
//!
//! | cache | its memory | lengths |
//! | --- | --- | --- |
//! | [`KvCache`] | batch x kv_heads x capacity x dim | one for all batches |
//! | [`RaggedCache`] | the same | one for each batch |
//! | [`PagedCache`] | pages x kv_heads x page length x dim, found by a table | one for each batch |
//! | [`ScaledCache`] | as [`KvCache`], of eight bits with a scale for each token and head | one for all batches |
//!
//! The first three hold f32, f16 or bf16, whatever is appended. Attention over a cache has the bits of
//! attention over f32 copies of what it holds.
//!
//! Each has `attend`, an attention of the cache's last tokens whose causal mask is aligned at the
//! **bottom right**: the last query of a batch sees the last of its keys. (Aligned at the top left a
//! decode step would see key 0 alone.)

mod paged;
mod scaled;

#[doc(inline)]
pub use paged::{PagedCache, PagedKv};
#[doc(inline)]
pub use scaled::{ScaledCache, ScaledTokens};

use crate::Result;
use crate::attention::Attention;
use crate::error::{Error, ErrorKind, same};
use crate::mask::Causal;
use crate::number::Number;
use crate::view::{TensorMut, TensorRef, copy};

/// A cache of keys and values over memory of the caller's: batch x kv_heads x capacity x dim,
/// filled up to [`KvCache::len`] tokens.
///
/// ```
/// use masktile::{TensorMut, TensorRef, attention::workspace_len, cache::KvCache};
///
/// let (mut keys, mut values) = ([0.0; 8], [0.0; 8]);
/// let shape = [1, 1, 4, 2];                               // room for 4 tokens
/// let mut cache = KvCache::new(TensorMut::new(&mut keys, shape)?, TensorMut::new(&mut values, shape)?)?;
/// for token in [[1.0, 0.0], [0.0, 1.0]] {
///     let token = TensorRef::new(&token, [1, 1, 1, 2])?;
///     cache.append(token, token)?;
///     let mut out = [0.0; 2];
///     cache
///         .attend(token)
///         .run(&mut TensorMut::new(&mut out, [1, 1, 1, 2])?, &mut [0.0; workspace_len(1, 4, 2, 2)])?;
/// }
/// assert_eq!(cache.len(), 2);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct KvCache<'a, T = f32> {
    keys: TensorMut<'a, T>,
    values: TensorMut<'a, T>,
    batch: usize,
    len: usize,
}

impl<'a, T: Number> KvCache<'a, T> {
    /// An empty cache: `keys` is batch x kv_heads x capacity x dim, `values` the same with its
    /// own last axis.
    ///
    /// # Errors
    /// If the two do not fit.
    pub fn new(keys: TensorMut<'a, T>, values: TensorMut<'a, T>) -> Result<Self> {
        let axes = ["batch", "heads", "capacity"];
        for ((given, wanted), what) in values.shape().into_iter().zip(keys.shape()).zip(axes) {
            same("values", what, given, wanted)?;
        }
        let [batch, ..] = keys.shape();
        Ok(KvCache { keys, values, batch, len: 0 })
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many tokens it has room for.
    pub fn capacity(&self) -> usize {
        self.keys.shape()[2]
    }

    /// Forgets all tokens from `len` on; nothing if it holds fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// How many sequences it holds.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Forgets the sequences of which `keep` does not say that they go on. The others move up and stay
    /// in order: sequence `b` of the batch is then the one of the `b`-th `true`.
    ///
    /// ```
    /// use masktile::{TensorMut, TensorRef, cache::KvCache};
    /// let (mut keys, mut values) = ([0.0; 3], [0.0; 3]);
    /// let shape = [3, 1, 1, 1];
    /// let mut cache = KvCache::new(TensorMut::new(&mut keys, shape)?, TensorMut::new(&mut values, shape)?)?;
    /// let tokens = TensorRef::new(&[1.0, 2.0, 3.0], shape)?;
    /// cache.append(tokens, tokens)?;
    /// cache.retain(|sequence| sequence != 1);             // the second has ended
    /// assert_eq!(cache.batch(), 2);
    /// assert_eq!(cache.keys().get([1, 0, 0, 0]), Some(&3.0));
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut kept = 0;
        for sequence in 0..self.batch {
            if !keep(sequence) {
                continue;
            }
            if kept < sequence {
                move_up(&mut self.keys, sequence, kept, self.len);
                move_up(&mut self.values, sequence, kept, self.len);
            }
            kept += 1;
        }
        self.batch = kept;
    }

    /// Appends one or more tokens: batch x kv_heads x tokens x dim, rounded to the cache's type.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no room for all of them; the cache is unchanged then.
    pub fn append<F: Number>(
        &mut self,
        keys: TensorRef<'_, F>,
        values: TensorRef<'_, F>,
    ) -> Result<()> {
        let tokens = keys.shape()[2];
        let caches = [self.keys.shape(), self.values.shape()];
        fits([keys.shape(), values.shape()], self.batch, caches)?;
        let (given, limit) = (tokens, self.capacity() - self.len);
        if given > limit {
            let kind = ErrorKind::TooLarge { what: "tokens", given, limit };
            return Err(Error::new("keys", kind));
        }
        // A copy is of the batches given: those that the cache holds.
        copy(keys, self.keys.reborrow().narrow(2, self.len, tokens)?);
        copy(values, self.values.reborrow().narrow(2, self.len, tokens)?);
        self.len += tokens;
        Ok(())
    }

    /// Attention of `q`, the last tokens of the cache, over all that it holds:
    /// [`Causal::bottom_right`]. Another mask takes its place; compose it with that one where
    /// both are meant.
    pub fn attend<'v, Q: Number>(&'v self, q: TensorRef<'v, Q>) -> Attention<'v> {
        Attention::new(q, self.keys(), self.values()).mask(Causal::bottom_right())
    }

    /// The keys so far: batch x kv_heads x len x dim.
    pub fn keys(&self) -> TensorRef<'_, T> {
        first(&self.keys, self.batch, self.len)
    }

    /// The values so far: batch x kv_heads x len x value_dim.
    pub fn values(&self) -> TensorRef<'_, T> {
        first(&self.values, self.batch, self.len)
    }
}

/// The first batches and tokens.
fn first<'v, T>(view: &'v TensorMut<'_, T>, batch: usize, len: usize) -> TensorRef<'v, T> {
    // Neither exceeds its axis.
    let batches = view.as_ref().narrow(0, 0, batch);
    batches.and_then(|batches| batches.narrow(2, 0, len)).unwrap_or(view.as_ref())
}

/// Copies the first tokens of a batch to one before it.
fn move_up<T: Number>(view: &mut TensorMut<'_, T>, from: usize, to: usize, len: usize) {
    let tokens = view.reborrow().narrow(2, 0, len);
    if let Ok((before, rest)) = tokens.and_then(|tokens| tokens.split_at(0, from))
        && let (Ok(from), Ok(to)) = (rest.as_ref().narrow(0, 0, 1), before.narrow(0, to, 1))
    {
        copy(from, to);
    }
}

/// An error unless keys and values are `batch` x heads x tokens x dim as a cache's are.
fn fits(given: [[usize; 4]; 2], batch: usize, caches: [[usize; 4]; 2]) -> Result<()> {
    let tokens = given[0][2];
    for ((argument, given), cache) in ["keys", "values"].into_iter().zip(given).zip(caches) {
        let [given_batch, heads, given_tokens, dim] = given;
        same(argument, "batch", given_batch, batch)?;
        same(argument, "heads", heads, cache[1])?;
        same(argument, "tokens", given_tokens, tokens)?;
        same(argument, "dim", dim, cache[3])?;
    }
    Ok(())
}

/// An error unless there is a count for each batch, none over the tokens given nor over the room
/// that is left.
fn counts_fit(counts: &[usize], lengths: &[usize], tokens: usize, capacity: usize) -> Result<()> {
    same("counts", "batch", counts.len(), lengths.len())?;
    for (given, length) in counts.iter().copied().zip(lengths) {
        let limit = tokens.min(capacity.saturating_sub(*length));
        if given > limit {
            return Err(Error::new("counts", ErrorKind::TooLarge { what: "tokens", given, limit }));
        }
    }
    Ok(())
}

/// A cache whose batches are filled differently: batch x kv_heads x capacity x dim, batch `b` up to
/// `lengths[b]`.
///
/// ```
/// use masktile::{TensorMut, TensorRef, Workspace, cache::RaggedCache};
///
/// let (mut keys, mut values, mut lengths) = ([0.0; 8], [0.0; 8], [0, 0]);
/// let shape = [2, 1, 4, 1];                               // two batches, room for 4 tokens each
/// let mut cache = RaggedCache::new(
///     TensorMut::new(&mut keys, shape)?,
///     TensorMut::new(&mut values, shape)?,
///     &mut lengths,
/// )?;
/// let prompts = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0];           // of 3 and of 2 tokens
/// let prompts = TensorRef::new(&prompts, [2, 1, 3, 1])?;
/// cache.append(prompts, prompts, &[3, 2])?;
///
/// let (q, mut out) = ([0.0; 2], [0.0; 2]);                // the last token of each batch
/// let q = TensorRef::new(&q, [2, 1, 1, 1])?;
/// cache.attend(q)?.run(&mut TensorMut::new(&mut out, [2, 1, 1, 1])?, &mut Workspace::new())?;
/// assert_eq!(out, [2.0, 4.5]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct RaggedCache<'a, T = f32> {
    keys: TensorMut<'a, T>,
    values: TensorMut<'a, T>,
    lengths: &'a mut [usize],
}

impl<'a, T: Number> RaggedCache<'a, T> {
    /// A cache that holds `lengths[b]` tokens of each batch `b`; zeros for an empty one.
    ///
    /// # Errors
    /// If keys and values do not fit, or a length is over the capacity.
    pub fn new(
        keys: TensorMut<'a, T>,
        values: TensorMut<'a, T>,
        lengths: &'a mut [usize],
    ) -> Result<Self> {
        let KvCache { keys, values, .. } = KvCache::new(keys, values)?;
        let [batch, _, limit, _] = keys.shape();
        same("lengths", "batch", lengths.len(), batch)?;
        if let Some(&given) = lengths.iter().find(|length| **length > limit) {
            let kind = ErrorKind::TooLarge { what: "length", given, limit };
            return Err(Error::new("lengths", kind));
        }
        Ok(RaggedCache { keys, values, lengths })
    }

    /// How many tokens it holds of each batch.
    pub fn lengths(&self) -> &[usize] {
        self.lengths
    }

    /// Appends the first `counts[b]` tokens of each batch `b` of keys and values, batch x kv_heads
    /// x tokens x dim, rounded to the cache's type.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no room; the cache is unchanged then.
    pub fn append<F: Number>(
        &mut self,
        keys: TensorRef<'_, F>,
        values: TensorRef<'_, F>,
        counts: &[usize],
    ) -> Result<()> {
        let [batch, _, capacity, _] = self.keys.shape();
        fits([keys.shape(), values.shape()], batch, [self.keys.shape(), self.values.shape()])?;
        counts_fit(counts, self.lengths, keys.shape()[2], capacity)?;
        for (b, (length, count)) in self.lengths.iter_mut().zip(counts).enumerate() {
            for (from, to) in [(keys, &mut self.keys), (values, &mut self.values)] {
                let from = from.narrow(0, b, 1)?.narrow(2, 0, *count)?;
                copy(from, to.reborrow().narrow(0, b, 1)?.narrow(2, *length, *count)?);
            }
            *length += count;
        }
        Ok(())
    }

    /// Attention of `q`, the last tokens of each batch, over all that it holds:
    /// [`Causal::ending_at`] its lengths. Another mask takes its place; compose it with that one
    /// where both are meant. The mask speaks of as many keys as the longest batch has.
    ///
    /// # Errors
    /// None: the cache has as many tokens as its longest batch.
    pub fn attend<'v, Q: Number>(&'v self, q: TensorRef<'v, Q>) -> Result<Attention<'v>> {
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        let keys = self.keys.as_ref().narrow(2, 0, longest)?;
        let values = self.values.as_ref().narrow(2, 0, longest)?;
        Ok(Attention::new(q, keys, values).mask(Causal::ending_at(self.lengths)))
    }
}
