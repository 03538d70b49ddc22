//! Masked attention, f32: `out = softmax(scale Q K^T + bias, masked) V` for each batch and head,
//! Q queries x dim, K keys x dim, V keys x value_dim.
//!
//! Method: T. Dao et al., *FlashAttention*, 2022 (after M. Milakov and N. Gimelshein, *Online
//! normalizer calculation for softmax*, 2018), with one difference: every block of
//! [`KEY_BLOCK`] keys is taken by itself, with its own maximum, sum and weighted value, and blocks
//! are merged from the first to the last. So no block depends on the one before it, and the
//! result is the same bits however queries are tiled and blocks shared out.
//!
//! A group of query rows (of all heads that share a key/value head) walks the key blocks
//! together: the block's keys are packed once, each tile of rows takes its scores, exponentials
//! and weighted value while they are in L1, and blocks that the masks rule out are skipped.

use crate::gemm::{
    A, B, MAX_MR, MAX_NR, Panel, Tile, load_strided, min, pack_panel, run_tile, store_strided,
};
use crate::isa::{Isa, run};
use crate::mask::{Grid, Plan, Row};
use crate::row::{Cells, RowMask, Run, exp_pass, fill, log_sum_exp, mask_pass, max_pass};
use crate::simd::{LANES, Op, Simd};

/// Keys of a block. Part of the numbers' contract: another length gives other roundings.
pub const KEY_BLOCK: usize = 256;
/// Query rows that share a packed block of keys, a multiple of every tile's rows.
const GROUP: usize = 168;

/// Where the parts of the workspace lie, in floats from its start.
struct Layout {
    /// Floats of a row of scores.
    block: usize,
    /// Floats of a row of values.
    width: usize,
    keys: usize,
    values: usize,
    scores: usize,
    weighted: usize,
    acc: usize,
    max: usize,
    sum: usize,
    total: usize,
}

impl Layout {
    /// `rows` are the query rows of all heads that share a key/value head. The queries lie at 0.
    const fn new(rows: usize, keys: usize, dim: usize, value_dim: usize) -> Layout {
        let group = min(rows, GROUP);
        let block = min(keys, KEY_BLOCK).next_multiple_of(MAX_NR);
        let width = match value_dim.checked_next_multiple_of(MAX_NR) {
            Some(width) => width,
            None => usize::MAX,
        };
        // Saturating: sizes that no memory holds ask for a workspace that no caller has.
        let keys = group.saturating_mul(dim);
        let values = keys.saturating_add(block.saturating_mul(dim));
        let scores = values.saturating_add(block.saturating_mul(width));
        let weighted = scores.saturating_add(MAX_MR * block);
        let acc = weighted.saturating_add(width.saturating_mul(MAX_MR));
        let max = acc.saturating_add(width.saturating_mul(group));
        let sum = max.saturating_add(group.next_multiple_of(LANES));
        let total = sum.saturating_add(group.next_multiple_of(LANES));
        Layout { block, width, keys, values, scores, weighted, acc, max, sum, total }
    }
}

/// Floats of workspace for `rows` query rows a key/value head (query heads that share it times
/// queries), whatever the instruction set. It stops growing at 168 rows and 256 keys.
pub const fn workspace(rows: usize, keys: usize, dim: usize, value_dim: usize) -> usize {
    Layout::new(rows, keys, dim, value_dim).total
}

/// An attention. Strides count elements: batch, head, token, dim.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Attention<'a> {
    pub batch: usize,
    pub heads: usize,
    /// Divides `heads`; query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub dim: usize,
    pub value_dim: usize,
    pub q: Grid<f32>,
    pub k: Grid<f32>,
    pub v: Grid<f32>,
    pub out: *mut f32,
    pub out_strides: [usize; 4],
    pub scale: f32,
    pub plan: &'a Plan<'a>,
    /// `batch * heads * queries` numbers for the log-sum-exp of each row, or null.
    pub lse: *mut f32,
}

// SAFETY: only describes memory; `attention` is where it is touched, under its contract.
unsafe impl Send for Attention<'_> {}
// SAFETY: as above.
unsafe impl Sync for Attention<'_> {}

