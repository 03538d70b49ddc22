//! Views: memory with sizes and strides, so that a transposed, sliced or repeated operand needs no
//! copy. Strides count elements.
//!
//! A view borrows the elements that it names and nothing between them: the gaps of a strided one
//! may be somebody else's to write, as when another library splits a matrix by columns. So it
//! holds an address and no slice.

use core::marker::PhantomData;

use crate::Result;
use crate::error::{Error, ErrorKind, long_enough};
use crate::number::Number;

/// An operand of `N` axes in memory that somebody else owns.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T, const N: usize> {
    first: *const T,
    shape: [usize; N],
    strides: [usize; N],
    elements: PhantomData<&'a [T]>,
}

/// An output of `N` axes in memory that somebody else owns. No two elements are the same number.
#[derive(Debug)]
pub struct ViewMut<'a, T, const N: usize> {
    first: *mut T,
    shape: [usize; N],
    strides: [usize; N],
    elements: PhantomData<&'a mut [T]>,
}

// SAFETY: it is shared references to its elements.
unsafe impl<T: Sync, const N: usize> Send for View<'_, T, N> {}
// SAFETY: as above.
unsafe impl<T: Sync, const N: usize> Sync for View<'_, T, N> {}
// SAFETY: it is exclusive references to its elements, which are distinct.
unsafe impl<T: Send, const N: usize> Send for ViewMut<'_, T, N> {}
// SAFETY: shared, it gives shared references alone.
unsafe impl<T: Sync, const N: usize> Sync for ViewMut<'_, T, N> {}

/// rows x columns
pub type MatRef<'a, T = f32> = View<'a, T, 2>;
/// rows x columns
pub type MatMut<'a, T = f32> = ViewMut<'a, T, 2>;
/// batch x heads x tokens x dim
pub type TensorRef<'a, T = f32> = View<'a, T, 4>;
/// batch x heads x tokens x dim
pub type TensorMut<'a, T = f32> = ViewMut<'a, T, 4>;

/// The strides of a contiguous operand, the last axis the closest, and its elements.
fn contiguous<const N: usize>(shape: [usize; N]) -> Result<([usize; N], usize)> {
    let mut strides = [0; N];
    let mut stride = 1usize;
    let mut axes = shape.iter().rev();
    for place in strides.iter_mut().rev() {
        *place = stride;
        let size = axes.next().copied().unwrap_or(1).max(1);
        stride = stride.checked_mul(size).ok_or(Error::new("shape", ErrorKind::Overflow))?;
    }
    if shape.contains(&0) {
        stride = 0;
    }
    Ok((meaningful(shape, strides), stride))
}

/// The strides, or zeros where there is no element to step to: then they may be anything, and an
/// operation that multiplies them by its other sizes must not overflow.
#[inline]
fn meaningful<const N: usize>(shape: [usize; N], strides: [usize; N]) -> [usize; N] {
    if shape.contains(&0) { [0; N] } else { strides }
}

/// How many elements there are from the first to the last, with those between.
#[inline]
fn extent<const N: usize>(shape: [usize; N], strides: [usize; N]) -> Result<usize> {
    if shape.contains(&0) {
        return Ok(0);
    }
    let mut last = 0usize;
    for (size, stride) in shape.into_iter().zip(strides) {
        last = (size - 1)
            .checked_mul(stride)
            .or(cfg!(masktile_fault = "unchecked_multiply")
                .then(|| (size - 1).wrapping_mul(stride)))
            .and_then(|span| last.checked_add(span))
            .ok_or(Error::new("strides", ErrorKind::Overflow))?;
    }
    last.checked_add(1).ok_or(Error::new("strides", ErrorKind::Overflow))
}

