//! faer's matrices. Theirs are columns one behind the other, which are masktile's with a row stride
//! of 1.

use core::ptr::NonNull;

use super::{to_signed, to_unsigned};
use crate::Result;
use crate::error::Error;
use crate::view::{MatMut, MatRef};

impl<'a, T> TryFrom<::faer::MatRef<'a, T>> for MatRef<'a, T> {
    type Error = Error;

    /// ```
    /// use masktile::{MatMut, MatRef, Matmul, Workspace};
    ///
    /// let x = faer::Mat::from_fn(4, 6, |i, j| (i + j) as f32);
    /// let mut y = faer::Mat::<f32>::zeros(4, 4);
    /// Matmul::new(MatRef::try_from(x.as_ref())?, MatRef::try_from(x.transpose())?)
    ///     .run(&mut MatMut::try_from(y.as_mut())?, &mut Workspace::new())?;
    /// assert_eq!(y[(0, 1)], 70.0);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a stride is negative.
    fn try_from(matrix: ::faer::MatRef<'a, T>) -> Result<Self> {
        let shape = [matrix.nrows(), matrix.ncols()];
        let strides = to_unsigned(shape, [matrix.row_stride(), matrix.col_stride()])?;
        // SAFETY: a matrix view borrows its elements, which are those of this shape and these
        // strides, as long as `'a`.
        Ok(unsafe { MatRef::from_raw(matrix.as_ptr(), shape, strides) })
    }
}

impl<'a, T> TryFrom<::faer::MatMut<'a, T>> for MatMut<'a, T> {
    type Error = Error;

    /// # Errors
    /// If a stride is negative.
    fn try_from(matrix: ::faer::MatMut<'a, T>) -> Result<Self> {
        let shape = [matrix.nrows(), matrix.ncols()];
        let strides = to_unsigned(shape, [matrix.row_stride(), matrix.col_stride()])?;
        // SAFETY: as above; it is consumed, and was the only one.
        unsafe { MatMut::from_raw(matrix.as_ptr_mut(), shape, strides) }
    }
}

impl<'a, T> TryFrom<MatRef<'a, T>> for ::faer::MatRef<'a, T> {
    type Error = Error;

    /// # Errors
    /// If a stride is no `isize`.
    fn try_from(view: MatRef<'a, T>) -> Result<Self> {
        let ([rows, columns], [row, column]) = (view.shape(), to_signed(view.strides())?);
        let nothing = NonNull::<T>::dangling().as_ptr().cast_const();
        let first = if rows == 0 || columns == 0 { nothing } else { view.as_ptr() };
        // SAFETY: a view borrows the elements of its shape and strides as long as `'a`, all inside
        // one allocation; without an element the address may be any.
        Ok(unsafe { ::faer::MatRef::from_raw_parts(first, rows, columns, row, column) })
    }
}

impl<'a, T> TryFrom<MatMut<'a, T>> for ::faer::MatMut<'a, T> {
    type Error = Error;

    /// # Errors
    /// If a stride is no `isize`.
    fn try_from(mut view: MatMut<'a, T>) -> Result<Self> {
        let ([rows, columns], [row, column]) = (view.shape(), to_signed(view.strides())?);
        let nothing = NonNull::<T>::dangling().as_ptr();
        let first = if rows == 0 || columns == 0 { nothing } else { view.as_mut_ptr() };
        // SAFETY: as above; the elements are borrowed mutably and distinct.
        Ok(unsafe { ::faer::MatMut::from_raw_parts_mut(first, rows, columns, row, column) })
    }
}
