//! Masked attention: `softmax(scale Q K^T, masked) V` for each batch and head.

use masktile_kernels::{attention as kernel, mask::Grid};

#[doc(inline)]
pub use masktile_kernels::attention::KEY_BLOCK;

use crate::Result;
use crate::error::{Error, ErrorKind, same_shape};
use crate::isa::{self, Isa};
use crate::mask::Mask;
use crate::softmax::{lse_pointer, row_count};
use crate::view::{TensorMut, TensorRef};
use crate::workspace::Scratch;

/// Floats of workspace, whatever the machine and the strides, for `rows` query rows a key/value
/// head: queries times the query heads that share it. It stops growing at 168 rows and 256 keys,
/// so a fixed one serves any sequence: under 1 MiB at head_dim 128.
///
/// ```
/// use masktile::attention::workspace_len;
/// assert_eq!(workspace_len(4096, 4096, 128, 128), workspace_len(168, 256, 128, 128));
/// assert!(workspace_len(4096, 4096, 128, 128) * 4 < 1 << 20);
/// ```
pub const fn workspace_len(rows: usize, keys: usize, dim: usize, value_dim: usize) -> usize {
    kernel::workspace(rows, keys, dim, value_dim)
}

/// `out = softmax(scale Q K^T + bias, masked) V` for each batch and head, never holding a
/// queries x keys matrix.
///
/// | operand | batch x heads x tokens x dim |
/// | --- | --- |
/// | q | batch x heads x queries x dim |
/// | k | batch x kv_heads x keys x dim |
/// | v | batch x kv_heads x keys x value_dim |
/// | out | batch x heads x queries x value_dim |
///
/// `kv_heads` divides `heads`: with fewer of them, query head `h` reads key/value head
/// `h / (heads / kv_heads)` (grouped-query attention; multi-query with one).
///
/// Self-attention, cross-attention (keys and values of another sequence) and cached decoding (few
/// queries, keys from a cache, `Causal::bottom_right()`) are the same call. A row of which nothing
/// is kept gives zeros. Keys and values at masked positions have no influence, NaN and
/// infinity included. A row's bits do not depend on what else is computed with it: a decode step
/// gives the bits of its row in a prefill.
///
/// Method: T. Dao et al., *FlashAttention*, 2022, with key blocks of [`KEY_BLOCK`] taken each by
/// itself and merged in order.
///
/// ```
/// use masktile::{Attention, Causal, TensorMut, TensorRef, attention::workspace_len};
///
/// let (q, k, v) = ([1.0; 4], [1.0; 4], [1.0, 2.0, 3.0, 4.0]);
/// let shape = [1, 1, 2, 2];                               // batch, heads, tokens, dim
/// let mut out = [0.0; 4];
/// Attention::new(TensorRef::new(&q, shape)?, TensorRef::new(&k, shape)?, TensorRef::new(&v, shape)?)
///     .mask(Causal::top_left())
///     .run(&mut TensorMut::new(&mut out, shape)?, &mut [0.0; workspace_len(2, 2, 2, 2)])?;
/// assert_eq!(out, [1.0, 2.0, 2.0, 3.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Debug)]
pub struct Attention<'a> {
    q: TensorRef<'a>,
    k: TensorRef<'a>,
    v: TensorRef<'a>,
    mask: Mask<'a>,
    scale: Option<f32>,
    lse: Option<&'a mut [f32]>,
    isa: Option<Isa>,
}

impl<'a> Attention<'a> {
    /// Everything kept, scale `1 / sqrt(dim)`.
    pub fn new(q: TensorRef<'a>, k: TensorRef<'a>, v: TensorRef<'a>) -> Self {
        Attention { q, k, v, mask: Mask::None, scale: None, lse: None, isa: None }
    }

    /// What is kept, and biases. Default: everything, none.
    pub fn mask(mut self, mask: impl Into<Mask<'a>>) -> Self {
        self.mask = mask.into();
        self
    }

    /// The factor of the products of queries and keys. Default `1 / sqrt(dim)`.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers;
    /// -infinity for a row of which nothing is kept.
    pub fn log_sum_exp(mut self, lse: &'a mut [f32]) -> Self {
        self.lse = Some(lse);
        self
    }

