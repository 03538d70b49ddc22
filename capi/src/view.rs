//! Helpers that fill in views.

use crate::memory::{View, ViewMut, contiguous};

/// A contiguous operand of `batch` x `heads` x `tokens` x `width` floats, the last axis the closest.
/// A matrix is `1` x `1` x rows x columns.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_view(
    data: *const f32,
    batch: usize,
    heads: usize,
    tokens: usize,
    width: usize,
) -> View<f32> {
    let shape = [batch, heads, tokens, width];
    let (len, strides) = contiguous(shape);
    View { data, len, shape, strides }
}

/// As `masktile_view`, to write to.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_view_mut(
    data: *mut f32,
    batch: usize,
    heads: usize,
    tokens: usize,
    width: usize,
) -> ViewMut<f32> {
    let shape = [batch, heads, tokens, width];
    let (len, strides) = contiguous(shape);
    ViewMut { data, len, shape, strides }
}
