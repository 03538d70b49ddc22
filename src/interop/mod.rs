//! Views of other libraries as masktile's and back, without copies: features `ndarray` and `faer`.
//!
//! Both ways are `TryFrom`: masktile's strides are not negative, and other libraries bound sizes
//! that masktile does not. Whatever slicing, transposing and broadcasting else give is taken as it
//! lies.

#[cfg(feature = "faer")]
mod faer;
#[cfg(feature = "ndarray")]
mod ndarray;

use crate::Result;
use crate::error::{Error, ErrorKind};

/// Strides as masktile has them.
fn to_unsigned<const N: usize>(shape: [usize; N], strides: [isize; N]) -> Result<[usize; N]> {
    for (size, stride) in shape.into_iter().zip(strides) {
        if size > 1 && stride < 0 {
            let wanted = "none below 0: reverse the axis, or copy";
            let kind = ErrorKind::Number { what: "stride", given: stride as f32, wanted };
            return Err(Error::new("strides", kind));
        }
    }
    // Nothing steps along an axis of one element.
    Ok(strides.map(isize::unsigned_abs))
}

/// Strides as others have them.
fn to_signed<const N: usize>(strides: [usize; N]) -> Result<[isize; N]> {
    let mut signed = [0; N];
    for (place, stride) in signed.iter_mut().zip(strides) {
        *place = isize::try_from(stride).or(Err(Error::new("strides", ErrorKind::Overflow)))?;
    }
    Ok(signed)
}

/// An error where the sizes that are not 0 multiply to more than others can count: axes repeated by
/// a stride of 0 may.
fn countable<const N: usize>(shape: [usize; N]) -> Result<()> {
    let mut sizes = shape.into_iter().filter(|size| *size != 0);
    sizes
        .try_fold(1usize, |all, size| all.checked_mul(size))
        .filter(|all| *all <= isize::MAX as usize)
        .map(|_| ())
        .ok_or(Error::new("shape", ErrorKind::Overflow))
}
