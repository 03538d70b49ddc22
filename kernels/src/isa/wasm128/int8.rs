//! Products of bytes in WebAssembly: both factors widened to 16 bits, whose products are added in
//! pairs.

use core::arch::wasm32::*;

use super::Wasm128;
use crate::isa::int8::{Int8, Int8Op, Left};

impl Int8 for Wasm128 {
    type Base = Wasm128;
    /// Numbers 0 and 2 as 16 bits, then 1 and 3.
    type Group = [u32; 2];
    type Row = [v128; 2];
    /// Of four columns each, parted as a group.
    type Columns = [[v128; 2]; 4];
    type Sums = [v128; 4];
    const LEFT: Left = Left::Wide;
    const MR: usize = 2;
    const NV: usize = 1;

    #[inline(always)]
    fn base(self) -> Wasm128 {
        self
    }
    #[inline(always)]
    fn group(self, bytes: [u8; 4], zero: i16) -> [u32; 2] {
        let number = |byte: u8| u32::from((i16::from(byte as i8) - zero) as u16);
        [number(bytes[0]) | number(bytes[2]) << 16, number(bytes[1]) | number(bytes[3]) << 16]
    }
    #[inline(always)]
    fn row(self, group: [u32; 2]) -> Self::Row {
        group.map(
            #[inline(always)]
            |word| u32x4_splat(word),
        )
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u32) -> Self::Columns {
        let widened = |columns: v128| [i16x8_shr(i16x8_shl(columns, 8), 8), i16x8_shr(columns, 8)];
        let p: *const v128 = p.cast();
        // SAFETY: the caller's.
        unsafe {
            [v128_load(p), v128_load(p.add(1)), v128_load(p.add(2)), v128_load(p.add(3))]
                .map(widened)
        }
    }
    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [i32x4_splat(0); 4]
    }
    #[inline(always)]
    fn dot(self, sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums {
        core::array::from_fn(|i| {
            let sum = i32x4_add(sums[i], i32x4_dot_i16x8(row[0], columns[i][0]));
            i32x4_add(sum, i32x4_dot_i16x8(row[1], columns[i][1]))
        })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool) {
        let p: *mut v128 = p.cast();
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe {
                let place = p.add(i);
                v128_store(place, if add { i32x4_add(sum, v128_load(place)) } else { sum });
            }
        }
    }

    #[inline(always)]
    fn run<O: Int8Op>(self, op: O) -> O::Out {
        #[inline(never)]
        fn inner<O: Int8Op>(s: Wasm128, op: O) -> O::Out {
            op.eval(s)
        }
        inner(self, op)
    }
}
