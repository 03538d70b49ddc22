//! Parts of a decoder around its attention: the join of its inputs, and the cache of keys and
//! values.

use crate::Result;
use crate::error::{Error, ErrorKind, same};
use crate::view::{MatMut, MatRef, TensorMut, TensorRef};

/// The encoder's output, n x d, with the previous decoder output, d numbers, as one more row:
/// `joined` is (n + 1) x d.
///
/// # Errors
/// If the sizes do not fit; `joined` is untouched then.
///
/// ```
/// use masktile::{MatMut, MatRef, decoder};
/// let (encoder, previous, mut joined) = ([1.0, 2.0, 3.0, 4.0], [9.0, 8.0], [0.0; 6]);
/// decoder::join_as_row(MatRef::new(&encoder, [2, 2])?, &previous, &mut MatMut::new(&mut joined, [3, 2])?)?;
/// assert_eq!(joined, [1.0, 2.0, 3.0, 4.0, 9.0, 8.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn join_as_row(encoder: MatRef<'_>, previous: &[f32], joined: &mut MatMut<'_>) -> Result<()> {
    let [n, d] = encoder.shape();
    same("previous", "length", previous.len(), d)?;
    same("joined", "rows", joined.rows(), n.saturating_add(1))?;
    same("joined", "columns", joined.columns(), d)?;
    let previous = MatRef::new(previous, [1, d])?;
    copy(encoder, joined.reborrow().narrow(0, 0, n)?);
    copy(previous, joined.reborrow().narrow(0, n, 1)?);
    Ok(())
}

/// The encoder's output, n x d, with the previous decoder output, d_o numbers, as more columns of
/// every row: `joined` is n x (d + d_o).
///
/// # Errors
/// If the sizes do not fit; `joined` is untouched then.
///
/// ```
/// use masktile::{MatMut, MatRef, decoder};
/// let (encoder, previous, mut joined) = ([1.0, 2.0, 3.0, 4.0], [9.0], [0.0; 6]);
/// decoder::join_as_columns(MatRef::new(&encoder, [2, 2])?, &previous, &mut MatMut::new(&mut joined, [2, 3])?)?;
/// assert_eq!(joined, [1.0, 2.0, 9.0, 3.0, 4.0, 9.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn join_as_columns(
    encoder: MatRef<'_>,
    previous: &[f32],
    joined: &mut MatMut<'_>,
) -> Result<()> {
    let [n, d] = encoder.shape();
    same("joined", "rows", joined.rows(), n)?;
    same("joined", "columns", joined.columns(), d.saturating_add(previous.len()))?;
    let every_row = MatRef::with_strides(previous, [n, previous.len()], [0, 1])?;
    copy(encoder, joined.reborrow().narrow(1, 0, d)?);
    copy(every_row, joined.reborrow().narrow(1, d, previous.len())?);
    Ok(())
}

/// Copies `from` to `to`, of the same shape.
fn copy<'f, 't>(from: impl Into<TensorRef<'f>>, to: impl Into<TensorMut<'t>>) {
    let (from, mut to) = (from.into(), to.into());
    let [batch, heads, tokens, dim] = from.shape();
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..tokens {
                if let (Some(to), Some(from)) = (to.row_mut([b, h, t, 0]), from.row([b, h, t, 0])) {
                    for (place, number) in to.iter_mut().zip(from) {
                        *place = *number;
                    }
                    continue;
                }
                for x in 0..dim {
                    let at = [b, h, t, x];
                    if let (Some(place), Some(number)) = (to.get_mut(at), from.get(at)) {
                        *place = *number;
                    }
                }
            }
        }
    }
}

/// A cache of keys and values over memory of the caller's: batch x kv_heads x capacity x dim,
/// filled up to [`KvCache::len`] tokens.
///
/// ```
/// use masktile::{Attention, Causal, TensorMut, TensorRef, attention::workspace_len, decoder::KvCache};
///
/// let (mut keys, mut values) = ([0.0; 8], [0.0; 8]);
/// let shape = [1, 1, 4, 2];                               // room for 4 tokens
/// let mut cache = KvCache::new(TensorMut::new(&mut keys, shape)?, TensorMut::new(&mut values, shape)?)?;
/// for token in [[1.0, 0.0], [0.0, 1.0]] {
///     let token = TensorRef::new(&token, [1, 1, 1, 2])?;
///     cache.append(token, token)?;
///     let mut out = [0.0; 2];
///     Attention::new(token, cache.keys(), cache.values())
///         .mask(Causal::bottom_right())
///         .run(&mut TensorMut::new(&mut out, [1, 1, 1, 2])?, &mut [0.0; workspace_len(1, 4, 2, 2)])?;
/// }
/// assert_eq!(cache.len(), 2);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct KvCache<'a> {
    keys: TensorMut<'a>,
    values: TensorMut<'a>,
    len: usize,
}

impl<'a> KvCache<'a> {
    /// An empty cache: `keys` is batch x kv_heads x capacity x dim, `values` the same with its
    /// own last axis.
    ///
    /// # Errors
    /// If the two do not fit.
    pub fn new(keys: TensorMut<'a>, values: TensorMut<'a>) -> Result<Self> {
        let axes = ["batch", "heads", "capacity"];
        for ((given, wanted), what) in values.shape().into_iter().zip(keys.shape()).zip(axes) {
            same("values", what, given, wanted)?;
        }
        Ok(KvCache { keys, values, len: 0 })
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

    /// Appends one or more tokens: batch x kv_heads x tokens x dim.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no room for all of them; the cache is unchanged then.
    pub fn append(&mut self, keys: TensorRef<'_>, values: TensorRef<'_>) -> Result<()> {
        let tokens = keys.shape()[2];
        for (argument, given, cache) in
            [("keys", keys, &self.keys), ("values", values, &self.values)]
        {
            let ([batch, heads, given_tokens, dim], wanted) = (given.shape(), cache.shape());
            same(argument, "batch", batch, wanted[0])?;
            same(argument, "heads", heads, wanted[1])?;
            same(argument, "tokens", given_tokens, tokens)?;
            same(argument, "dim", dim, wanted[3])?;
        }
        let (given, limit) = (tokens, self.capacity() - self.len);
        if given > limit {
            let kind = ErrorKind::TooLarge { what: "tokens", given, limit };
            return Err(Error::new("keys", kind));
        }
        copy(keys, self.keys.reborrow().narrow(2, self.len, tokens)?);
        copy(values, self.values.reborrow().narrow(2, self.len, tokens)?);
        self.len += tokens;
        Ok(())
    }

    /// The keys so far: batch x kv_heads x len x dim.
    pub fn keys(&self) -> TensorRef<'_> {
        first_tokens(&self.keys, self.len)
    }

    /// The values so far: batch x kv_heads x len x value_dim.
    pub fn values(&self) -> TensorRef<'_> {
        first_tokens(&self.values, self.len)
    }
}

fn first_tokens<'v>(view: &'v TensorMut<'_>, len: usize) -> TensorRef<'v> {
    // `len` never exceeds the axis.
    view.as_ref().narrow(2, 0, len).unwrap_or(view.as_ref())
}