/// Whether all elements are distinct: with axes in some order, each steps over all that those before
/// it span. (Sufficient, and necessary for every layout that slicing and permuting an array give.)
#[inline(always)]
fn distinct<const N: usize>(shape: [usize; N], strides: [usize; N]) -> bool {
    let axes: [_; N] = core::array::from_fn(|i| match (shape.get(i), strides.get(i)) {
        (Some(size), Some(stride)) => (*stride, *size),
        _ => (0, 0),
    });
    shape.contains(&0) || steps_over(axes.iter().rev()) || sorted_steps_over(axes)
}

/// For axes as (stride, size).
#[inline]
fn steps_over<'a>(axes: impl Iterator<Item = &'a (usize, usize)>) -> bool {
    let mut span = 0usize;
    for (stride, size) in axes {
        if *size > 1 {
            if *stride <= span {
                return false;
            }
            span = span.saturating_add((size - 1).saturating_mul(*stride));
        }
    }
    true
}

/// Apart, for the last axis is nearly always the closest.
#[inline(never)]
fn sorted_steps_over<const N: usize>(mut axes: [(usize, usize); N]) -> bool {
    axes.sort_unstable();
    steps_over(axes.iter())
}

impl<'a, T, const N: usize> View<'a, T, N> {
    /// A contiguous operand, the last axis the closest.
    ///
    /// # Errors
    /// If `data` is too short for `shape`.
    ///
    /// ```
    /// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    /// let a = masktile::MatRef::new(&data, [2, 3])?;
    /// assert_eq!(a.get([1, 0]), Some(&4.0));
    /// assert_eq!(a.transposed().get([0, 1]), Some(&4.0));
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn new(data: &'a [T], shape: [usize; N]) -> Result<Self> {
        let (strides, len) = contiguous(shape)?;
        long_enough("data", data.len(), len)?;
        Ok(View { first: data.as_ptr(), shape, strides, elements: PhantomData })
    }

    /// An operand whose element `[i, j, ..]` is `data[i * strides[0] + j * strides[1] + ..]`.
    /// A stride of 0 repeats an axis.
    ///
    /// # Errors
    /// If `data` is too short, or the extent overflows.
    #[inline]
    pub fn with_strides(data: &'a [T], shape: [usize; N], strides: [usize; N]) -> Result<Self> {
        long_enough("data", data.len(), extent(shape, strides)?)?;
        // SAFETY: the slice has all elements.
        Ok(unsafe { View::from_raw(data.as_ptr(), shape, strides) })
    }

    /// An operand whose element `[i, j, ..]` is `first[i * strides[0] + j * strides[1] + ..]`: for
    /// memory of another language or library, of which no slice may be made where somebody else
    /// writes between its elements. Without an element the address and the strides may be any.
    ///
    /// # Safety
    /// Counted without wrapping, these elements all lie in one allocation, may be read as long as
    /// `'a`, and are written by nobody meanwhile.
    ///
    /// ```
    /// let data = [1.0, 2.0, 3.0, 4.0];
    /// // SAFETY: both are elements of `data`.
    /// let column = unsafe { masktile::MatRef::from_raw(&data[1], [2, 1], [2, 1]) };
    /// assert_eq!(column.get([1, 0]), Some(&4.0));
    /// ```
    #[inline(always)]
    pub unsafe fn from_raw(first: *const T, shape: [usize; N], strides: [usize; N]) -> Self {
        View { first, shape, strides: meaningful(shape, strides), elements: PhantomData }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The strides of the axes; zeros where it was made without an element.
    pub fn strides(&self) -> [usize; N] {
        self.strides
    }

    /// The element at `index`, if there is one.
    pub fn get(&self, index: [usize; N]) -> Option<&'a T> {
        let offset = offset(self.shape, self.strides, index)?;
        // SAFETY: the index is inside the shape, so it names an element of the view.
        Some(unsafe { &*self.first.add(offset) })
    }

