//! A right-hand matrix packed once and used many times.

use crate::isa;
use crate::memory::{Slice, SliceMut, View, call};
use crate::status::Status;

/// Floats of memory for a packed k x n matrix, whatever the instruction set.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_packed_b_len(k: usize, n: usize) -> usize {
    api::PackedB::len(k, n)
}

/// Packs `b`, 1 x 1 x k x n, into `memory` for an instruction set (one of `MasktileIsa`). The
/// memory may be written to a file as it is: it says what it holds.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_pack_b(b: View<f32>, isa: u32, memory: SliceMut<f32>) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut lent| {
            let memory = lent.write("memory", memory)?;
            let b = lent.view("b", &b)?;
            match isa::asked_for(isa)? {
                Some(isa) => api::PackedB::pack_for(isa, b, memory)?,
                None => api::PackedB::pack(b, memory)?,
            };
            Ok(())
        })
    }
}

/// The sizes of the matrix that `masktile_pack_b` once wrote into this memory, in `k` and `n`.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_packed_b_shape(
    memory: Slice<f32>,
    k: *mut usize,
    n: *mut usize,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut lent| {
            let (k, n) = (lent.write_one("k", k)?, lent.write_one("n", n)?);
            let packed = api::PackedB::from_memory(lent.read("memory", memory)?)?;
            [*k, *n] = packed.shape();
            Ok(())
        })
    }
}
