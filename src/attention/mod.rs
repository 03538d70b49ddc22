//! Masked attention: `softmax(scale Q K^T, masked) V` for each batch and head.

mod merge;
#[cfg(feature = "rayon")]
mod threads;

use masktile_kernels::NumbersMut;
use masktile_kernels::attention::{self as kernel, Data, Output, ScoresCopy, Tokens};
use masktile_kernels::mask::{Plan, Range};
use masktile_kernels::score::Stage;

#[doc(inline)]
pub use masktile_kernels::attention::KEY_BLOCK;
#[doc(inline)]
pub use merge::{KeyBlocks, Merge, PartialOutput, key_blocks_len};

use crate::Result;
use crate::cache::{PagedKv, ScaledTokens};
use crate::error::{Error, ErrorKind, long_enough, same, same_shape};
use crate::isa::{self, Isa};
use crate::mask::Mask;
use crate::number::{AnyTensor, AttentionKernel, Number, kernel_of};
use crate::score::{Scoring, compiled};
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
/// Operands and the output are of f32, f16 or bf16, in any mix; keys and values also of eight bits with
/// a scale for each token ([`Attention::scaled`]). Arithmetic is in f32, and a result of halves is
/// rounded once: its bits are those of the attention over f32 copies, so rounded.
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
    q: AnyTensor<'a>,
    source: Source<'a>,
    scoring: Scoring<'a>,
    /// The first key, and how many there are in all.
    part: Option<[usize; 2]>,
    lse: Option<&'a mut [f32]>,
    copy: Option<(Copied, TensorMut<'a>)>,
    isa: Option<Isa>,
}

/// Keys and values.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Tensors { k: AnyTensor<'a>, v: AnyTensor<'a> },
    Scaled { k: ScaledTokens<'a>, v: ScaledTokens<'a> },
    Paged(PagedKv<'a>),
}

impl Source<'_> {
    /// The kernel that they take, where that is not the one of f32.
    fn kernel(&self) -> Option<AttentionKernel> {
        match self {
            Source::Tensors { k, v } => k.kernel().or(v.kernel()),
            Source::Scaled { .. } => Some(kernel::attention_mixed),
            Source::Paged(kv) => kv.kernel(),
        }
    }
}

/// What [`Attention::copy_scores`] copies, in the order of [`crate::score`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copied {
    /// The scaled products of queries and keys.
    Scaled,
    /// Those behind the soft cap.
    Capped,
    /// Those behind the biases and the temperature.
    Biased,
    /// The probabilities.
    Probs,
}

impl<'a> Attention<'a> {
    /// Everything kept, scale `1 / sqrt(dim)`.
    pub fn new<Q: Number, K: Number, V: Number>(
        q: TensorRef<'a, Q>,
        k: TensorRef<'a, K>,
        v: TensorRef<'a, V>,
    ) -> Self {
        Self::over(q, Source::Tensors { k: AnyTensor::of(k), v: AnyTensor::of(v) })
    }

    /// Over keys and values of eight bits, with a scale for each token.
    pub fn scaled<Q: Number>(
        q: TensorRef<'a, Q>,
        k: ScaledTokens<'a>,
        v: ScaledTokens<'a>,
    ) -> Self {
        Self::over(q, Source::Scaled { k, v })
    }

    /// Over keys and values in pages. [`PagedKv::attend`] sets the mask as well.
    pub fn paged<Q: Number>(q: TensorRef<'a, Q>, kv: PagedKv<'a>) -> Self {
        Self::over(q, Source::Paged(kv))
    }

    fn over<Q: Number>(q: TensorRef<'a, Q>, source: Source<'a>) -> Self {
        let (q, scoring) = (AnyTensor::of(q), Scoring::NEW);
        Attention { q, source, scoring, part: None, lse: None, copy: None, isa: None }
    }

    /// What is kept, and biases. Default: everything, none.
    pub fn mask(mut self, mask: impl Into<Mask<'a>>) -> Self {
        self.scoring.mask = mask.into();
        self
    }