    /// The last axis from `index` on, where it is contiguous.
    pub(crate) fn row(&self, index: [usize; N]) -> Option<&'a [T]> {
        let (start, len) = row(self.shape, self.strides, index)?;
        // SAFETY: these are elements of the view, one behind the other.
        Some(unsafe { core::slice::from_raw_parts(self.first.add(start), len) })
    }

    /// The first element's address; the rest is sizes and strides.
    /// The last axis at `index`, whose last place is 0.
    fn line(&self, index: [usize; N]) -> impl Iterator<Item = &'a T> {
        let (line, first) = (line(self.shape, self.strides, index), self.first);
        // SAFETY: these are elements of the view.
        line.map(move |offset| unsafe { &*first.add(offset) })
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.first
    }

    /// Axis `axis` cut to `start..start + len`.
    ///
    /// # Errors
    /// If there is no such axis, or it is shorter.
    pub fn narrow(mut self, axis: usize, start: usize, len: usize) -> Result<Self> {
        let skip = narrow(&mut self.shape, self.strides, axis, start, len)?;
        self.first = self.first.wrapping_add(skip);
        Ok(self)
    }
}

/// Cuts an axis; gives the elements to skip.
fn narrow<const N: usize>(
    shape: &mut [usize; N],
    strides: [usize; N],
    axis: usize,
    start: usize,
    len: usize,
) -> Result<usize> {
    let (Some(size), Some(stride)) = (shape.get_mut(axis), strides.get(axis)) else {
        return Err(Error::new(
            "axis",
            ErrorKind::TooLarge { what: "axis", given: axis, limit: N - 1 },
        ));
    };
    let end = start.saturating_add(len);
    if end > *size {
        return Err(Error::new(
            "start + len",
            ErrorKind::TooLarge { what: "end", given: end, limit: *size },
        ));
    }
    *size = len;
    // The product is inside the extent unless the axis is now empty, and then it names nothing.
    Ok(start.saturating_mul(*stride))
}

fn offset<const N: usize>(
    shape: [usize; N],
    strides: [usize; N],
    index: [usize; N],
) -> Option<usize> {
    let inside = index.iter().zip(shape).all(|(i, size)| *i < size);
    inside.then(|| index.iter().zip(strides).map(|(i, stride)| i * stride).sum())
}

/// Where the last axis from `index` on begins and how long it is, if it is contiguous.
fn row<const N: usize>(
    shape: [usize; N],
    strides: [usize; N],
    index: [usize; N],
) -> Option<(usize, usize)> {
    let start = offset(shape, strides, index)?;
    let len = shape.last()? - index.last()?;
    (strides.last() == Some(&1)).then_some((start, len))
}

/// Where the elements of the last axis are; none if `index`, whose last place is 0, is outside.
fn line<const N: usize>(
    shape: [usize; N],
    strides: [usize; N],
    index: [usize; N],
) -> impl Iterator<Item = usize> {
    let start = offset(shape, strides, index);
    let len = start.and(shape.last().copied()).unwrap_or(0);
    let stride = strides.last().copied().unwrap_or(0);
    (0..len).map(move |i| start.unwrap_or(0) + i * stride)
}

impl<'a, T> View<'a, T, 2> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(mut self) -> Self {
        self.shape.swap(0, 1);
        self.strides.swap(0, 1);
        self
    }
}

impl<'a, T> From<View<'a, T, 2>> for View<'a, T, 4> {
    /// One batch, one head.
    fn from(m: View<'a, T, 2>) -> Self {
        let (shape, strides) = (with_ones(m.shape, 1), with_ones(m.strides, 0));
        View { first: m.first, shape, strides, elements: PhantomData }
    }
}

fn with_ones([a, b]: [usize; 2], leading: usize) -> [usize; 4] {
    [leading, leading, a, b]
}