impl Attention<'_> {
    /// Query rows that share a key/value head.
    fn rows(&self) -> usize {
        self.heads.saturating_mul(self.queries).checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Independent pieces of work: groups of query rows.
    pub fn units(&self) -> usize {
        let lines = self.batch.saturating_mul(self.kv_heads);
        lines.saturating_mul(self.rows().div_ceil(GROUP))
    }
}

/// Computes the units `first..end` of [`Attention::units`].
///
/// # Safety
/// Every element that the sizes and strides name is valid: of q, k, v and the plan's matrices for
/// reading, of out and lse for writing. No element of out or lse is named twice or lies in any
/// other operand, and no one else uses these units' part of them meanwhile. `workspace` is valid
/// for writing [`workspace`] floats.
pub unsafe fn attention(
    isa: Isa,
    attention: &Attention<'_>,
    first: usize,
    end: usize,
    workspace: *mut f32,
) {
    run(isa, Units { attention, first, end, workspace });
}

struct Units<'a> {
    attention: &'a Attention<'a>,
    first: usize,
    end: usize,
    workspace: *mut f32,
}

impl Op for Units<'_> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let x = self.attention;
        let groups = x.rows().div_ceil(GROUP);
        for unit in self.first..self.end.min(x.units()) {
            let (Some(line), Some(group)) = (unit.checked_div(groups), unit.checked_rem(groups))
            else {
                return;
            };
            let (Some(batch), Some(kv_head)) =
                (line.checked_div(x.kv_heads), line.checked_rem(x.kv_heads))
            else {
                return;
            };
            let first = group * GROUP;
            let group = Group {
                s,
                x,
                layout: Layout::new(x.rows(), x.keys, x.dim, x.value_dim),
                workspace: self.workspace,
                batch,
                kv_head,
                first,
                rows: min(GROUP, x.rows() - first),
            };
            // SAFETY: `attention`'s contract.
            unsafe { group.run() }
        }
    }
}

/// Query rows that walk the key blocks together.
struct Group<'a, S> {
    s: S,
    x: &'a Attention<'a>,
    layout: Layout,
    workspace: *mut f32,
    batch: usize,
    kv_head: usize,
    /// The first of its rows; row `r` is query `r mod queries` of the head group's head
    /// `r / queries`.
    first: usize,
    rows: usize,
}

/// Keys `start + first .. start + end`, the kept part of a block that starts at key `start`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    first: usize,
    end: usize,
}

impl Block {
    fn is_empty(&self) -> bool {
        self.first >= self.end
    }
}

