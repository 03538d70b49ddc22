//! A group of query rows that share a key/value head, on its way along the key blocks.

use super::merge::{Merged, merged_values};
use super::{Attention, CHUNKS, KEY_BLOCK, Layout};
use crate::gemm::{A, B, Tile, load_strided, min, run_any_tile, run_tile};
use crate::mask::{Row, first_bits};
use crate::row::{Cells, Run, exp_pass, fill, max_pass};
use crate::score::{Line, Stage, score_pass};
use crate::simd::{LANES, Op, Simd};

/// Query rows that walk the key blocks together. Where not `MIXED` all is of f32.
pub(super) struct Group<'a, S, const MIXED: bool> {
    pub s: S,
    pub x: &'a Attention<'a>,
    pub layout: &'a Layout,
    pub workspace: *mut f32,
    pub batch: usize,
    pub kv_head: usize,
    /// The first of the query heads that share it.
    pub first_head: usize,
    /// The first of its rows; row `r` is query `r mod queries` of head `first_head + r / queries`.
    pub first: usize,
    pub rows: usize,
}

/// Where a row stands in the group's batch, and the keys, of those here, between which it keeps some.
#[derive(Clone, Copy)]
pub(super) struct Place {
    head: usize,
    query: usize,
    pub first: usize,
    pub end: usize,
}

/// What some rows keep of the block that starts at key `start`: nothing outside the keys
/// `start + first .. start + end`, nor in a chunk of 16 keys whose bit is not set.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub start: usize,
    pub first: usize,
    pub end: usize,
    pub chunks: u16,
}

impl Block {
    /// Whether any of the `width` keys from `key` on, a multiple of 16, may be kept.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn has(&self, key: usize, width: usize) -> bool {
        self.chunks >> (key / LANES) & first_bits(width.div_ceil(LANES)) != 0
    }

    /// The first run of kept chunks that ends behind `key`: its keys in the block.
    #[cfg_attr(vectors, inline(always))]
    fn next_run(&self, key: usize) -> Option<(usize, usize)> {
        let chunk = (key / LANES) as u32;
        // Ones above the chunks end the last run.
        let rest = u32::from(self.chunks) >> chunk << chunk;
        if key >= self.end || rest == 0 {
            return None;
        }
        let first = rest.trailing_zeros();
        let end = first + (!(rest >> first)).trailing_zeros();
        let keys = |chunk: u32| chunk as usize * LANES;
        Some((keys(first).max(self.first).max(key), min(keys(end), self.end)))
    }
}