    /// The factor of the products of queries and keys. Default `1 / sqrt(dim)`.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scoring.scale = Some(scale);
        self
    }

    /// Keeps scaled scores within `cap`, by `cap * tanh(s / cap)`. Default: none.
    pub fn softcap(mut self, cap: f32) -> Self {
        self.scoring.softcap = Some(cap);
        self
    }

    /// Divides the scores, biases included (by a multiplication with `1 / temperature`, rounded).
    /// Default 1.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.scoring.temperature = temperature;
        self
    }

    /// A logit for each head that joins the softmax's sum and has no value. Scale, cap and
    /// temperature do not touch it. A row of which nothing is kept has zeros and the sink as
    /// log-sum-exp.
    pub fn sinks(mut self, sinks: &'a [f32]) -> Self {
        self.scoring.sinks = Some(sinks);
        self
    }

    /// Where to write the log-sum-exp of each row's scores, batch x heads x queries numbers;
    /// -infinity for a row of which nothing is kept.
    pub fn log_sum_exp(mut self, lse: &'a mut [f32]) -> Self {
        self.lse = Some(lse);
        self
    }

    /// Also writes the scores or the probabilities to `out`, batch x heads x queries x keys, to
    /// look at. Masked positions are -infinity, of probabilities 0.
    ///
    /// ```
    /// use masktile::{Attention, Causal, TensorMut, TensorRef, Workspace, attention::Copied};
    /// let (x, mut out, mut probs) = ([0.5; 4], [0.0; 4], [0.0; 4]);
    /// let x = TensorRef::new(&x, [1, 1, 2, 2])?;
    /// Attention::new(x, x, x)
    ///     .mask(Causal::top_left())
    ///     .copy_scores(Copied::Probs, TensorMut::new(&mut probs, [1, 1, 2, 2])?)
    ///     .run(&mut TensorMut::new(&mut out, [1, 1, 2, 2])?, &mut Workspace::new())?;
    /// assert_eq!(probs, [1.0, 0.0, 0.5, 0.5]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn copy_scores(mut self, what: Copied, out: TensorMut<'a>) -> Self {
        self.copy = Some((what, out));
        self
    }

    /// The keys and values are those from `first_key` on of `keys` in all, which the mask speaks
    /// of. Outputs over parts, each with its log-sum-exp, merge by [`Merge::outputs`]; give a
    /// sink to one of them alone.
    pub fn part_of(mut self, first_key: usize, keys: usize) -> Self {
        self.part = Some([first_key, keys]);
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
    /// If shapes, the mask or a number do not fit, the workspace is too short, or `MASKTILE_ISA`
    /// names no available instruction set; the outputs are untouched then.
    pub fn run<T: Number, W: Scratch + ?Sized>(
        mut self,
        out: &mut TensorMut<'_, T>,
        workspace: &mut W,
    ) -> Result<()> {
        let sizes = self.sizes()?;
        let mut plan = Plan::EMPTY;
        self.add_to_plan(&sizes, &mut plan)?;
        let output = self.values_output(&sizes, out)?;
        let attention = self.kernel(&sizes, &plan, output)?;
        self.run_all(&sizes, &attention, kernel_of::<T>(), workspace)
    }

    /// Computes each block of [`KEY_BLOCK`] keys by itself: [`Merge::blocks`] merges those of all
    /// keys, in order, with the bits of [`Attention::run`] over them all. So keys can be shared out
    /// over threads, sockets or machines ([`Attention::part_of`]) and no bit changes.
    ///
    /// `blocks` holds [`key_blocks_len`] floats.
    ///
    /// # Errors
    /// As [`Attention::run`]; if the part does not begin at a multiple of [`KEY_BLOCK`]; if sinks
    /// or a log-sum-exp are asked for, which belong to the merge, or a copy of probabilities,
    /// which only the merge could make.
    pub fn run_key_blocks<W: Scratch + ?Sized>(
        mut self,
        blocks: &mut [f32],
        workspace: &mut W,
    ) -> Result<()> {
        compiled("blocks", true)?;
        let sizes = self.sizes()?;
        let mut plan = Plan::EMPTY;
        self.add_to_plan(&sizes, &mut plan)?;
        if !sizes.first_key.is_multiple_of(KEY_BLOCK) {
            let kind =
                ErrorKind::Multiple { what: "first key", given: sizes.first_key, of: KEY_BLOCK };
            return Err(Error::new("first_key", kind));
        }
        let probs = matches!(self.copy, Some((Copied::Probs, _)));
        for (argument, is_given) in
            [("sinks", self.scoring.sinks.is_some()), ("lse", self.lse.is_some()), ("copy", probs)]
        {
            if is_given {
                let wanted = "with the merge of the key blocks";
                return Err(Error::new(argument, ErrorKind::Misplaced { wanted }));
            }
        }
        let rows = row_count(sizes.scores())?;
        long_enough("blocks", blocks.len(), key_blocks_len(rows, sizes.keys, sizes.value_dim))?;
        let attention = self.kernel(&sizes, &plan, Output::Blocks(blocks.as_mut_ptr()))?;
        self.run_all(&sizes, &attention, None, workspace)
    }

    fn run_all<W: Scratch + ?Sized>(
        &self,
        sizes: &Sizes,
        attention: &kernel::Attention<'_>,
        output: Option<AttentionKernel>,
        workspace: &mut W,
    ) -> Result<()> {
        let isa = isa::or_current(self.isa)?;
        let workspace = workspace.floats(sizes.workspace_len())?;
        // SAFETY: the views hold every element that the sizes and strides name; the outputs,
        // borrowed mutably, overlap nothing, and their elements are distinct; the plan's matrices
        // were checked against the sizes, and of paged keys it keeps only those that the table
        // names; the workspace is as long as `workspace_len` says.
        unsafe {
            let workspace = workspace.as_mut_ptr();
            self.chosen(output)(isa, attention, 0, attention.units(), workspace);
        }
        Ok(())
    }

    /// The kernel for the operands, and an output that takes this one.
    fn chosen(&self, output: Option<AttentionKernel>) -> AttentionKernel {
        let mixed = self.q.kernel().or(self.source.kernel()).or(output);
        mixed.unwrap_or(kernel::attention)
    }

    fn sizes(&self) -> Result<Sizes> {
        let [batch, heads, queries, dim] = self.q.shape();
        let axes = ["batch", "heads", "tokens", "dim"];
        let (kv_heads, keys, value_dim) = match self.source {
            Source::Tensors { k, v } => {
                let [_, kv_heads, keys, _] = k.shape();
                let value_dim = v.shape()[3];
                same_shape("k", axes, k.shape(), [batch, kv_heads, keys, dim])?;
                same_shape("v", axes, v.shape(), [batch, kv_heads, keys, value_dim])?;
                (kv_heads, keys, value_dim)
            }
            Source::Scaled { k, v } => {
                let [_, kv_heads, keys, _] = k.shape();
                let value_dim = v.shape()[3];
                same_shape("k", axes, k.shape(), [batch, kv_heads, keys, dim])?;
                same_shape("v", axes, v.shape(), [batch, kv_heads, keys, value_dim])?;
                (kv_heads, keys, value_dim)
            }
            Source::Paged(kv) => {
                let [kv_heads, kv_dim, value_dim] = kv.widths();
                same("kv", "batch", kv.lengths().len(), batch)?;
                same("kv", "dim", kv_dim, dim)?;
                (kv_heads, kv.longest(), value_dim)
            }
        };
        if heads.checked_rem(kv_heads).unwrap_or(heads) != 0 {
            let kind = ErrorKind::Multiple { what: "heads", given: heads, of: kv_heads };
            return Err(Error::new("q", kind));
        }
        let [first_key, all_keys] = self.part.unwrap_or([0, keys]);
        let (given, limit) = (first_key.saturating_add(keys), all_keys);
        if given > limit {
            let kind = ErrorKind::TooLarge { what: "first key + keys here", given, limit };
            return Err(Error::new("first_key", kind));
        }
        let sizes =
            Sizes { batch, heads, kv_heads, queries, keys, first_key, all_keys, dim, value_dim };
        row_count(sizes.scores())?;
        Ok(sizes)
    }

    fn add_to_plan(&self, sizes: &Sizes, plan: &mut Plan<'a>) -> Result<()> {
        self.scoring.mask.add_to_plan(sizes.scores(), plan)?;
        if let Source::Paged(kv) = self.source
            && !plan.ranges.push(Range::KeyLengths(kv.lengths()))
        {
            let what = "masks that keep a run of keys, composed over a paged cache";
            let limit = masktile_kernels::mask::MAX_OF_A_SORT - 1;
            return Err(Error::new("mask", ErrorKind::TooLarge { what, given: limit + 1, limit }));
        }
        Ok(())
    }

    fn values_output<T: Number>(
        &mut self,
        sizes: &Sizes,
        out: &mut TensorMut<'_, T>,
    ) -> Result<Output> {
        let wanted = [sizes.batch, sizes.heads, sizes.queries, sizes.value_dim];
        same_shape("out", ["batch", "heads", "tokens", "dim"], out.shape(), wanted)?;
        let lse = lse_pointer(&mut self.lse, row_count(sizes.scores())?)?;
        Ok(Output::Values { out: NumbersMut::at(out.as_mut_ptr()), strides: out.strides(), lse })
    }

    fn kernel<'p>(
        &mut self,
        sizes: &Sizes,
        plan: &'p Plan<'p>,
        out: Output,
    ) -> Result<kernel::Attention<'p>>
    where
        'a: 'p,
    {
        let Sizes { batch, heads, kv_heads, queries, keys, first_key, dim, value_dim, .. } = *sizes;
        let usual_scale = 1.0 / libm::sqrtf(dim.max(1) as f32);
        let rule = self.scoring.rule(sizes.scores(), usual_scale, plan)?;
        compiled("copy", self.copy.is_some())?;
        let copy = match &mut self.copy {
            None => None,
            Some((what, scores)) => {
                let axes = ["batch", "heads", "queries", "keys"];
                same_shape("copy", axes, scores.shape(), [batch, heads, queries, keys])?;
                let stage = match what {
                    Copied::Scaled => Some(Stage::Scaled),
                    Copied::Capped => Some(Stage::Capped),
                    Copied::Biased => Some(Stage::Biased),
                    Copied::Probs => None,
                };
                Some(ScoresCopy { data: scores.as_mut_ptr(), strides: scores.strides(), stage })
            }
        };
        let (k, v) = match self.source {
            Source::Tensors { k, v } => (Data::Numbers(k.tensor()), Data::Numbers(v.tensor())),
            Source::Scaled { k, v } => (k.data(), v.data()),
            Source::Paged(kv) => kv.data(),
        };
        let pages = match self.source {
            Source::Paged(kv) => Some(kv.pages()),
            _ => None,
        };
        let (k, v) = (Tokens { data: k, pages }, Tokens { data: v, pages });
        let sinks = self.scoring.sinks.unwrap_or(&[]);
        let q = self.q.tensor();
        Ok(kernel::Attention {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            first_key,
            dim,
            value_dim,
            q,
            k,
            v,
            rule,
            sinks,
            out,
            copy,
        })
    }
}

struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    first_key: usize,
    all_keys: usize,
    dim: usize,
    value_dim: usize,
}

impl Sizes {
    /// The scores that the mask speaks of.
    fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.all_keys]
    }

    fn workspace_len(&self) -> usize {
        let rows = self.heads.saturating_mul(self.queries).checked_div(self.kv_heads).unwrap_or(0);
        workspace_len(rows, self.keys, self.dim, self.value_dim)
    }
}