impl<T> View<'_, T, 4> {
    /// The same numbers for every batch, head, query or key of `shape` along which this has but one.
    ///
    /// # Errors
    /// If an axis is neither 1 nor as long as `shape`'s.
    ///
    /// ```
    /// let one_row = [1u8, 1, 0];
    /// let mask = masktile::TensorRef::new(&one_row, [1, 1, 1, 3])?.broadcast([2, 8, 5, 3])?;
    /// assert_eq!(mask.get([1, 7, 4, 2]), Some(&0));
    /// # Ok::<(), masktile::Error>(())
    /// ```
    pub fn broadcast(mut self, shape: [usize; 4]) -> Result<Self> {
        const AXES: [&str; 4] = ["batch", "heads", "tokens", "dim"];
        let axes = self.shape.iter_mut().zip(&mut self.strides).zip(shape).zip(AXES);
        for (((size, stride), wanted), what) in axes {
            if *size == 1 && wanted != 1 {
                (*size, *stride) = (wanted, 0);
            }
            crate::error::same("shape", what, *size, wanted)?;
        }
        Ok(self)
    }

    /// Tokens before heads, heads before tokens: exchanges the two axes, so that an operand laid
    /// out batch x tokens x heads x dim is read as batch x heads x tokens x dim.
    pub fn heads_and_tokens_swapped(mut self) -> Self {
        self.shape.swap(1, 2);
        self.strides.swap(1, 2);
        self
    }
}

impl<'a, T, const N: usize> ViewMut<'a, T, N> {
    /// A contiguous output, the last axis the closest.
    ///
    /// # Errors
    /// If `data` is too short for `shape`.
    pub fn new(data: &'a mut [T], shape: [usize; N]) -> Result<Self> {
        // Its elements are distinct.
        let (strides, len) = contiguous(shape)?;
        long_enough("data", data.len(), len)?;
        Ok(ViewMut { first: data.as_mut_ptr(), shape, strides, elements: PhantomData })
    }

    /// An output whose element `[i, j, ..]` is `data[i * strides[0] + j * strides[1] + ..]`.
    ///
    /// # Errors
    /// If `data` is too short, the extent overflows, or two elements are the same number.
    #[inline]
    pub fn with_strides(data: &'a mut [T], shape: [usize; N], strides: [usize; N]) -> Result<Self> {
        long_enough("data", data.len(), extent(shape, strides)?)?;
        // SAFETY: the slice has all elements.
        unsafe { ViewMut::from_raw(data.as_mut_ptr(), shape, strides) }
    }

    /// An output whose element `[i, j, ..]` is `first[i * strides[0] + j * strides[1] + ..]`; see
    /// [`View::from_raw`].
    ///
    /// # Errors
    /// If two elements are the same number.
    ///
    /// # Safety
    /// Counted without wrapping, these elements all lie in one allocation, and are read and written
    /// by nobody else as long as `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(first: *mut T, shape: [usize; N], strides: [usize; N]) -> Result<Self> {
        if !distinct(shape, strides) {
            return Err(Error::new("strides", ErrorKind::Overlap));
        }
        let strides = meaningful(shape, strides);
        Ok(ViewMut { first, shape, strides, elements: PhantomData })
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// The strides of the axes; zeros where it was made without an element.
    pub fn strides(&self) -> [usize; N] {
        self.strides
    }