// SAFETY of the methods below: `attention`'s contract; offsets into the workspace are those of
// `Layout`, offsets into operands name elements inside the sizes.
impl<S: Simd, const MIXED: bool> Group<'_, S, MIXED> {
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn at(&self, offset: usize) -> *mut f32 {
        self.workspace.wrapping_add(offset)
    }

    /// Its place among all rows of batch x heads x queries.
    #[cfg_attr(vectors, inline(always))]
    pub(super) fn index(&self, row: Row) -> usize {
        (row.batch * self.x.heads + row.head) * self.x.queries + row.query
    }

    /// Row `r`; [`Group::find_places`] writes them.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn place(&self, r: usize) -> Place {
        // SAFETY: the impl block's.
        unsafe { self.places().wrapping_add(r).read_unaligned() }
    }

    /// Where it stands.
    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn row(&self, r: usize) -> Row {
        // SAFETY: the impl block's.
        let Place { head, query, .. } = unsafe { self.place(r) };
        Row { batch: self.batch, head, query }
    }

    /// What it keeps of the block at key `start`.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn run_in(&self, start: usize, r: usize) -> Run {
        // SAFETY: the impl block's.
        let Place { first, end, .. } = unsafe { self.place(r) };
        let inside = |key: usize| min(key.saturating_sub(start), KEY_BLOCK);
        let columns = min(self.x.keys - start, KEY_BLOCK);
        Run { first: inside(first), end: inside(end), columns }
    }

    #[cfg_attr(vectors, inline(always))]
    fn places(&self) -> *mut Place {
        self.at(self.layout.places).cast()
    }

    /// Finds all rows' places, and the first and end of the keys that any of them keeps.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn find_places(&self) -> (usize, usize) {
        let x = self.x;
        let here = |key: usize| min(key.saturating_sub(x.first_key), x.keys);
        let head = self.first.checked_div(x.queries).unwrap_or(0);
        let query = self.first - head * x.queries;
        let mut at = Row { batch: self.batch, head: self.first_head + head, query };
        let mut all = (x.keys, 0);
        for r in 0..self.rows {
            let (first, end) = x.rule.plan.range(at, x.first_key + x.keys);
            let place =
                Place { head: at.head, query: at.query, first: here(first), end: here(end) };
            // SAFETY: the impl block's.
            unsafe { self.places().wrapping_add(r).write_unaligned(place) }
            if place.first < place.end {
                all = (min(all.0, place.first), all.1.max(place.end));
            }
            at.query += 1;
            if at.query == x.queries {
                at = Row { head: at.head + 1, query: 0, ..at };
            }
        }
        all
    }

    /// Which keys of the block row `r` keeps, 16 to a chunk; [`Group::mark`] writes them.
    #[cfg_attr(vectors, inline(always))]
    fn marks(&self, r: usize) -> *mut u16 {
        self.at(self.layout.kept).cast::<u16>().wrapping_add(r * CHUNKS)
    }

    /// Finds what the masks within the rows' runs keep of the block at key `start`.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn mark(&self, start: usize) {
        let (plan, first_key) = (self.x.rule.plan, self.x.first_key + start);
        for r in 0..self.rows {
            // SAFETY: the impl block's.
            let (run, row) = unsafe { (self.run_in(start, r), self.row(r)) };
            let bits = plan.row_bits(row, first_key);
            for chunk in 0..CHUNKS {
                let c = chunk * LANES;
                let in_run = first_bits(run.end.saturating_sub(c))
                    & !first_bits(run.first.saturating_sub(c));
                // SAFETY: the impl block's.
                unsafe {
                    let kept = if in_run == 0 {
                        0
                    } else {
                        let n = run.present(c);
                        let by_bits = bits.kept(self.s, c, n);
                        by_bits & plan.kept_by_biases(self.s, row, first_key + c, n) & in_run
                    };
                    self.marks(r).wrapping_add(chunk).write(kept);
                }
            }
        }
    }

    /// Bit `i` for lane `i` of the chunk at key `c` of the block: whether row `r` keeps it, as far
    /// as masks within the run say so.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn kept(&self, r: usize, c: usize) -> u16 {
        if !self.x.rule.plan.is_elementwise() {
            return u16::MAX;
        }
        // SAFETY: the impl block's.
        unsafe { self.marks(r).wrapping_add(c / LANES).read() }
    }

    /// What the rows `first..end` keep of the block at key `start`.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn block(&self, start: usize, first: usize, end: usize) -> Block {
        let mut block = Block { start, first: KEY_BLOCK, end: 0, chunks: 0 };
        for r in first..end {
            // SAFETY: the impl block's.
            let run = unsafe { self.run_in(start, r) };
            if run.first >= run.end {
                continue;
            }
            let (from, to) = (run.first / LANES, run.end.div_ceil(LANES));
            if self.x.rule.plan.is_elementwise() {
                for chunk in from..to {
                    // SAFETY: the impl block's.
                    let kept = unsafe { self.kept(r, chunk * LANES) } != 0;
                    block.chunks |= u16::from(kept) << chunk;
                }
            } else {
                block.chunks |= first_bits(to) & !first_bits(from);
            }
            block.first = min(block.first, run.first);
            block.end = block.end.max(run.end);
        }
        block
    }

    #[cfg_attr(vectors, inline(always))]
    pub(super) unsafe fn run(&self) {
        // SAFETY: the impl block's.
        unsafe {
            let (first, end) = self.find_places();
            let first = first / KEY_BLOCK * KEY_BLOCK;
            // Where there is one block, nothing is merged: its state is the row's.
            let is_whole = end <= first + KEY_BLOCK && self.x.block_states().is_none();
            self.pack_queries();
            self.begin();
            if !is_whole || first >= end {
                self.clear(0, self.rows);
            }
            for start in (first..end).step_by(KEY_BLOCK) {
                if self.x.rule.plan.is_elementwise() {
                    self.mark(start);
                }
                let block = self.block(start, 0, self.rows);
                if block.chunks != 0 {
                    self.pack_keys(block);
                    if !self.x.v.lie_as_rows::<MIXED>() {
                        self.pack_values(block);
                    }
                }
                for first in (0..self.rows).step_by(S::MR) {
                    let rows = min(S::MR, self.rows - first);
                    let block = if rows < self.rows {
                        self.block(start, first, first + rows)
                    } else {
                        block
                    };
                    if block.chunks != 0 {
                        self.tile(block, first, rows, is_whole);
                    } else if is_whole {
                        self.clear(first, rows);
                    }
                }
            }
            for r in 0..self.rows {
                self.finish(r);
            }
        }
    }

    /// One block for one tile of rows, from scores to the merged result; `is_whole` if there is no
    /// other.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn tile(&self, block: Block, first: usize, rows: usize, is_whole: bool) {
        let l = self.layout;
        let weighted = self.at(if is_whole { l.acc + first * l.width } else { l.weighted });
        // SAFETY: the impl block's.
        unsafe {
            self.scores(block, first, rows);
            let (mut max, mut sum) = ([f32::MIN; LANES], [0f32; LANES]);
            for (r, (max, sum)) in max.iter_mut().zip(&mut sum).enumerate().take(rows) {
                (*max, *sum) = self.exponentials(block, first, r);
            }
            self.weigh(block, rows, weighted);
            for r in 0..rows {
                self.repair(block, first, r, weighted.wrapping_add(r * l.width));
            }
            if is_whole {
                for (r, (max, sum)) in max.iter().zip(&sum).enumerate().take(rows) {
                    self.at(l.max + first + r).write(*max);
                    self.at(l.sum + first + r).write(*sum);
                }
            } else {
                self.merge(block, first, rows, &max, &sum);
            }
        }
    }

    /// The tile's raw scores, `q k`, of the chunks that it keeps.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn scores(&self, block: Block, first: usize, rows: usize) {
        let nr = self.keys_at_once();
        // SAFETY: the impl block's.
        let a = unsafe { self.queries_operand(first, rows) };
        for c in (block.first / nr * nr..block.end).step_by(nr) {
            if !block.has(c, nr) {
                continue;
            }
            let columns = min(nr, block.end - c);
            // SAFETY: the impl block's.
            let b = unsafe { self.keys_operand(block, c, columns) };
            let tile = Tile {
                rows,
                columns,
                depth: self.x.dim,
                a,
                b,
                ahead: if let B::Columns(_, token) = b { nr * token } else { 0 },
                beta: 0.0,
                c: self.at(self.layout.scores + c),
                c_row: self.layout.block,
            };
            // SAFETY: the impl block's.
            unsafe { run_any_tile::<S, MIXED>(self.s, &tile) }
        }
    }

    /// Scores to exponentials for row `r` of the tile at row `first`: the block's maximum and
    /// sum. What the tile keeps and the row masks becomes zero.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn exponentials(&self, block: Block, first: usize, r: usize) -> (f32, f32) {
        let (s, x) = (self.s, self.x);
        let scores = Cells { p: self.at(self.layout.scores + r * self.layout.block), stride: 1 };
        // SAFETY: the impl block's.
        unsafe {
            let run = self.run_in(block.start, first + r);
            if run.first >= run.end {
                fill(s, scores, block.first, block.end, 0.0);
                return (f32::MIN, 0.0);
            }
            let row = self.row(first + r);
            let line = Line { rule: &x.rule, row, key: x.first_key + block.start };
            if let Some(copy) = x.copy() {
                let out = self.copied(copy, row, block.start);
                let stage = copy.stage.unwrap_or(Stage::Biased);
                score_pass(
                    s,
                    scores.as_const(),
                    out,
                    run,
                    line,
                    stage,
                    #[inline(always)]
                    |c| self.kept(first + r, c),
                );
            }
            let (max, sums) = if x.rule.is_plain() {
                // A row of scores has room for whole vectors.
                let run = Run { columns: run.columns.next_multiple_of(LANES), ..run };
                let max = max_pass(s, scores.as_const(), run, x.rule.scale);
                (max, exp_pass(s, scores.as_const(), scores, run, x.rule.scale, max))
            } else {
                let raw = scores.as_const();
                let max = score_pass(
                    s,
                    raw,
                    scores,
                    run,
                    line,
                    Stage::Biased,
                    #[inline(always)]
                    |c| self.kept(first + r, c),
                );
                (max, exp_pass(s, raw, scores, run, 1.0, max))
            };
            fill(s, scores, block.first, run.first, 0.0);
            fill(s, scores, run.end, block.end, 0.0);
            (max, sums.sum())
        }
    }

    /// The tile's weighted values: one chain over the keys of the chunks that it keeps.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn weigh(&self, block: Block, rows: usize, weighted: *mut f32) {
        let nr = S::NV * S::LANES;
        for c in (0..self.x.value_dim).step_by(nr) {
            let (mut key, mut beta) = (0, 0.0);
            while let Some((first, end)) = block.next_run(key) {
                // SAFETY: the impl block's.
                let (values, here) = unsafe { self.values(block, first) };
                let depth = min(end - first, here);
                let tile = Tile {
                    rows,
                    columns: min(nr, self.x.value_dim - c),
                    depth,
                    a: A::Rows(self.at(self.layout.scores + first), self.layout.block),
                    b: self.values_operand(values, c),
                    ahead: 0,
                    beta,
                    c: weighted.wrapping_add(c),
                    c_row: self.layout.width,
                };
                // SAFETY: the impl block's.
                unsafe { run_tile(self.s, &tile) };
                (key, beta) = (first + depth, 1.0);
            }
        }
    }

    /// Merges a block's maxima, sums and weighted values into the tile's rows, or writes them
    /// where the caller wants each block by itself.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn merge(
        &self,
        block: Block,
        first: usize,
        rows: usize,
        block_max: &[f32; LANES],
        block_sum: &[f32; LANES],
    ) {
        let (s, l) = (self.s, self.layout);
        let (mut old, mut new) = ([0f32; LANES], [0f32; LANES]);
        // SAFETY: the impl block's.
        unsafe {
            let max = self.at(l.max + first);
            let sum = self.at(l.sum + first);
            for r in (0..rows).step_by(S::LANES) {
                let (max, sum, n) = (max.wrapping_add(r), sum.wrapping_add(r), rows - r);
                let state = [s.load_first(max, n), s.load_first(sum, n)];
                let block_state =
                    [s.load(block_max.as_ptr().add(r)), s.load(block_sum.as_ptr().add(r))];
                let merged = Merged::of(s, state, block_state);
                s.store_first(max, n, merged.max);
                s.store_first(sum, n, merged.sum);
                s.store(old.as_mut_ptr().add(r), merged.old);
                s.store(new.as_mut_ptr().add(r), merged.new);
            }

            for (r, (old, new)) in old.iter().zip(&new).enumerate().take(rows) {
                let run = self.run_in(block.start, first + r);
                if run.first >= run.end {
                    continue;
                }
                let weighted = self.at(l.weighted + r * l.width);
                if let Some(states) = self.x.block_states() {
                    let index = self.index(self.row(first + r));
                    let state =
                        states.wrapping_add(self.blocks().at(index, block.start / KEY_BLOCK));
                    state.write(block_max[r]);
                    state.wrapping_add(1).write(block_sum[r]);
                    for c in 0..self.x.value_dim {
                        state.wrapping_add(2 + c).write(weighted.wrapping_add(c).read());
                    }
                    continue;
                }
                let acc = self.at(l.acc + (first + r) * l.width);
                let factors = [s.splat(*old), s.splat(*new)];
                for c in (0..self.x.value_dim).step_by(S::LANES) {
                    let (acc, weighted) = (acc.wrapping_add(c), weighted.wrapping_add(c));
                    // Lanes behind the values hold something finite or not; nobody reads them.
                    s.store(acc, merged_values(s, factors, s.load(acc), s.load(weighted)));
                }
            }
        }
    }

    /// A weighted value that is not finite may come from a masked key, as 0 times infinity or
    /// NaN: it is computed again from the kept keys alone. While all is finite the zeros of
    /// masked keys add nothing, so both ways agree.
    #[cfg_attr(vectors, inline(always))]
    unsafe fn repair(&self, block: Block, first: usize, r: usize, weighted: *mut f32) {
        let s = self.s;
        // SAFETY: the impl block's.
        let run = unsafe { self.run_in(block.start, first + r) };
        let width = self.x.value_dim;
        // Times zero, what is not finite becomes NaN, and stays it in the sum.
        let mut check = s.splat(0.0);
        // SAFETY: the impl block's.
        unsafe {
            for c in (0..width).step_by(S::LANES) {
                let v = s.load_first(weighted.wrapping_add(c), width - c);
                check = s.fma(v, s.splat(0.0), check);
            }
        }
        if s.sum(check).is_nan() {
            s.run(Repair { group: self, block, run, first, r, weighted });
        }
    }

    #[cfg_attr(vectors, inline(always))]
    unsafe fn repair_row(
        &self,
        block: Block,
        run: Run,
        first: usize,
        r: usize,
        weighted: *mut f32,
    ) {
        let (s, x) = (self.s, self.x);
        let probs = self.at(self.layout.scores + r * self.layout.block);
        for c in (0..x.value_dim).step_by(S::LANES) {
            let n = min(S::LANES, x.value_dim - c);
            let mut sum = s.splat(0.0);
            // SAFETY: the impl block's.
            unsafe {
                for key in run.first..run.end {
                    if self.kept(first + r, key) >> (key % LANES) & 1 == 1 {
                        let p = s.splat(probs.wrapping_add(key).read());
                        let (values, _) = self.values(block, key);
                        sum = s.fma(p, load_strided(s, values.wrapping_add(c), 1, n), sum);
                    }
                }
                s.store_first(weighted.wrapping_add(c), n, sum);
            }
        }
    }
}

/// [`Group::repair_row`] in a function of its own, off the usual path.
struct Repair<'a, S, const MIXED: bool> {
    group: &'a Group<'a, S, MIXED>,
    block: Block,
    run: Run,
    first: usize,
    r: usize,
    weighted: *mut f32,
}

impl<T: Simd, const MIXED: bool> Op for Repair<'_, T, MIXED> {
    type Out = ();
    #[cfg_attr(vectors, inline(always))]
    fn eval<S: Simd>(self, _: S) {
        // SAFETY: as the group's methods, which made it.
        unsafe { self.group.repair_row(self.block, self.run, self.first, self.r, self.weighted) }
    }
}