// SAFETY of the methods below: `attention`'s contract; offsets into the workspace are those of
// `Layout`, offsets into operands name elements inside the sizes.
impl<S: Simd> Group<'_, S> {
    #[inline(always)]
    fn at(&self, offset: usize) -> *mut f32 {
        self.workspace.wrapping_add(offset)
    }

    /// The position of the group's row `r`.
    #[inline(always)]
    fn position(&self, r: usize) -> Row {
        let r = self.first + r;
        let group = self.x.heads.checked_div(self.x.kv_heads).unwrap_or(0);
        let head = r.checked_div(self.x.queries).unwrap_or(0);
        let query = r.checked_rem(self.x.queries).unwrap_or(0);
        Row { batch: self.batch, head: self.kv_head * group + head, query }
    }

    /// The position of the key/value head, for [`Grid::at`] with a token as key.
    #[inline(always)]
    fn token(&self, grid: &Grid<f32>, token: usize) -> *const f32 {
        grid.at(Row { batch: self.batch, head: self.kv_head, query: token }, 0)
    }

    /// What the rows `first..end` keep of the block at key `start`, from the first to the last.
    #[inline(always)]
    fn kept(&self, start: usize, first: usize, end: usize) -> Block {
        let mut kept = Block { start, first: KEY_BLOCK, end: 0 };
        for r in first..end {
            let row = self.row_run(start, r);
            if row.first < row.end {
                kept.first = kept.first.min(row.first);
                kept.end = kept.end.max(row.end);
            }
        }
        kept
    }

    /// What row `r` keeps of the block at key `start`.
    #[inline(always)]
    fn row_run(&self, start: usize, r: usize) -> Run {
        let (first, end) = self.x.plan.range(self.position(r), self.x.keys);
        let inside = |key: usize| key.saturating_sub(start).min(KEY_BLOCK);
        Run { first: inside(first), end: inside(end), columns: self.layout.block }
    }

    #[inline(always)]
    unsafe fn run(&self) {
        let Layout { max, sum, acc, width, .. } = self.layout;
        // SAFETY: the impl block's.
        unsafe {
            self.pack_queries();
            let cells = |offset| Cells { p: self.at(offset), stride: 1 };
            fill(self.s, cells(max), 0, self.rows, f32::MIN);
            fill(self.s, cells(sum), 0, self.rows, 0.0);
            fill(self.s, cells(acc), 0, self.rows * width, 0.0);
            for start in (0..self.x.keys).step_by(KEY_BLOCK) {
                let block = self.kept(start, 0, self.rows);
                if block.is_empty() {
                    continue;
                }
                self.pack_keys(block);
                if self.x.v.strides[3] != 1 {
                    self.pack_values(block);
                }
                for first in (0..self.rows).step_by(S::MR) {
                    let rows = min(S::MR, self.rows - first);
                    let block = self.kept(start, first, first + rows);
                    if !block.is_empty() {
                        self.tile(block, first, rows);
                    }
                }
            }
            for r in 0..self.rows {
                self.finish(r);
            }
        }
    }

    /// Tiles of rows, each packed as the product's operand A. A tile may hold the end of one
    /// head and the beginning of the next.
    #[inline(always)]
    unsafe fn pack_queries(&self) {
        let [_, _, token, dim] = self.x.q.strides;
        for first in (0..self.rows).step_by(S::MR) {
            let rows = min(S::MR, self.rows - first);
            let tile = self.at(first * self.x.dim);
            let mut r = 0;
            while r < rows {
                let at = self.position(first + r);
                let width = min(rows - r, self.x.queries - at.query);
                let panel = Panel {
                    source: self.x.q.at(at, 0),
                    across: token,
                    along: dim,
                    width,
                    depth: self.x.dim,
                    scale: 1.0,
                };
                // SAFETY: the impl block's.
                unsafe { pack_panel(self.s, &panel, tile.wrapping_add(r), rows, width) };
                r += width;
            }
        }
    }

    /// The block's kept keys as panels of the product's operand B: `[panel][dim][nr]`.
    #[inline(always)]
    unsafe fn pack_keys(&self, block: Block) {
        let nr = S::NV * LANES;
        let [_, _, token, dim] = self.x.k.strides;
        for first in (block.first / nr * nr..block.end).step_by(nr) {
            let panel = Panel {
                source: self.token(&self.x.k, block.start + first),
                across: token,
                along: dim,
                width: min(nr, block.end - first),
                depth: self.x.dim,
                scale: 1.0,
            };
            let out = self.at(self.layout.keys + first * self.x.dim);
            // SAFETY: the impl block's.
            unsafe { pack_panel(self.s, &panel, out, nr, nr) };
        }
    }

    /// The block's kept values, rows as in the block, where their columns are not contiguous.
    #[inline(always)]
    unsafe fn pack_values(&self, block: Block) {
        let [_, _, token, dim] = self.x.v.strides;
        let panel = Panel {
            source: self.token(&self.x.v, block.start + block.first),
            across: dim,
            along: token,
            width: self.x.value_dim,
            depth: block.end - block.first,
            scale: 1.0,
        };
        let width = self.layout.width;
        let out = self.at(self.layout.values + block.first * width);
        // SAFETY: the impl block's.
        unsafe { pack_panel(self.s, &panel, out, width, width) };
    }

    /// The values of the block's key `key`, and the stride to the next.
    #[inline(always)]
    fn values(&self, block: Block, key: usize) -> (*const f32, usize) {
        if self.x.v.strides[3] == 1 {
            (self.token(&self.x.v, block.start + key), self.x.v.strides[2])
        } else {
            let width = self.layout.width;
            (self.at(self.layout.values + key * width).cast_const(), width)
        }
    }

    /// One block for one tile of rows, from scores to the merged result.
    #[inline(always)]
    unsafe fn tile(&self, block: Block, first: usize, rows: usize) {
        let (s, x, l) = (self.s, self.x, &self.layout);
        let nr = S::NV * LANES;
        // SAFETY: the impl block's.
        unsafe {
            for c in (block.first / nr * nr..block.end).step_by(nr) {
                run_tile(
                    s,
                    &Tile {
                        rows,
                        columns: min(nr, block.end - c),
                        depth: x.dim,
                        a: A::Packed(self.at(first * x.dim)),
                        b: B::Padded(self.at(l.keys + c * x.dim), nr),
                        ahead: 0,
                        beta: 0.0,
                        c: self.at(l.scores + c),
                        c_row: l.block,
                    },
                );
            }

            let (mut max, mut sum) = ([f32::MIN; LANES], [0f32; LANES]);
            for (r, (max, sum)) in max.iter_mut().zip(&mut sum).enumerate().take(rows) {
                (*max, *sum) = self.row_probs(block, first, r);
            }

            let (values, b_row) = self.values(block, block.first);
            for c in (0..x.value_dim).step_by(nr) {
                run_tile(
                    s,
                    &Tile {
                        rows,
                        columns: min(nr, x.value_dim - c),
                        depth: block.end - block.first,
                        a: A::Rows(self.at(l.scores + block.first), l.block),
                        b: if x.v.strides[3] == 1 {
                            B::Rows(values.wrapping_add(c), b_row)
                        } else {
                            B::Padded(values.wrapping_add(c), b_row)
                        },
                        ahead: 0,
                        beta: 0.0,
                        c: self.at(l.weighted + c),
                        c_row: l.width,
                    },
                );
            }
            self.merge(block, first, rows, &max, &sum);
        }
    }

    /// Scores to exponentials for row `r` of the tile at row `first`: the block's maximum and
    /// sum. Positions of the tile's run that the row masks become zero.
    #[inline(always)]
    unsafe fn row_probs(&self, block: Block, first: usize, r: usize) -> (f32, f32) {
        let (s, x) = (self.s, self.x);
        let scores = Cells { p: self.at(self.layout.scores + r * self.layout.block), stride: 1 };
        let read = Cells { p: scores.p.cast_const(), stride: 1 };
        let run = self.row_run(block.start, first + r);
        // SAFETY: the impl block's.
        unsafe {
            if run.first >= run.end {
                fill(s, scores, block.first, block.end, 0.0);
                return (f32::MIN, 0.0);
            }
            let (max, sum) = if x.plan.is_elementwise() {
                let run = Run { columns: min(run.columns, x.keys - block.start), ..run };
                let row = self.position(first + r);
                let mask = RowMask { plan: x.plan, row, key: block.start };
                let max = mask_pass(s, read, scores, run, x.scale, mask);
                (max, exp_pass(s, read, scores, run, 1.0, max))
            } else {
                let max = max_pass(s, read, run, x.scale);
                (max, exp_pass(s, read, scores, run, x.scale, max))
            };
            fill(s, scores, block.first, run.first, 0.0);
            fill(s, scores, run.end, block.end, 0.0);
            (max, sum)
        }
    }

    /// Merges a block's maxima, sums and weighted values into the tile's rows:
    /// `M = max(m, m'), sum = sum exp(m - M) + sum' exp(m' - M)`, and the values likewise.
    #[inline(always)]
    unsafe fn merge(
        &self,
        block: Block,
        first: usize,
        rows: usize,
        block_max: &[f32; LANES],
        block_sum: &[f32; LANES],
    ) {
        let (s, l) = (self.s, &self.layout);
        let (mut old, mut new) = ([0f32; LANES], [0f32; LANES]);
        // SAFETY: the impl block's.
        unsafe {
            let max = self.at(l.max + first);
            let sum = self.at(l.sum + first);
            let old_max = s.load_first(max, rows);
            let block_max = s.load(block_max.as_ptr());
            let merged = s.max(block_max, old_max);
            let old_factor = crate::exp::exp_nonpositive(s, s.sub(old_max, merged));
            let new_factor = crate::exp::exp_nonpositive(s, s.sub(block_max, merged));
            let old_sum = s.mul(s.load_first(sum, rows), old_factor);
            let merged_sum = s.fma(s.load(block_sum.as_ptr()), new_factor, old_sum);
            s.store_first(max, rows, merged);
            s.store_first(sum, rows, merged_sum);
            s.store(old.as_mut_ptr(), old_factor);
            s.store(new.as_mut_ptr(), new_factor);

            for (r, (old, new)) in old.iter().zip(&new).enumerate().take(rows) {
                let run = self.row_run(block.start, first + r);
                if run.first >= run.end {
                    continue;
                }
                let weighted = self.at(l.weighted + r * l.width);
                self.repair(block, run, first, r, weighted);
                let acc = self.at(l.acc + (first + r) * l.width);
                let (old, new) = (s.splat(*old), s.splat(*new));
                for c in (0..self.x.value_dim).step_by(LANES) {
                    let (acc, weighted) = (acc.wrapping_add(c), weighted.wrapping_add(c));
                    // Lanes behind the values hold something finite or not; nobody reads them.
                    s.store(acc, s.fma(s.load(weighted), new, s.mul(s.load(acc), old)));
                }
            }
        }
    }

    /// A weighted value that is not finite may come from a masked key, as 0 times infinity or
    /// NaN: it is computed again from the kept keys alone. While all is finite the zeros of
    /// masked keys add nothing, so both ways agree.
    #[inline(always)]
    unsafe fn repair(&self, block: Block, run: Run, first: usize, r: usize, weighted: *mut f32) {
        let s = self.s;
        let width = self.x.value_dim;
        // Times zero, what is not finite becomes NaN, and stays it in the sum.
        let mut check = s.splat(0.0);
        // SAFETY: the impl block's.
        unsafe {
            for c in (0..width).step_by(LANES) {
                let v = s.load_first(weighted.wrapping_add(c), width - c);
                check = s.fma(v, s.splat(0.0), check);
            }
        }
        if s.sum(check).is_nan() {
            s.run(Repair { group: self, block, run, first, r, weighted });
        }
    }

    #[inline(always)]
    unsafe fn repair_row(
        &self,
        block: Block,
        run: Run,
        first: usize,
        r: usize,
        weighted: *mut f32,
    ) {
        let (s, x) = (self.s, self.x);
        let at = self.position(first + r);
        let probs = self.at(self.layout.scores + r * self.layout.block);
        for c in (0..x.value_dim).step_by(LANES) {
            let n = min(LANES, x.value_dim - c);
            let mut sum = s.splat(0.0);
            // SAFETY: the impl block's.
            unsafe {
                for key in run.first..run.end {
                    if x.plan.is_kept(at, block.start + key) {
                        let p = s.splat(probs.wrapping_add(key).read());
                        let (values, _) = self.values(block, key);
                        sum = s.fma(p, load_strided(s, values.wrapping_add(c), 1, n), sum);
                    }
                }
                s.store_first(weighted.wrapping_add(c), n, sum);
            }
        }
    }

    /// Divides row `r` by its sum and writes it where the caller wants it.
    #[inline(always)]
    unsafe fn finish(&self, r: usize) {
        let (s, x, l) = (self.s, self.x, &self.layout);
        let at = self.position(r);
        let out = Grid { data: x.out.cast_const(), strides: x.out_strides };
        // SAFETY: the impl block's.
        unsafe {
            let (max, sum) = (self.at(l.max + r).read(), self.at(l.sum + r).read());
            let factor = s.splat(1.0 / sum);
            for c in (0..x.value_dim).step_by(LANES) {
                let acc = s.load(self.at(l.acc + r * l.width + c));
                // + 0: a negative zero would tell whether a masked key was skipped or added.
                let v = s.add(s.mul(acc, factor), s.splat(0.0));
                let v = if sum == 0.0 { s.splat(0.0) } else { v };
                let stride = x.out_strides[3];
                store_strided(s, out.at(at, c).cast_mut(), stride, min(LANES, x.value_dim - c), v);
            }
            if !x.lse.is_null() {
                let index = (at.batch * x.heads + at.head) * x.queries + at.query;
                x.lse.wrapping_add(index).write(log_sum_exp(max, sum));
            }
        }
    }
}

/// [`Group::repair_row`] in a function of its own, off the usual path.
struct Repair<'a, S> {
    group: &'a Group<'a, S>,
    block: Block,
    run: Run,
    first: usize,
    r: usize,
    weighted: *mut f32,
}

impl<T: Simd> Op for Repair<'_, T> {
    type Out = ();
    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        // SAFETY: as the group's methods, which made it.
        unsafe { self.group.repair_row(self.block, self.run, self.first, self.r, self.weighted) }
    }
}
