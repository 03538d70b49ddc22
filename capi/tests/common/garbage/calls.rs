//! Each function with arguments of garbage.

use std::ffi::c_void;

use super::{Garbage, WORKSPACE};
use crate::c::attention::{Attention, KeyBlocks, Merge, PartialOutput};
use crate::c::cache::{KvCache, PagedCache, RaggedCache};
use crate::c::matmul::{Clamp, Each, Matmul};
use crate::c::memory::{Slice, SliceMut, View, ViewMut};
use crate::c::softmax::Softmax;
use crate::c::status::Status;
use crate::c::{attention, cache, decoder, mask, matmul, packed, softmax};

impl Garbage<'_> {
    pub fn matmul_args(&mut self) -> Matmul {
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

    pub fn matmul(&mut self) -> Status {
        let args = self.matmul_args();
        // SAFETY: pointers lead to as many elements as they say, or are found out.
        unsafe { matmul::masktile_matmul(self.spoiled(&args)) }
    }

    pub fn parts(&mut self) -> Status {
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

    pub fn pack(&mut self) -> Status {
        let [.., n, k] = self.sizes;
        let (b, isa) = (self.view::<f32>([1, 1, k, n]), self.enumerator(2));
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

    pub fn softmax(&mut self) -> Status {
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
    pub fn attend(
        &mut self,
        is_cached: bool,
        f: impl FnOnce(*const Attention) -> Status,
    ) -> Status {
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

    pub fn attention(&mut self) -> Status {
        // SAFETY: as above.
        self.attend(false, |args| unsafe { attention::masktile_attention(args) })
    }

    pub fn merge(&mut self) -> Status {
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
        let args = Merge {
            size: self.size_of::<Merge>(),
            out: self.view_mut(shape),
            blocks: Slice { data: blocks.as_ptr(), len: if of_blocks { count } else { 0 } },
            outputs: Slice { data: outputs.as_ptr(), len: if of_blocks { 0 } else { count } },
            sinks: self.optional_slice(heads),
            lse: SliceMut { data: lse.data.cast_mut(), len: lse.len },
            isa: self.enumerator(2),
        };
        // SAFETY: as above.
        unsafe { attention::masktile_merge(self.spoiled(&args)) }
    }

    pub fn kv_cache(&mut self) -> Status {
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

    pub fn ragged_cache(&mut self) -> Status {
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

    pub fn paged_cache(&mut self) -> Status {
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
    pub fn others(&mut self) -> Status {
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
                    let shape = self.shape([batch, heads, n, keys]);
                    let shape = self.spoiled(shape.as_ptr());
                    let (data, room) = (text.data.cast(), text.len);
                    mask::masktile_mask_draw(masks.as_ptr(), masks.len(), shape, data, room)
                }
                _ => {
                    let masks = self.masks();
                    let shape = self.shape([batch, heads, n, keys]);
                    let position = shape.map(|size| self.below(size.saturating_add(1)));
                    let (kept, _) = self.place();
                    let (masks, count) = (self.spoiled(masks.as_ptr()), masks.len());
                    mask::masktile_mask_kept(masks, count, shape.as_ptr(), position.as_ptr(), kept)
                }
            }
        }
    }
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