    /// The same elements to read.
    pub fn as_ref(&self) -> View<'_, T, N> {
        let ViewMut { first, shape, strides, .. } = *self;
        View { first: first.cast_const(), shape, strides, elements: PhantomData }
    }

    /// The same elements for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, T, N> {
        ViewMut { elements: PhantomData, ..*self }
    }

    /// The element at `index`, if there is one.
    pub fn get_mut(&mut self, index: [usize; N]) -> Option<&mut T> {
        let offset = offset(self.shape, self.strides, index)?;
        // SAFETY: the index is inside the shape, so it names an element of the view, which is
        // borrowed mutably.
        Some(unsafe { &mut *self.first.add(offset) })
    }

    /// Axis `axis` cut to `start..start + len`.
    ///
    /// # Errors
    /// If there is no such axis, or it is shorter.
    pub fn narrow(mut self, axis: usize, start: usize, len: usize) -> Result<Self> {
        let skip = narrow(&mut self.shape, self.strides, axis, start, len)?;
        self.first = self.first.wrapping_add(skip);
        Ok(self)
    }

    /// Axis `axis` in two: the elements before `at`, and those from it on.
    ///
    /// ```
    /// use masktile::MatMut;
    /// let mut numbers = [1, 2, 3, 4];
    /// let (mut left, right) = MatMut::new(&mut numbers, [2, 2])?.split_at(1, 1)?;
    /// *left.get_mut([1, 0]).unwrap() = right.as_ref().get([0, 0]).copied().unwrap();
    /// assert_eq!(numbers, [1, 2, 2, 4]);
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis, or it is shorter.
    pub fn split_at(self, axis: usize, at: usize) -> Result<(Self, Self)> {
        let rest = self.shape.get(axis).map_or(0, |len| len.saturating_sub(at));
        // No element is named twice, so none is in both.
        let second = ViewMut { elements: PhantomData, ..self }.narrow(axis, at, rest)?;
        Ok((self.narrow(axis, 0, at)?, second))
    }

    /// The last axis at `index`, whose last place is 0.
    fn line_mut(&mut self, index: [usize; N]) -> impl Iterator<Item = &mut T> {
        let line = line(self.shape, self.strides, index);
        // SAFETY: these are elements of the view, each another, and borrowed mutably.
        line.map(|offset| unsafe { &mut *self.first.add(offset) })
    }

    /// The last axis from `index` on, where it is contiguous.
    pub(crate) fn row_mut(&mut self, index: [usize; N]) -> Option<&mut [T]> {
        let (start, len) = row(self.shape, self.strides, index)?;
        // SAFETY: these are elements of the view, one behind the other, and borrowed mutably.
        Some(unsafe { core::slice::from_raw_parts_mut(self.first.add(start), len) })
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.first
    }
}

impl<T> ViewMut<'_, T, 2> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(mut self) -> Self {
        self.shape.swap(0, 1);
        self.strides.swap(0, 1);
        self
    }
}

impl<'a, T> From<ViewMut<'a, T, 2>> for ViewMut<'a, T, 4> {
    /// One batch, one head.
    fn from(m: ViewMut<'a, T, 2>) -> Self {
        let (shape, strides) = (with_ones(m.shape, 1), with_ones(m.strides, 0));
        ViewMut { first: m.first, shape, strides, elements: PhantomData }
    }
}

impl<T> ViewMut<'_, T, 4> {
    /// See [`View::heads_and_tokens_swapped`].
    pub fn heads_and_tokens_swapped(mut self) -> Self {
        self.shape.swap(1, 2);
        self.strides.swap(1, 2);
        self
    }
}

/// Copies `from` to `to`, of the same shape, rounded to its type.
pub(crate) fn copy<'f, 't, F: Number + 'f, T: Number + 't>(
    from: impl Into<TensorRef<'f, F>>,
    to: impl Into<TensorMut<'t, T>>,
) {
    let (mut from, mut to) = (from.into(), to.into());
    // Along the axis that is contiguous in both.
    if from.shape[2] > 1 && from.strides[2] == 1 && to.strides[2] == 1 {
        from.shape.swap(2, 3);
        from.strides.swap(2, 3);
        to.shape.swap(2, 3);
        to.strides.swap(2, 3);
    }
    let [batch, heads, tokens, _] = from.shape();
    // Without a number to copy the other sizes may be any.
    if from.shape().contains(&0) {
        return;
    }
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..tokens {
                let at = [b, h, t, 0];
                if let (Some(to), Some(from)) = (to.row_mut(at), from.row(at)) {
                    for (place, number) in to.iter_mut().zip(from) {
                        *place = T::from_f32(number.to_f32());
                    }
                    continue;
                }
                for (place, number) in to.line_mut(at).zip(from.line(at)) {
                    *place = T::from_f32(number.to_f32());
                }
            }
        }
    }
}
