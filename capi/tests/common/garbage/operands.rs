//! Slices, views and masks of garbage.

use std::ffi::c_void;

use super::{Garbage, WORDS, WORKSPACE};
use crate::c::mask::{
    Alibi, BiasOf, BoolMatrix, KeptWhere, Mask, MaskOf, Offset, PrefixLm, SegmentIds, Segments,
    Window,
};
use crate::c::memory::{Slice, SliceMut, View, ViewMut};
use crate::c::optional::Optional;
use crate::c::view::masktile_view;

impl Garbage<'_> {
    /// Somewhere in the memory, with how many are left there; or nowhere, with any length.
    pub fn place<T>(&mut self) -> (*mut T, usize) {
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

    pub fn slice<T>(&mut self, len: usize) -> Slice<T> {
        let (data, most) = self.place::<T>();
        if data.is_null() || !data.is_aligned() {
            return Slice { data, len: most };
        }
        Slice { data, len: if self.is_odd() { most } else { len.min(most) } }
    }

    pub fn slice_mut<T>(&mut self, len: usize) -> SliceMut<T> {
        let Slice { data, len } = self.slice::<T>(len);
        SliceMut { data: data.cast_mut(), len }
    }

    pub fn optional_slice(&mut self, len: usize) -> Slice<f32> {
        if self.below(2) == 0 { Slice { data: std::ptr::null(), len: 0 } } else { self.slice(len) }
    }

    pub fn view<T>(&mut self, [b, h, t, d]: [usize; 4]) -> View<T> {
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
        }
        View { data, len, shape, strides }
    }

    /// The right sizes, mostly.
    pub fn shape(&mut self, mut shape: [usize; 4]) -> [usize; 4] {
        while self.is_odd() {
            shape[self.below(4)] = self.size();
        }
        shape
    }

    pub fn view_mut<T>(&mut self, shape: [usize; 4]) -> ViewMut<T> {
        let View { data, len, shape, strides } = self.view::<T>(shape);
        ViewMut { data: data.cast_mut(), len, shape, strides }
    }

    pub fn workspace(&mut self) -> SliceMut<f32> {
        if self.is_odd() {
            return self.slice_mut(WORKSPACE);
        }
        SliceMut { data: self.workspace.as_mut_ptr(), len: self.workspace.len() }
    }

    pub fn optional(&mut self) -> Optional {
        Optional { is_given: u32::from(self.byte() > 127), value: self.number() }
    }

    pub fn offset(&mut self) -> Offset {
        let [batch, ..] = self.sizes;
        Offset {
            kind: self.enumerator(6).wrapping_add(1),
            same: self.size() as isize,
            per_batch: self.slice(batch),
            lengths: self.slice(batch),
        }
    }

    pub fn mask_of(&mut self, kind: u32) -> MaskOf {
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

    pub fn matrix(&mut self, shape: [usize; 4], [block_queries, block_keys]: [usize; 2]) -> MaskOf {
        let ones = self.view(shape);
        let matrix = BoolMatrix {
            ones,
            meaning: self.enumerator(2).wrapping_add(1),
            block_queries,
            block_keys,
        };
        MaskOf { matrix }
    }

    pub fn masks(&mut self) -> Vec<Mask> {
        let count = self.below(4);
        let mask = |_| {
            let kind = self.enumerator(18);
            Mask { size: self.size_of::<Mask>(), kind, of: self.mask_of(kind) }
        };
        (0..count).map(mask).collect()
    }
}

unsafe extern "C-unwind" fn keeps(_: *mut c_void, b: usize, h: usize, i: usize, j: usize) -> i32 {
    (b + h + i + j) as i32 % 3
}

unsafe extern "C-unwind" fn bias(_: *mut c_void, b: usize, h: usize, i: usize, j: usize) -> f32 {
    (b + h + i) as f32 - j as f32
}
