//! Keys and values of eight bits, with a scale for each token and head.

use masktile_kernels::attention::Data;
use masktile_kernels::mask::Grid;

use super::{first, fits};
use crate::Result;
use crate::attention::Attention;
use crate::error::{Error, ErrorKind, same};
use crate::mask::Causal;
use crate::number::Number;
use crate::view::{TensorMut, TensorRef, View, ViewMut};

/// Keys or values of eight bits to read: number `[b, h, t, d]` is `codes[b, h, t, d] * scales[b, h, t]`,
/// rounded to f32.
#[derive(Clone, Copy, Debug)]
pub struct ScaledTokens<'a> {
    codes: TensorRef<'a, i8>,
    scales: View<'a, f32, 3>,
}

impl<'a> ScaledTokens<'a> {
    /// `codes` are batch x kv_heads x tokens x dim, `scales` batch x kv_heads x tokens.
    ///
    /// # Errors
    /// If the two do not fit.
    pub fn new(codes: TensorRef<'a, i8>, scales: View<'a, f32, 3>) -> Result<Self> {
        same_tokens("scales", scales.shape(), codes.shape())?;
        Ok(ScaledTokens { codes, scales })
    }

    /// batch x kv_heads x tokens x dim
    pub fn shape(&self) -> [usize; 4] {
        self.codes.shape()
    }

    /// The number at `index`, if there is one: a float, exactly as attention takes it.
    pub fn get(&self, index: [usize; 4]) -> Option<f32> {
        let [batch, head, token, _] = index;
        let (code, scale) = (self.codes.get(index)?, self.scales.get([batch, head, token])?);
        Some(f32::from(*code) * scale)
    }

    /// As kernels read them.
    pub(crate) fn data(&self) -> Data {
        let [batch, head, token] = self.scales.strides();
        let scales = Grid { data: self.scales.as_ptr(), strides: [batch, head, token, 0] };
        Data::Scaled {
            codes: Grid { data: self.codes.as_ptr(), strides: self.codes.strides() },
            scales,
        }
    }
}

fn same_tokens(argument: &'static str, scales: [usize; 3], codes: [usize; 4]) -> Result<()> {
    let axes = ["batch", "heads", "tokens"];
    let sizes = scales.into_iter().zip(codes).zip(axes);
    sizes.into_iter().try_for_each(|((given, wanted), what)| same(argument, what, given, wanted))
}

/// A [`KvCache`](super::KvCache) of eight bits: a quarter of the memory, and as much more as a scale for
/// each token and head takes. A number is off by at most a 254th of the greatest magnitude of its
/// token and head.
///
/// ```
/// use masktile::{TensorMut, TensorRef, ViewMut, Workspace, cache::ScaledCache};
///
/// let ([mut keys, mut values], [mut key_scales, mut value_scales]) = ([[0; 8]; 2], [[0.0; 4]; 2]);
/// let shape = [1, 1, 4, 2];                               // room for 4 tokens
/// let mut cache = ScaledCache::new(
///     TensorMut::new(&mut keys, shape)?,
///     ViewMut::new(&mut key_scales, [1, 1, 4])?,
///     TensorMut::new(&mut values, shape)?,
///     ViewMut::new(&mut value_scales, [1, 1, 4])?,
/// )?;
/// let tokens = TensorRef::new(&[1.0, 0.0, 0.0, 1.0], [1, 1, 2, 2])?;
/// cache.append(tokens, tokens)?;
/// let (q, mut out) = ([0.0; 2], [0.0; 2]);
/// cache
///     .attend(TensorRef::new(&q, [1, 1, 1, 2])?)
///     .run(&mut TensorMut::new(&mut out, [1, 1, 1, 2])?, &mut Workspace::new())?;
/// assert!((out[0] - 0.5).abs() < 1e-6 && (out[1] - 0.5).abs() < 1e-6);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct ScaledCache<'a> {
    keys: Half<'a>,
    values: Half<'a>,
    len: usize,
}

