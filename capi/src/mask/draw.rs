//! Masks looked at: as a picture, and one position.

use std::ffi::c_char;
use std::fmt::{self, Write};

use super::{Mask, Masks};
use crate::memory::{SliceMut, call};
use crate::status::{Fault, Status};

/// Draws the masks together for scores of `shape` (batch, heads, queries, keys) into `text`, which
/// has room for `room` bytes with the zero at its end: a line for each query, `.` for a kept key
/// and `#` for a masked one, under a heading where there is more than one batch or head. Of more
/// than 64 queries or 128 keys the rest is left out, with an ellipsis (in UTF-8) in its place.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there; `shape` to four.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_mask_draw(
    masks: *const Mask,
    mask_count: usize,
    shape: *const usize,
    text: *mut c_char,
    room: usize,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let text = memory.write("text", SliceMut { data: text.cast::<u8>(), len: room })?;
            let shape = memory.shape("shape", shape)?;
            let masks = Masks::new(&memory, masks, mask_count)?;
            let masks = masks.lowered(&memory)?;
            let drawing = api::Mask::All(&masks).draw(shape)?;
            let mut picture = Bounded { text: String::new(), room };
            if write!(picture, "{drawing}").is_err() || picture.text.len() >= room {
                let what = format_args!("length: given {room}, wanted more");
                return Err(Fault::new(Status::TooShort, "text", what));
            }
            let (place, zero) = text.split_at_mut(picture.text.len());
            place.copy_from_slice(picture.text.as_bytes());
            zero[0] = 0;
            Ok(())
        })
    }
}

/// Text that leaves room for a zero: sizes from outside may ask for any length.
struct Bounded {
    text: String,
    room: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() >= self.room {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// Whether the masks together keep `position` (batch, head, query, key) of scores of `shape`, in
/// `kept`: 1 or 0.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there; `shape` and `position` to four.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_mask_kept(
    masks: *const Mask,
    mask_count: usize,
    shape: *const usize,
    position: *const usize,
    kept: *mut i32,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let kept = memory.write_one("kept", kept)?;
            let (shape, position) =
                (memory.shape("shape", shape)?, memory.shape("position", position)?);
            let masks = Masks::new(&memory, masks, mask_count)?;
            *kept = i32::from(api::Mask::All(&masks.lowered(&memory)?).kept(shape, position)?);
            Ok(())
        })
    }
}
