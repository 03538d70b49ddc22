//! Calls made of garbage: sizes, strides, kinds, lengths and flags of any value, pointers that are
//! null, misaligned, or lead somewhere into one small piece of memory, so that operands overlap. Half
//! of all fields are what would be right, so that some calls come far. A test and a fuzz target share
//! this; whoever includes it names the library `c` at the root of the crate.

use std::ffi::c_void;

use crate::c::attention::{Attention, KeyBlocks, Merge, PartialOutput};
use crate::c::cache::{KvCache, PagedCache, RaggedCache};
use crate::c::mask::{
    Alibi, BiasOf, BoolMatrix, KeptWhere, Mask, MaskOf, Offset, PrefixLm, SegmentIds, Segments,
    Window,
};
use crate::c::matmul::{Clamp, Each, Matmul, Optional};
use crate::c::memory::{Slice, SliceMut, View, ViewMut};
use crate::c::softmax::Softmax;
use crate::c::status::Status;
use crate::c::view::masktile_view;
use crate::c::{attention, cache, decoder, mask, matmul, packed, softmax};

/// Words of the memory that operands lie in.
const WORDS: usize = 512;
/// Floats of the workspace that calls mostly get: enough for their usual sizes.
const WORKSPACE: usize = 32 << 10;

pub struct Garbage<'a> {
    choices: &'a [u8],
    memory: Vec<u64>,
    workspace: Vec<f32>,
    /// Batch, heads, rows or queries, columns or keys, depth or width.
    sizes: [usize; 5],
}

impl<'a> Garbage<'a> {
    pub fn new(choices: &'a [u8]) -> Self {
        // Floats in the first half, small sizes in the second.
        let float = |i: usize| u64::from((i as f32 / 99.0 - 1.0).to_bits()) * ((1 << 32) + 1);
        let word = |i| if i < WORDS / 2 { float(i) } else { i as u64 % 5 };
        let memory = (0..WORDS).map(word).collect();
        let mut garbage =
            Garbage { choices, memory, workspace: vec![0.0; WORKSPACE], sizes: [0; 5] };
        garbage.sizes = std::array::from_fn(|_| garbage.below(6));
        garbage
    }

    /// One call and what belongs to it. Panics if an error touched memory, or if a panic was caught.
    pub fn call(&mut self) -> Status {
        let before = self.memory.clone();
        let status = match self.below(10) {
            0 => self.matmul(),
            1 => self.parts(),
            2 => self.pack(),
            3 => self.softmax(),
            4 => self.attention(),
            5 => self.merge(),
            6 => self.kv_cache(),
            7 => self.ragged_cache(),
            8 => self.paged_cache(),
            _ => self.others(),
        };
        assert!(status != Status::Panic);
        assert!(status == Status::Ok || self.memory == before, "{status:?} touched memory");
        status
    }

