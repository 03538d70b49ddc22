//! The join of a decoder's inputs.

use crate::memory::{Slice, View, ViewMut, call};
use crate::status::Status;

/// The encoder's output, 1 x 1 x n x d, with the previous decoder output, d numbers, as one more
/// row: `joined` is 1 x 1 x (n + 1) x d.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_join_as_row(
    encoder: View<f32>,
    previous: Slice<f32>,
    joined: ViewMut<f32>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut joined = memory.view_mut("joined", &joined)?;
            let encoder = memory.view("encoder", &encoder)?;
            let previous = memory.read("previous", previous)?;
            Ok(api::decoder::join_as_row(encoder, previous, &mut joined)?)
        })
    }
}

/// The encoder's output, 1 x 1 x n x d, with the previous decoder output, d_o numbers, as more
/// columns of every row: `joined` is 1 x 1 x n x (d + d_o).
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_join_as_columns(
    encoder: View<f32>,
    previous: Slice<f32>,
    joined: ViewMut<f32>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut joined = memory.view_mut("joined", &joined)?;
            let encoder = memory.view("encoder", &encoder)?;
            let previous = memory.read("previous", previous)?;
            Ok(api::decoder::join_as_columns(encoder, previous, &mut joined)?)
        })
    }
}
