//! Attention on a rayon pool: groups of query rows in parts or, where they are too few for the
//! threads, the keys in parts.

use masktile_kernels::gemm::split;
use masktile_kernels::mask::Plan;
use rayon::prelude::*;

use super::{Attention, KEY_BLOCK, KeyBlocks, Merge, Scoring, Sizes, Source, key_blocks_len};
use crate::Result;
use crate::error::same_shape;
use crate::isa;
use crate::number::{AnyTensor, Number, kernel_of};
use crate::view::{TensorMut, TensorRef};
use crate::workspace::{Scratch, WORTH_A_THREAD, Workspace, run_parts, with_kept};

/// Some of the keys, and where their blocks go.
struct KeyPart<'a> {
    first: usize,
    k: AnyTensor<'a>,
    v: AnyTensor<'a>,
    blocks: &'a mut [f32],
}

impl<'a> Attention<'a> {
    /// Computes `out` on the current rayon pool; small work on the caller's thread. Where there are
    /// fewer groups of query rows than threads, as in decoding, the keys are shared out. The bits
    /// are those of [`Attention::run`].
    ///
    /// # Errors
    /// As [`Attention::run`].
    pub fn run_rayon<T: Number>(self, out: &mut TensorMut<'_, T>) -> Result<()> {
        let sizes = self.sizes()?;
        let threads = rayon::current_num_threads();
        // More parts than threads: with a causal mask the later ones have more to do.
        let parts = (8 * threads).min(sizes.work() / WORTH_A_THREAD);
        let lines = sizes.batch.saturating_mul(sizes.kv_heads);
        match self.tokens_in_parts(&sizes) {
            Some(tokens) if lines < threads && parts > 1 => {
                self.run_over_keys(&sizes, tokens, parts, out)
            }
            _ => self.run_over_rows(&sizes, parts, out),
        }
    }

    fn run_over_rows<T: Number>(
        mut self,
        sizes: &Sizes,
        parts: usize,
        out: &mut TensorMut<'_, T>,
    ) -> Result<()> {
        let mut plan = Plan::EMPTY;
        self.add_to_plan(sizes, &mut plan)?;
        let isa = isa::or_current(self.isa)?;
        let output = self.values_output(sizes, out)?;
        let attention = self.kernel(sizes, &plan, output)?;
        let (units, run) = (attention.units(), self.chosen(kernel_of::<T>()));
        let parts = parts.clamp(1, units.max(1));
        run_parts(parts, sizes.workspace_len(), |index, workspace| {
            let at = |i: usize| split(units, i, parts);
            let workspace = workspace.as_mut_ptr();
            // SAFETY: as in `run_all`; units are disjoint in the outputs, each part has a workspace.
            unsafe { run(isa, &attention, at(index), at(index + 1), workspace) };
        })
    }

    /// Keys and values, if they can be computed in parts of whole blocks: pages cannot be narrowed,
    /// and probabilities are known behind the merge alone.
    fn tokens_in_parts(&self, sizes: &Sizes) -> Option<[AnyTensor<'a>; 2]> {
        let Source::Tensors { k, v } = self.source else { return None };
        let whole_blocks = self.copy.is_none()
            && sizes.first_key.is_multiple_of(KEY_BLOCK)
            && sizes.keys > KEY_BLOCK
            && cfg!(feature = "scores");
        whole_blocks.then_some([k, v])
    }

    fn run_over_keys<T: Number>(
        mut self,
        sizes: &Sizes,
        [k, v]: [AnyTensor<'a>; 2],
        parts: usize,
        out: &mut TensorMut<'_, T>,
    ) -> Result<()> {
        let wanted = [sizes.batch, sizes.heads, sizes.queries, sizes.value_dim];
        same_shape("out", ["batch", "heads", "tokens", "dim"], out.shape(), wanted)?;
        let rows = sizes.batch * sizes.heads * sizes.queries;
        let len = |keys| key_blocks_len(rows, keys, sizes.value_dim);
        let count = sizes.keys.div_ceil(KEY_BLOCK);
        let parts = parts.min(count);
        let at = |i: usize| (split(count, i, parts) * KEY_BLOCK).min(sizes.keys);

        let mut memory = Workspace::new();
        let values = rows * sizes.value_dim;
        let (merged, mut rest) =
            memory.floats(values.saturating_add(len(sizes.keys)))?.split_at_mut(values);
        let mut pieces = Vec::with_capacity(parts);
        for i in 0..parts {
            let (first, keys) = (at(i), at(i + 1) - at(i));
            let (blocks, behind) = rest.split_at_mut(len(keys));
            rest = behind;
            let (k, v) = (k.tokens(first, keys), v.tokens(first, keys));
            pieces.push(KeyPart { first, k, v, blocks });
        }
        let this = &self;
        pieces.par_iter_mut().try_for_each(|piece| {
            let attention = Attention {
                q: this.q,
                source: Source::Tensors { k: piece.k, v: piece.v },
                scoring: Scoring { sinks: None, ..this.scoring },
                part: Some([sizes.first_key + piece.first, sizes.all_keys]),
                lse: None,
                copy: None,
                isa: this.isa,
            };
            with_kept(|workspace| attention.run_key_blocks(piece.blocks, workspace))
        })?;

        let blocks: Vec<KeyBlocks<'_>> = pieces
            .iter()
            .map(|piece| KeyBlocks { blocks: piece.blocks, keys: piece.k.shape()[2] })
            .collect();
        let mut merge = Merge::blocks(&blocks);
        (merge.sinks, merge.lse, merge.isa) = (self.scoring.sinks, self.lse.take(), self.isa);
        merge.run(&mut TensorMut::new(merged, wanted)?)?;
        write_rounded(merged, out)
    }
}

/// Contiguous floats to an output of the same shape, each rounded once.
fn write_rounded<T: Number>(floats: &[f32], out: &mut TensorMut<'_, T>) -> Result<()> {
    let shape = out.shape();
    let floats = TensorRef::new(floats, shape)?;
    for index in positions(shape) {
        if let (Some(place), Some(float)) = (out.get_mut(index), floats.get(index)) {
            *place = T::from_f32(*float);
        }
    }
    Ok(())
}

fn positions([batch, heads, tokens, dim]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..batch).flat_map(move |b| {
        (0..heads)
            .flat_map(move |h| (0..tokens).flat_map(move |t| (0..dim).map(move |d| [b, h, t, d])))
    })
}

impl Sizes {
    /// Multiply-adds, as if nothing were masked.
    fn work(&self) -> usize {
        let rows = self.batch.saturating_mul(self.heads).saturating_mul(self.queries);
        rows.saturating_mul(self.keys).saturating_mul(self.dim.saturating_add(self.value_dim))
    }
}