    fn byte(&mut self) -> u8 {
        let [first, rest @ ..] = self.choices else { return 0 };
        self.choices = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    /// Once in a while.
    fn is_odd(&mut self) -> bool {
        self.byte() >= 240
    }

    fn word(&mut self) -> usize {
        usize::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Small, or anything.
    fn size(&mut self) -> usize {
        match self.below(3) {
            0 => self.word(),
            1 => self.word() >> 32,
            _ => self.below(12),
        }
    }

    fn number(&mut self) -> f32 {
        match self.below(4) {
            0 => f32::from_bits(self.word() as u32),
            _ => self.below(9) as f32 / 4.0 - 0.5,
        }
    }

    fn enumerator(&mut self, count: usize) -> u32 {
        if self.is_odd() { self.word() as u32 } else { self.below(count) as u32 }
    }

    /// The right size, or any.
    fn size_of<A>(&mut self) -> usize {
        if self.is_odd() { self.size() } else { size_of::<A>() }
    }

    /// The pointer itself, or null, or one that is misaligned.
    fn spoiled<T>(&mut self, pointer: *const T) -> *const T {
        match self.byte() {
            254 => std::ptr::null(),
            255 => pointer.cast::<u8>().wrapping_add(1).cast(),
            _ => pointer,
        }
    }

    /// Somewhere in the memory, with how many are left there; or nowhere, with any length.
    fn place<T>(&mut self) -> (*mut T, usize) {
        if self.is_odd() {
            let odd = self.memory.as_mut_ptr().cast::<u8>().wrapping_add(1).cast();
            let pointer =
                if self.below(2) == 0 || align_of::<T>() == 1 { std::ptr::null_mut() } else { odd };
            return (pointer, self.size());
        }
        let all = WORDS * 8;
        let at = self.word() % all / align_of::<T>() * align_of::<T>();
        let at = self.memory.as_mut_ptr().cast::<u8>().wrapping_add(at);
        let left = all - (at.addr() - self.memory.as_ptr().addr());
        (at.cast(), left / size_of::<T>())
    }

    fn slice<T>(&mut self, len: usize) -> Slice<T> {
        let (data, most) = self.place::<T>();
        if data.is_null() || !data.is_aligned() {
            return Slice { data, len: most };
        }
        Slice { data, len: if self.is_odd() { most } else { len.min(most) } }
    }

    fn slice_mut<T>(&mut self, len: usize) -> SliceMut<T> {
        let Slice { data, len } = self.slice::<T>(len);
        SliceMut { data: data.cast_mut(), len }
    }

    fn optional_slice(&mut self, len: usize) -> Slice<f32> {
        if self.below(2) == 0 { Slice { data: std::ptr::null(), len: 0 } } else { self.slice(len) }
    }

    fn view<T>(&mut self, [b, h, t, d]: [usize; 4]) -> View<T> {
        let (data, len) = self.place::<T>();
        let View { mut shape, mut strides, .. } = masktile_view(std::ptr::null(), b, h, t, d);
        while self.is_odd() {
            let axis = self.below(4);
            match self.below(3) {
                0 => shape[axis] = self.size(),
                1 => strides[axis] = self.size(),
                _ => strides[axis] = 0,
            }
        }
        for (size, stride) in shape.iter().zip(&mut strides) {
            // A few bytes repeated may ask for years of work, which is the caller's to limit.
            *stride = (*stride).max(usize::from(*size > 64));
            // The step of an axis of one element leads nowhere, but kernels multiply it by up to 32,
            // and with debug assertions that must not overflow.
            *stride = if *size < 2 { (*stride).min(1 << 32) } else { *stride };
        }
        View { data, len, shape, strides }
    }

    fn view_mut<T>(&mut self, shape: [usize; 4]) -> ViewMut<T> {
        let View { data, len, shape, strides } = self.view::<T>(shape);
        ViewMut { data: data.cast_mut(), len, shape, strides }
    }

    fn workspace(&mut self) -> SliceMut<f32> {
        if self.is_odd() {
            return self.slice_mut(WORKSPACE);
        }
        SliceMut { data: self.workspace.as_mut_ptr(), len: self.workspace.len() }
    }

    fn optional(&mut self) -> Optional {
        Optional { is_given: u32::from(self.byte() > 127), value: self.number() }
    }

    fn offset(&mut self) -> Offset {
        let [batch, ..] = self.sizes;
        Offset {
            kind: 1 + self.enumerator(6),
            same: self.size() as isize,
            per_batch: self.slice(batch),
            lengths: self.slice(batch),
        }
    }

    fn mask_of(&mut self, kind: u32) -> MaskOf {
        let [batch, heads, queries, keys, _] = self.sizes;
        let scores = [batch, heads, queries, keys];
        match kind {
            1 => MaskOf { offset: self.offset() },
            2 => MaskOf {
                window: Window { left: self.size(), right: self.size(), offset: self.offset() },
            },
            3 => MaskOf { prefix: PrefixLm { lengths: self.slice(batch), offset: self.offset() } },
            5 => MaskOf { ranges: self.slice(batch) },
            6 | 7 => {
                let count = self.below(4);
                let segments = Segments { queries: self.slice(count), keys: self.slice(count) };
                MaskOf { segments }
            }
            8 => MaskOf {
                ids: SegmentIds {
                    queries: self.view([1, 1, batch, queries]),
                    keys: self.view([1, 1, batch, keys]),
                },
            },
            9 => self.matrix(scores, [0, 0]),
            10 => self.matrix([batch, heads, queries, keys.div_ceil(8)], [0, 0]),
            11 => {
                let [rows, columns] = [1 + self.below(3), 1 + self.below(3)];
                let blocks = [queries.div_ceil(rows), keys.div_ceil(columns)];
                self.matrix([batch, heads, blocks[0], blocks[1]], [rows, columns])
            }
            12 => {
                let function = if self.is_odd() { None } else { Some(keeps as _) };
                MaskOf { kept_where: KeptWhere { function, user: std::ptr::null_mut() } }
            }
            13 => MaskOf { bias: self.view(scores) },
            14 | 15 => MaskOf { half_bias: self.view(scores) },
            16 => MaskOf { alibi: Alibi { slopes: self.slice(heads), offset: self.offset() } },
            17 => {
                let function = if self.is_odd() { None } else { Some(bias as _) };
                MaskOf { bias_of: BiasOf { function, user: std::ptr::null_mut() } }
            }
            _ => MaskOf { lengths: self.slice(batch) },
        }
    }

    fn matrix(&mut self, shape: [usize; 4], [block_queries, block_keys]: [usize; 2]) -> MaskOf {
        let ones = self.view(shape);
        let matrix =
            BoolMatrix { ones, meaning: 1 + self.enumerator(2), block_queries, block_keys };
        MaskOf { matrix }
    }

    fn masks(&mut self) -> Vec<Mask> {
        let count = self.below(4);
        let mask = |_| {
            let kind = self.enumerator(18);
            Mask { size: self.size_of::<Mask>(), kind, of: self.mask_of(kind) }
        };
        (0..count).map(mask).collect()
    }

    fn matmul_args(&mut self) -> Matmul {
        let [batch, heads, m, n, k] = self.sizes;
        let is_packed = self.is_odd();
        Matmul {
            size: self.size_of::<Matmul>(),
            a: self.view([batch, heads, m, k]),
            b: self.view([batch, heads, k, n]),
            c: self.view_mut([batch, heads, m, n]),
            workspace: self.workspace(),
            packed_b: if is_packed {
                self.slice(99)
            } else {
                Slice { data: std::ptr::null(), len: 0 }
            },
            alpha: self.optional(),
            beta: self.number(),
            activation: self.enumerator(5),
            scale: self.optional_slice(n),
            bias: self.optional_slice(n),
            residual: self.view([batch, heads, m, n]),
            clamp: Clamp { is_given: self.enumerator(2), least: -1.0, greatest: self.number() },
            isa: self.enumerator(2),
            each: Each {
                function: if self.below(2) == 0 { None } else { Some(each as _) },
                user: std::ptr::null_mut(),
            },
        }
    }

    fn matmul(&mut self) -> Status {
        let args = self.matmul_args();
        // SAFETY: pointers lead to as many elements as they say, or are found out.
        unsafe { matmul::masktile_matmul(self.spoiled(&args)) }
    }

    fn parts(&mut self) -> Status {
        let (args, count) = (self.matmul_args(), self.size());
        let mut parts = std::ptr::null_mut();
        let before = self.memory.clone();
        // SAFETY: as above; parts are freed once, when none runs.
        unsafe {
            let status = matmul::masktile_matmul_parts(self.spoiled(&args), count, &mut parts);
            if status != Status::Ok {
                return status;
            }
            for index in 0..count.min(4) {
                let status = matmul::masktile_parts_run(parts, index, self.workspace());
                assert!(status != Status::Panic);
            }
            let workspace = self.slice_mut(WORKSPACE);
            if matmul::masktile_parts_run(parts, self.size(), workspace) != Status::Ok && count == 0
            {
                assert!(self.memory == before);
            }
            matmul::masktile_parts_free(parts);
            Status::Ok
        }
    }

    fn pack(&mut self) -> Status {
        let [.., n, k] = self.sizes;
        let (mut b, isa) = (self.view::<f32>([1, 1, k, n]), self.enumerator(2));
        // Packing takes as long as its sizes say, even where one of them is 0.
        b.shape = b.shape.map(|size| size.min(1 << 16));
        let memory = self.slice_mut(WORKSPACE);
        let (mut k, mut n) = (0, 0);
        // SAFETY: as above.
        unsafe {
            let status = packed::masktile_pack_b(b, isa, memory);
            if status != Status::Ok {
                return status;
            }
            let memory = self.slice(WORKSPACE);
            let shape = packed::masktile_packed_b_shape(memory, &mut k, &mut n);
            assert!(shape != Status::Panic);
            Status::Ok
        }
    }

    fn softmax(&mut self) -> Status {
        let [batch, heads, queries, keys, _] = self.sizes;
        let shape = [batch, heads, queries, keys];
        let masks = self.masks();
        let probs = self.view_mut::<f32>(shape);
        let in_place =
            View { data: probs.data, len: probs.len, shape: probs.shape, strides: probs.strides };
        let Slice { data, len } = self.optional_slice(batch * heads * queries);
        let args = Softmax {
            size: self.size_of::<Softmax>(),
            scores: if self.below(3) == 0 { in_place } else { self.view(shape) },
            probs,
            masks: self.spoiled(masks.as_ptr()),
            mask_count: masks.len(),
            scale: self.optional(),
            softcap: self.optional(),
            temperature: self.optional(),
            log: self.enumerator(2),
            isa: self.enumerator(2),
            sinks: self.optional_slice(heads),
            lse: SliceMut { data: data.cast_mut(), len },
        };
        // SAFETY: as above.
        unsafe { softmax::masktile_softmax(self.spoiled(&args)) }
    }

    /// `f` of the arguments of an attention: of a cache's without keys, mostly.
    fn attend(&mut self, is_cached: bool, f: impl FnOnce(*const Attention) -> Status) -> Status {
        let [batch, heads, queries, keys, dim] = self.sizes;
        let (rows, masks) = (batch * heads * queries, self.masks());
        let has_blocks = self.below(4) == 0;
        let kv = [batch, heads, keys, dim];
        let (k, v) = (self.view(kv), self.view(kv));
        let none = View { data: std::ptr::null(), len: 0, shape: [0; 4], strides: [0; 4] };
        let (k, v) = if is_cached && !self.is_odd() { (none, none) } else { (k, v) };
        let out = self.view_mut::<f32>([batch, heads, queries, dim]);
        let lse = self.optional_slice(if has_blocks { 0 } else { rows });
        let args = Attention {
            size: self.size_of::<Attention>(),
            q: self.view([batch, heads, queries, dim]),
            k,
            v,
            out: if has_blocks { ViewMut { data: std::ptr::null_mut(), ..out } } else { out },
            workspace: self.workspace(),
            masks: self.spoiled(masks.as_ptr()),
            mask_count: masks.len(),
            scale: self.optional(),
            softcap: self.optional(),
            temperature: self.optional(),
            copied: self.enumerator(5),
            isa: self.enumerator(2),
            sinks: self.optional_slice(heads),
            lse: SliceMut { data: lse.data.cast_mut(), len: lse.len },
            copy: self.view_mut([batch, heads, queries, keys]),
            first_key: if self.is_odd() { self.size() } else { 0 },
            all_keys: if self.is_odd() { self.size() } else { 0 },
            blocks: if has_blocks {
                self.slice_mut(rows * (dim + 2))
            } else {
                SliceMut { data: std::ptr::null_mut(), len: 0 }
            },
        };
        f(self.spoiled(&args))
    }

    fn attention(&mut self) -> Status {
        // SAFETY: as above.
        self.attend(false, |args| unsafe { attention::masktile_attention(args) })
    }

    fn merge(&mut self) -> Status {
        let [batch, heads, queries, keys, dim] = self.sizes;
        let (shape, rows) = ([batch, heads, queries, dim], batch * heads * queries);
        let (of_blocks, count) = (self.below(2) == 0, self.below(3));
        let blocks: Vec<_> = (0..count)
            .map(|_| KeyBlocks {
                blocks: self.slice(rows * (dim + 2)),
                keys: if self.is_odd() { self.size() } else { keys },
            })
            .collect();
        let outputs: Vec<_> = (0..count)
            .map(|_| PartialOutput { out: self.view(shape), lse: self.slice(rows) })
            .collect();
        let lse = self.optional_slice(rows);
        let mut out = self.view_mut(shape);
        // A merge takes as long as its sizes say, even where one of them is 0.
        out.shape = out.shape.map(|size| size.min(1 << 16));
        let args = Merge {
            size: self.size_of::<Merge>(),
            out,
            blocks: Slice { data: blocks.as_ptr(), len: if of_blocks { count } else { 0 } },
            outputs: Slice { data: outputs.as_ptr(), len: if of_blocks { 0 } else { count } },
            sinks: self.optional_slice(heads),
            lse: SliceMut { data: lse.data.cast_mut(), len: lse.len },
            isa: self.enumerator(2),
        };
        // SAFETY: as above.
        unsafe { attention::masktile_merge(self.spoiled(&args)) }
    }

    fn kv_cache(&mut self) -> Status {
        let [batch, heads, tokens, keys, dim] = self.sizes;
        let memory = [batch, heads, keys, dim];
        let mut cache = KvCache {
            size: self.size_of::<KvCache>(),
            keys: self.view_mut(memory),
            values: self.view_mut(memory),
            len: if self.is_odd() { self.size() } else { self.below(keys + 1) },
        };
        if self.below(2) == 0 {
            // SAFETY: as above.
            return self
                .attend(true, |args| unsafe { cache::masktile_kv_cache_attend(&cache, args) });
        }
        let (k, v) =
            (self.view([batch, heads, tokens, dim]), self.view([batch, heads, tokens, dim]));
        let len = cache.len;
        // SAFETY: as above.
        let status = unsafe { cache::masktile_kv_cache_append(&mut cache, k, v) };
        assert!(status == Status::Ok || cache.len == len);
        status
    }

    fn ragged_cache(&mut self) -> Status {
        let [batch, heads, tokens, keys, dim] = self.sizes;
        let memory = [batch, heads, keys, dim];
        let cache = RaggedCache {
            size: self.size_of::<RaggedCache>(),
            keys: self.view_mut(memory),
            values: self.view_mut(memory),
            lengths: self.slice_mut(batch),
        };
        if self.below(2) == 0 {
            // SAFETY: as above.
            return self
                .attend(true, |args| unsafe { cache::masktile_ragged_cache_attend(&cache, args) });
        }
        let (k, v) =
            (self.view([batch, heads, tokens, dim]), self.view([batch, heads, tokens, dim]));
        // SAFETY: as above.
        unsafe { cache::masktile_ragged_cache_append(&cache, k, v, self.slice(batch)) }
    }

    fn paged_cache(&mut self) -> Status {
        let [batch, heads, tokens, pages, dim] = self.sizes;
        let (page, columns) = (1 + self.below(4), self.below(4));
        let cache = PagedCache {
            size: self.size_of::<PagedCache>(),
            keys: self.view_mut([pages, heads, page, dim]),
            values: self.view_mut([pages, heads, page, dim]),
            table: self.view([1, 1, batch, columns]),
            lengths: self.slice_mut(batch),
        };
        if self.below(2) == 0 {
            // SAFETY: as above.
            return self
                .attend(true, |args| unsafe { cache::masktile_paged_cache_attend(&cache, args) });
        }
        let (k, v) =
            (self.view([batch, heads, tokens, dim]), self.view([batch, heads, tokens, dim]));
        // SAFETY: as above.
        unsafe { cache::masktile_paged_cache_append(&cache, k, v, self.slice(batch)) }
    }

    /// Joins, pictures of masks, positions.
    fn others(&mut self) -> Status {
        let [batch, heads, n, keys, d] = self.sizes;
        // SAFETY: as above.
        unsafe {
            let (encoder, width) = (self.view([1, 1, n, d]), self.below(5));
            match self.below(4) {
                0 => {
                    let joined = self.view_mut([1, 1, n + 1, d]);
                    decoder::masktile_join_as_row(encoder, self.slice(d), joined)
                }
                1 => {
                    let joined = self.view_mut([1, 1, n, d + width]);
                    decoder::masktile_join_as_columns(encoder, self.slice(width), joined)
                }
                2 => {
                    let (masks, text) = (self.masks(), self.slice_mut::<u8>(4096));
                    let shape = self.spoiled([batch, heads, n, keys].as_ptr());
                    let (data, room) = (text.data.cast(), text.len);
                    mask::masktile_mask_draw(masks.as_ptr(), masks.len(), shape, data, room)
                }
                _ => {
                    let masks = self.masks();
                    let shape = [batch, heads, n, keys];
                    let position: [usize; 4] =
                        std::array::from_fn(|axis| self.below(shape[axis] + 1));
                    let (kept, _) = self.place();
                    let (masks, count) = (self.spoiled(masks.as_ptr()), masks.len());
                    mask::masktile_mask_kept(masks, count, shape.as_ptr(), position.as_ptr(), kept)
                }
            }
        }
    }
}

unsafe extern "C-unwind" fn keeps(_: *mut c_void, b: usize, h: usize, i: usize, j: usize) -> i32 {
    (b + h + i + j) as i32 % 3
}

unsafe extern "C-unwind" fn bias(_: *mut c_void, b: usize, h: usize, i: usize, j: usize) -> f32 {
    (b + h + i) as f32 - j as f32
}

unsafe extern "C-unwind" fn each(
    _: *mut c_void,
    _row: usize,
    _column: usize,
    elements: *mut f32,
    count: usize,
) {
    // SAFETY: lent by the product.
    for x in unsafe { std::slice::from_raw_parts_mut(elements, count) } {
        *x += 1.0;
    }
}