    /// The instruction set to use; see [`isa`] for the default.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Computes `out`. `workspace` holds at least [`workspace_len`] floats.
    ///
    /// # Errors
    /// If shapes or the mask do not fit, the workspace is too short, or `MASKTILE_ISA` names no
    /// available instruction set; the outputs are untouched then.
    pub fn run<W: Scratch + ?Sized>(
        mut self,
        out: &mut TensorMut<'_>,
        workspace: &mut W,
    ) -> Result<()> {
        let sizes = self.sizes(out)?;
        let plan = self.mask.plan(sizes.scores())?;
        let isa = isa::or_current(self.isa)?;
        let lse = lse_pointer(&mut self.lse, row_count(sizes.scores())?)?;
        let workspace = workspace.floats(sizes.workspace_len())?;
        let attention = self.kernel(&sizes, &plan, lse, out);
        // SAFETY: the views hold every element that the sizes and strides name; out and lse,
        // borrowed mutably, overlap nothing, and their elements are distinct; the plan's matrices
        // were checked against the sizes; the workspace is as long as `workspace_len` says.
        unsafe { kernel::attention(isa, &attention, 0, attention.units(), workspace.as_mut_ptr()) };
        Ok(())
    }

    /// Computes `out` on the current rayon pool, in at most as many parts as it has threads. The
    /// bits are those of [`Attention::run`].
    ///
    /// # Errors
    /// As [`Attention::run`].
    #[cfg(feature = "rayon")]
    pub fn run_rayon(mut self, out: &mut TensorMut<'_>) -> Result<()> {
        let sizes = self.sizes(out)?;
        let plan = self.mask.plan(sizes.scores())?;
        let isa = isa::or_current(self.isa)?;
        let lse = lse_pointer(&mut self.lse, row_count(sizes.scores())?)?;
        let attention = self.kernel(&sizes, &plan, lse, out);
        let units = attention.units();
        // More parts than threads: with a causal mask the later ones have more to do.
        let parts = units.min(8 * rayon::current_num_threads());
        crate::workspace::run_parts(parts, sizes.workspace_len(), |index, workspace| {
            let at = |i: usize| (units as u128 * i as u128 / parts as u128) as usize;
            // SAFETY: as in `run`; units are disjoint in out and lse, each part has a workspace.
            unsafe {
                let workspace = workspace.as_mut_ptr();
                kernel::attention(isa, &attention, at(index), at(index + 1), workspace);
            }
        })
    }

    fn sizes(&self, out: &TensorMut<'_>) -> Result<Sizes> {
        let [batch, heads, queries, dim] = self.q.shape();
        let [_, kv_heads, keys, _] = self.k.shape();
        let value_dim = self.v.shape()[3];
        let check = |argument, given, wanted| {
            same_shape(argument, ["batch", "heads", "tokens", "dim"], given, wanted)
        };
        check("k", self.k.shape(), [batch, kv_heads, keys, dim])?;
        check("v", self.v.shape(), [batch, kv_heads, keys, value_dim])?;
        check("out", out.shape(), [batch, heads, queries, value_dim])?;
        if heads.checked_rem(kv_heads).unwrap_or(heads) != 0 {
            let kind = ErrorKind::Multiple { what: "heads", given: heads, of: kv_heads };
            return Err(Error::new("q", kind));
        }
        let sizes = Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim };
        row_count(sizes.scores())?;
        Ok(sizes)
    }

    fn kernel<'p>(
        &self,
        sizes: &Sizes,
        plan: &'p masktile_kernels::mask::Plan<'p>,
        lse: *mut f32,
        out: &mut TensorMut<'_>,
    ) -> kernel::Attention<'p> {
        let Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim } = *sizes;
        let grid = |view: &TensorRef<'_>| Grid { data: view.as_ptr(), strides: view.strides() };
        kernel::Attention {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            dim,
            value_dim,
            q: grid(&self.q),
            k: grid(&self.k),
            v: grid(&self.v),
            out_strides: out.strides(),
            out: out.as_mut_ptr(),
            scale: self.scale.unwrap_or((1.0 / libm::sqrt(dim.max(1) as f64)) as f32),
            plan,
            lse,
        }
    }
}

struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
}

impl Sizes {
    fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }

    fn workspace_len(&self) -> usize {
        let rows = self.heads.saturating_mul(self.queries).checked_div(self.kv_heads).unwrap_or(0);
        workspace_len(rows, self.keys, self.dim, self.value_dim)
    }
}