/// The keys or the values.
#[derive(Debug)]
struct Half<'a> {
    codes: TensorMut<'a, i8>,
    scales: ViewMut<'a, f32, 3>,
}

impl Half<'_> {
    /// Writes tokens from `first` on.
    fn write<F: Number>(&mut self, first: usize, from: TensorRef<'_, F>) {
        let [batch, heads, tokens, dim] = from.shape();
        // Without a number the other sizes may be any.
        for b in 0..if dim == 0 { 0 } else { batch } {
            for h in 0..heads {
                for t in 0..tokens {
                    let number = |d| from.get([b, h, t, d]).map_or(0.0, |x| x.to_f32());
                    let greatest = (0..dim).fold(0.0, |most: f32, d| most.max(number(d).abs()));
                    let scale = greatest / 127.0;
                    let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                    if let Some(place) = self.scales.get_mut([b, h, first + t]) {
                        *place = scale;
                    }
                    for d in 0..dim {
                        if let Some(place) = self.codes.get_mut([b, h, first + t, d]) {
                            *place = libm::roundf(number(d) * factor) as i8;
                        }
                    }
                }
            }
        }
    }

    /// The first `len` tokens.
    fn read(&self, len: usize) -> ScaledTokens<'_> {
        // `len` never exceeds the axis.
        let scales = self.scales.as_ref().narrow(2, 0, len).unwrap_or(self.scales.as_ref());
        ScaledTokens { codes: first(&self.codes, self.codes.shape()[0], len), scales }
    }
}

impl<'a> ScaledCache<'a> {
    /// An empty cache: codes are batch x kv_heads x capacity x dim, values with their own last axis,
    /// scales batch x kv_heads x capacity.
    ///
    /// # Errors
    /// If the four do not fit.
    pub fn new(
        keys: TensorMut<'a, i8>,
        key_scales: ViewMut<'a, f32, 3>,
        values: TensorMut<'a, i8>,
        value_scales: ViewMut<'a, f32, 3>,
    ) -> Result<Self> {
        let [batch, heads, capacity, _] = values.shape();
        same_tokens("values", [batch, heads, capacity], keys.shape())?;
        same_tokens("key_scales", key_scales.shape(), keys.shape())?;
        same_tokens("value_scales", value_scales.shape(), values.shape())?;
        let keys = Half { codes: keys, scales: key_scales };
        let values = Half { codes: values, scales: value_scales };
        Ok(ScaledCache { keys, values, len: 0 })
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
        self.keys.codes.shape()[2]
    }

    /// Forgets all tokens from `len` on; nothing if it holds fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends one or more tokens, quantised: batch x kv_heads x tokens x dim.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no room for all of them; the cache is unchanged then.
    pub fn append<F: Number>(
        &mut self,
        keys: TensorRef<'_, F>,
        values: TensorRef<'_, F>,
    ) -> Result<()> {
        let caches = [self.keys.codes.shape(), self.values.codes.shape()];
        fits([keys.shape(), values.shape()], caches[0][0], caches)?;
        let (given, limit) = (keys.shape()[2], self.capacity() - self.len);
        if given > limit {
            return Err(Error::new("keys", ErrorKind::TooLarge { what: "tokens", given, limit }));
        }
        self.keys.write(self.len, keys);
        self.values.write(self.len, values);
        self.len += given;
        Ok(())
    }

    /// Attention of `q`, the last tokens of the cache, over all that it holds:
    /// [`Causal::bottom_right`]. Another mask takes its place; compose it with that one where
    /// both are meant.
    pub fn attend<'v, Q: Number>(&'v self, q: TensorRef<'v, Q>) -> Attention<'v> {
        Attention::scaled(q, self.keys(), self.values()).mask(Causal::bottom_right())
    }

    /// The keys so far.
    pub fn keys(&self) -> ScaledTokens<'_> {
        self.keys.read(self.len)
    }

    /// The values so far.
    pub fn values(&self) -> ScaledTokens<'_> {
        self.values.read(self.len)
    }
}
