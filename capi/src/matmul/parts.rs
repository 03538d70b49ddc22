//! A product in parts, for the threads of the caller's own pool.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use api::matmul::{Part, workspace_len};

use super::{EachFunction, Matmul, product};
use crate::memory::{SliceMut, addresses, call, long_enough, spanned};
use crate::status::{Fault, Result, Status};

/// More would cost memory and serve no machine.
const MOST: usize = 4096;

/// A product in parts: each writes its own elements of C, and the bits are those of
/// `masktile_matmul`, however many there are.
pub struct Parts {
    /// Each until it is run.
    parts: Vec<Mutex<Option<Part<'static, 4>>>>,
    workspace_len: usize,
    /// The operands, which no workspace may touch.
    operands: Vec<Range<usize>>,
    /// What the parts call. Behind them, for it is dropped after them.
    _each: Option<Arc<EachFunction>>,
}

/// They are run from any thread, and freed from any.
const fn is_shared<T: Send + Sync>() {}
const _: () = is_shared::<Parts>();

/// Checks a product and puts it in `count` parts, 4096 at most, to be run by
/// `masktile_parts_run` and given back by `masktile_parts_free`. All memory of `args` but its
/// workspace, which is not used, stays as it is until then.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there, until the parts are freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_matmul_parts(
    args: *const Matmul,
    count: usize,
    parts: *mut *mut Parts,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut older = None;
            let args = memory.args("args", args, &mut older)?;
            let place = memory.write_one("parts", parts)?;
            if count > MOST {
                let what = format_args!("given {count}, wanted at most {MOST}");
                return Err(Fault::new(Status::TooLarge, "count", what));
            }
            let mut c = memory.view_mut("c", &args.c)?;
            let each = args.each.function();
            let parts = product(&memory, args, each.as_deref())?.parts(&mut c, count)?;
            let parts = parts.map(|part| {
                // SAFETY: the memory behind the part is lent until it is freed, by this function's
                // contract; `each` is on the heap and is freed after it; of the views it holds
                // what they say and not them.
                let part: Part<'static, 4> = std::mem::transmute::<Part<'_, 4>, _>(part);
                Mutex::new(Some(part))
            });
            let [batch, heads, rows, n] = args.c.shape;
            let m = batch.saturating_mul(heads).saturating_mul(rows);
            let parts = Parts {
                parts: parts.collect(),
                workspace_len: workspace_len(m, n, args.a.shape[3]),
                operands: operands(args)?,
                _each: each,
            };
            *place = Box::into_raw(Box::new(parts));
            Ok(())
        })
    }
}

/// The addresses of all that a product reads and writes but its workspace.
fn operands(args: &Matmul) -> Result<Vec<Range<usize>>> {
    let views =
        [("a", args.a), ("b", args.b), ("c", args.c.to_read()), ("residual", args.residual)];
    let views = views.into_iter().filter(|(_, view)| !view.data.is_null());
    let views = views.map(|(name, view)| addresses(name, view.data, spanned(name, &view)?));
    let slices = [("packed_b", args.packed_b), ("scale", args.scale), ("bias", args.bias)];
    let slices = slices.into_iter().map(|(name, slice)| addresses(name, slice.data, slice.len));
    views.chain(slices).collect()
}

/// Runs part `index`, once, on this thread, with a workspace of this thread's alone of at least
/// `masktile_matmul_workspace_len` floats, m being the rows of all leading indices. Any number of
/// threads may run parts of one product at once.
///
/// # Safety
/// `parts` is null or from `masktile_matmul_parts` and not freed; the workspace is as long as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_parts_run(
    parts: *const Parts,
    index: usize,
    workspace: SliceMut<f32>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let what = "given a null pointer, wanted parts";
            let parts = parts.as_ref().ok_or_else(|| Fault::new(Status::Null, "parts", what))?;
            let Some(part) = parts.parts.get(index) else {
                let count = parts.parts.len();
                let what = format_args!("given {index}, wanted one below {count}");
                return Err(Fault::new(Status::TooLarge, "index", what));
            };
            let workspace = memory.write("workspace", workspace)?;
            long_enough("workspace", workspace.len(), parts.workspace_len)?;
            for operand in &parts.operands {
                memory.apart("args", operand)?;
            }
            // A poisoned one was taken by nobody: a panic comes after.
            let taken = part.lock().unwrap_or_else(PoisonError::into_inner).take();
            let part = taken.ok_or_else(|| {
                Fault::misplaced("index", "each part once, and this one was run before")
            })?;
            Ok(part.run(workspace)?)
        })
    }
}

/// Gives the parts back, whether they were run or not. Null is fine.
///
/// # Safety
/// `parts` is null or from `masktile_matmul_parts` and not freed; no thread runs one of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_parts_free(parts: *mut Parts) {
    if !parts.is_null() {
        // SAFETY: the caller's; it was a box.
        drop(unsafe { Box::from_raw(parts) });
    }
}
