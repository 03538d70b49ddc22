//! ndarray's views, of any number of axes, known when compiled or not.

use core::ptr::NonNull;

use ::ndarray::{
    ArrayView, ArrayViewMut, Dim, Dimension, IntoDimension, ShapeBuilder, StrideShape,
};

use super::{countable, to_signed, to_unsigned};
use crate::Result;
use crate::error::{Error, same};
use crate::view::{View, ViewMut};

/// Sizes and strides of an array, if it has `N` axes and no negative stride.
fn layout<const N: usize>(shape: &[usize], strides: &[isize]) -> Result<([usize; N], [usize; N])> {
    same("array", "axes", shape.len(), N)?;
    let (mut sizes, mut steps) = ([0; N], [0; N]);
    sizes.copy_from_slice(shape);
    steps.copy_from_slice(strides);
    Ok((sizes, to_unsigned(sizes, steps)?))
}

/// A shape and strides that ndarray can take.
fn described<const N: usize>(
    shape: [usize; N],
    strides: [usize; N],
) -> Result<StrideShape<Dim<[usize; N]>>>
where
    Dim<[usize; N]>: Dimension,
    [usize; N]: IntoDimension<Dim = Dim<[usize; N]>>,
{
    countable(shape)?;
    to_signed(strides)?;
    Ok(shape.into_dimension().strides(strides.into_dimension()))
}

impl<'a, T, D: Dimension, const N: usize> TryFrom<ArrayView<'a, T, D>> for View<'a, T, N> {
    type Error = Error;

    /// ```
    /// use masktile::{MatMut, Matmul, MatRef, Workspace};
    /// use ndarray::{Array2, s};
    ///
    /// let x = Array2::from_shape_fn((4, 6), |(i, j)| (i + j) as f32);
    /// let (every_second, mut y) = (x.slice(s![..;2, ..]), Array2::<f32>::zeros((2, 2)));
    /// Matmul::new(MatRef::try_from(every_second)?, MatRef::try_from(every_second.t())?)
    ///     .run(&mut MatMut::try_from(y.view_mut())?, &mut Workspace::new())?;
    /// assert_eq!(y, every_second.dot(&every_second.t()));
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the array has another number of axes, or a negative stride.
    fn try_from(array: ArrayView<'a, T, D>) -> Result<Self> {
        let (shape, strides) = layout(array.shape(), array.strides())?;
        // SAFETY: an array view borrows its elements, which are those of this shape and these
        // strides, as long as `'a`.
        Ok(unsafe { View::from_raw(array.as_ptr(), shape, strides) })
    }
}

impl<'a, T, D: Dimension, const N: usize> TryFrom<ArrayViewMut<'a, T, D>> for ViewMut<'a, T, N> {
    type Error = Error;

    /// # Errors
    /// If the array has another number of axes, or a negative stride.
    fn try_from(mut array: ArrayViewMut<'a, T, D>) -> Result<Self> {
        let (shape, strides) = layout(array.shape(), array.strides())?;
        // SAFETY: as above; it is consumed, and was the only one.
        unsafe { ViewMut::from_raw(array.as_mut_ptr(), shape, strides) }
    }
}

impl<'a, T, const N: usize> TryFrom<View<'a, T, N>> for ArrayView<'a, T, Dim<[usize; N]>>
where
    Dim<[usize; N]>: Dimension,
    [usize; N]: IntoDimension<Dim = Dim<[usize; N]>>,
{
    type Error = Error;

    /// ```
    /// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    /// let matrix = masktile::MatRef::new(&data, [2, 3])?;
    /// let array = ndarray::ArrayView2::try_from(matrix.transposed())?;
    /// assert_eq!(array, ndarray::array![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If repeated axes make more elements than an `isize` counts.
    fn try_from(view: View<'a, T, N>) -> Result<Self> {
        let (shape, strides) = (view.shape(), view.strides());
        let described = described(shape, strides)?;
        let nothing = NonNull::<T>::dangling().as_ptr().cast_const();
        let first = if shape.contains(&0) { nothing } else { view.as_ptr() };
        // SAFETY: a view borrows the elements of its shape and strides as long as `'a`, all inside
        // one allocation; sizes and strides are within `isize`. Without an element the address may
        // be any, and the strides are zeros.
        Ok(unsafe { ArrayView::from_shape_ptr(described, first) })
    }
}

impl<'a, T, const N: usize> TryFrom<ViewMut<'a, T, N>> for ArrayViewMut<'a, T, Dim<[usize; N]>>
where
    Dim<[usize; N]>: Dimension,
    [usize; N]: IntoDimension<Dim = Dim<[usize; N]>>,
{
    type Error = Error;

    /// # Errors
    /// If sizes beside one of 0 are more than an `isize` counts.
    fn try_from(mut view: ViewMut<'a, T, N>) -> Result<Self> {
        let (shape, strides) = (view.shape(), view.strides());
        let described = described(shape, strides)?;
        let nothing = NonNull::<T>::dangling().as_ptr();
        let first = if shape.contains(&0) { nothing } else { view.as_mut_ptr() };
        // SAFETY: as above; the elements are borrowed mutably and distinct.
        Ok(unsafe { ArrayViewMut::from_shape_ptr(described, first) })
    }
}
