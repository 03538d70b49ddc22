//! What the tests share: arguments as C gives them, and numbers.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::CStr;

use masktile::memory::{Slice, SliceMut, View, ViewMut};
use masktile::status::{Status, masktile_last_error};
use masktile::view::{masktile_view, masktile_view_mut};

/// What an output holds before a call.
pub const BEFORE: f32 = 7.0;

/// As `MASKTILE_INIT`, then `set`.
pub fn args<A>(set: impl FnOnce(&mut A)) -> A {
    // SAFETY: the structs of arguments are numbers and pointers; the first is their size.
    let mut args = unsafe {
        let mut args: A = std::mem::zeroed();
        (&raw mut args).cast::<usize>().write(size_of::<A>());
        args
    };
    set(&mut args);
    args
}

pub fn view(data: &[f32], [b, h, t, d]: [usize; 4]) -> View<f32> {
    View { len: data.len(), ..masktile_view(data.as_ptr(), b, h, t, d) }
}

pub fn view_mut(data: &mut [f32], [b, h, t, d]: [usize; 4]) -> ViewMut<f32> {
    ViewMut { len: data.len(), ..masktile_view_mut(data.as_mut_ptr(), b, h, t, d) }
}

/// As [`view`] of any numbers.
pub fn view_of<T>(data: &[T], shape: [usize; 4]) -> View<T> {
    let View { strides, .. } = view(&[], shape);
    View { data: data.as_ptr(), len: data.len(), shape, strides }
}

pub fn slice<T>(data: &[T]) -> Slice<T> {
    Slice { data: data.as_ptr(), len: data.len() }
}

pub fn slice_mut<T>(data: &mut [T]) -> SliceMut<T> {
    SliceMut { data: data.as_mut_ptr(), len: data.len() }
}

pub fn last_error() -> String {
    // SAFETY: a string that ends with a zero, until the next failure on this thread.
    unsafe { CStr::from_ptr(masktile_last_error()) }.to_str().unwrap().to_owned()
}

#[track_caller]
pub fn assert_done(status: Status) {
    assert_eq!(status, Status::Ok, "{}", last_error());
}

/// Numbers in -1 .. 1 that look random and are the same every time.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// Equal bits.
#[track_caller]
pub fn assert_same_bits(given: &[f32], wanted: &[f32], case: &str) {
    let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(given), bits(wanted), "{case}");
}
