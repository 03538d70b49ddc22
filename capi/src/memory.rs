//! The seam between C's pointers and Rust's slices: everything that is `unsafe` about memory.
//!
//! A call's `Memory` stands for the promise that C's caller makes in the header: each pointer is
//! null or leads to as many elements as are said to be there. All else is checked before a slice or
//! a view is made: null, alignment, lengths, and that no output lies in another operand. Outputs are
//! claimed first, so that each operand need be compared with them alone.

mod claims;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use crate::status::{Fault, Result, Status, caught};
use claims::{Claim, Claims};

/// Numbers to read; none where `data` is null and `len` 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice<T> {
    /// The first.
    pub data: *const T,
    /// How many the memory holds.
    pub len: usize,
}

/// Numbers to write; none where `data` is null and `len` 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SliceMut<T> {
    /// The first.
    pub data: *mut T,
    /// How many the memory holds.
    pub len: usize,
}

/// An operand in memory of yours: element `[b][h][i][j]` is
/// `data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
///
/// The axes are batch, heads, tokens and width, or batch, batch, rows and columns; a matrix has 1
/// and 1 in front. Strides count elements; one of 0 repeats an axis.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct View<T> {
    /// Element `[0][0][0][0]`.
    pub data: *const T,
    /// How many elements the memory holds from there on, whatever the strides: what they name
    /// beyond it is an error.
    pub len: usize,
    /// The sizes.
    pub shape: [usize; 4],
    /// The steps from one element to the next along each axis.
    pub strides: [usize; 4],
}

/// As `MasktileView`, to write to. No two elements are the same memory, and no other operand of a
/// call lies between its first and its last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ViewMut<T> {
    /// Element `[0][0][0][0]`.
    pub data: *mut T,
    /// How many elements the memory holds from there on, whatever the strides: what they name
    /// beyond it is an error.
    pub len: usize,
    /// The sizes.
    pub shape: [usize; 4],
    /// The steps from one element to the next along each axis.
    pub strides: [usize; 4],
}

impl<T> ViewMut<T> {
    /// The same to read.
    #[inline]
    pub(crate) fn to_read(&self) -> View<T> {
        View { data: self.data, len: self.len, shape: self.shape, strides: self.strides }
    }
}

impl<T> SliceMut<T> {
    /// The same to read.
    #[inline]
    pub(crate) fn to_read(&self) -> Slice<T> {
        Slice { data: self.data, len: self.len }
    }
}

impl<T> View<T> {
    /// The same memory as numbers of another type; [`Memory`] looks at their alignment.
    pub(crate) fn cast<U>(self) -> View<U> {
        View { data: self.data.cast(), len: self.len, shape: self.shape, strides: self.strides }
    }
}

/// A type of which all bits are a value.
///
/// # Safety
/// They are.
pub(crate) unsafe trait Plain: Copy {}
macro_rules! plain {
    ($($number:ty)*) => { $(
        // SAFETY: a number, or numbers in a `repr(C)` or transparent struct.
        unsafe impl Plain for $number {}
    )* };
}
// SAFETY: an address.
unsafe impl<T> Plain for *mut T {}
plain! { f32 u8 u32 i32 usize isize api::mask::f16 api::mask::bf16 }

/// A struct of arguments that grows from version to version.
///
/// # Safety
/// It is `repr(C)`, begins with its size as a `usize`, and all bits are a value of it: its fields
/// are numbers, pointers and optional pointers to functions.
pub(crate) unsafe trait Args: Copy {
    /// Bytes that every caller gives; of the others 0 is the default.
    const LEAST: usize;
}

/// A caller's pointer for their own functions, which get it on whatever thread runs them.
#[derive(Clone, Copy)]
pub(crate) struct User(pub *mut c_void);
// SAFETY: nothing here looks behind it; the header says that functions are called from any thread.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    /// The pointer. (A closure that names the field would capture it alone.)
    pub fn get(&self) -> *mut c_void {
        self.0
    }
}

/// The memory that C's caller lends to one call.
pub(crate) struct Memory<'a> {
    /// The struct of arguments that is read where it lies.
    args: Claim,
    /// What is written.
    written: Claims,
    /// Whether something else was lent to read: behind it nothing is lent to write.
    is_read: Cell<bool>,
    lent: PhantomData<&'a mut u8>,
}

/// Runs `f` with the caller's memory; an error or a panic in it becomes a status.
///
/// # Safety
/// Every pointer that `f` gives to [`Memory`] is null or, if aligned and inside the address space,
/// valid for as many elements as it is given with, until this returns; nobody else writes to what
/// is read meanwhile, nor reads or writes what is written.
#[inline]
pub(crate) unsafe fn call(f: impl for<'a> FnOnce(Memory<'a>) -> Result<()>) -> Status {
    caught(|| {
        f(Memory {
            args: Claim::NONE,
            written: Claims::NONE,
            is_read: Cell::new(false),
            lent: PhantomData,
        })
    })
}

impl<'a> Memory<'a> {
    /// The call's one struct of arguments, asked for before all else: where it lies or, if its
    /// caller's version of it lacks fields, a copy in `older` with their defaults. (A copy is what a
    /// small product notices, as is each call behind this that is not inlined: hence the attributes.)
    #[inline(always)]
    pub fn args<'r, A: Args>(
        &mut self,
        argument: &'static str,
        args: *const A,
        older: &'r mut Option<A>,
    ) -> Result<&'r A>
    where
        'a: 'r,
    {
        let size = self.size_of(argument, args)?;
        if size < size_of::<A>() {
            addresses::<u8>(argument, args.cast(), size)?;
            // SAFETY: the caller lends that many bytes, and nothing is lent to write yet.
            return Ok(older.insert(unsafe { whole(args, size) }));
        }
        let end = args.addr().saturating_add(size_of::<A>());
        self.args = Claim::new(argument, args.addr()..end);
        // SAFETY: the caller lends it whole, as its size says; it is neither null nor misaligned,
        // all bits are an `A`, and nothing is lent to write that has some of it.
        Ok(unsafe { &*args })
    }

    /// A copy of the struct, with defaults in what the caller's version of it lacks.
    pub fn copied<A: Args>(&self, argument: &'static str, args: *const A) -> Result<A> {
        let size = self.size_of(argument, args)?;
        self.apart(argument, &addresses::<u8>(argument, args.cast(), size)?)?;
        // SAFETY: the caller lends that many bytes, and no output has one of them.
        Ok(unsafe { whole(args, size) })
    }

    /// Copies of an array of structs, which all have the size of the first.
    pub fn array<A: Args>(
        &self,
        argument: &'static str,
        first: *const A,
        count: usize,
    ) -> Result<Vec<A>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = self.size_of(argument, first)?;
        // The whole array is somewhere in memory.
        addresses::<u8>(argument, first.cast(), count.saturating_mul(size))?;
        let each = (0..count).map(|i| {
            let place = first.cast::<u8>().wrapping_add(i * size).cast::<A>();
            let given = self.number(argument, place.cast())?;
            if given != size {
                let what = format_args!("size of element {i}: given {given}, wanted {size}");
                return Err(Fault::new(Status::StructSize, argument, what));
            }
            self.copied(argument, place)
        });
        each.collect()
    }

    /// A struct's own size, of those that this version knows.
    #[inline(always)]
    fn size_of<A: Args>(&self, argument: &'static str, args: *const A) -> Result<usize> {
        let (size, least, most) = (self.number(argument, args.cast())?, A::LEAST, size_of::<A>());
        if (least..=most).contains(&size) {
            return Ok(size);
        }
        Err(Fault::struct_size(argument, size, least, most))
    }

    /// One number.
    #[inline(always)]
    fn number(&self, argument: &'static str, place: *const usize) -> Result<usize> {
        self.apart(argument, &addresses(argument, place, 1)?)?;
        // SAFETY: the caller lends it, it is neither null nor misaligned, and no output has it.
        Ok(unsafe { place.read() })
    }

    /// Numbers to read.
    #[inline(always)]
    pub fn read<T: Plain>(&self, argument: &'static str, slice: Slice<T>) -> Result<&'a [T]> {
        if slice.len == 0 {
            return Ok(&[]);
        }
        self.lend(argument, slice.data, slice.len)?;
        // SAFETY: lent; they are less than isize::MAX bytes.
        Ok(unsafe { std::slice::from_raw_parts(slice.data, slice.len) })
    }

    /// Numbers to read, if there are any.
    #[inline(always)]
    pub fn read_if_given<T: Plain>(
        &self,
        argument: &'static str,
        slice: Slice<T>,
    ) -> Result<Option<&'a [T]>> {
        let is_given = !slice.data.is_null() || slice.len > 0;
        is_given.then(|| self.read(argument, slice)).transpose()
    }

    /// Numbers to write. Every one is asked for before the first [`Memory::read`].
    #[inline(always)]
    pub fn write<T: Plain>(
        &mut self,
        argument: &'static str,
        slice: SliceMut<T>,
    ) -> Result<&'a mut [T]> {
        if slice.len == 0 {
            return Ok(&mut []);
        }
        self.lend_mut(argument, slice.data, slice.len)?;
        // SAFETY: as above, to write.
        Ok(unsafe { std::slice::from_raw_parts_mut(slice.data, slice.len) })
    }

    /// Numbers to write, if there are any.
    #[inline]
    pub fn write_if_given<T: Plain>(
        &mut self,
        argument: &'static str,
        slice: SliceMut<T>,
    ) -> Result<Option<&'a mut [T]>> {
        let is_given = !slice.data.is_null() || slice.len > 0;
        is_given.then(|| self.write(argument, slice)).transpose()
    }

    /// One number to write.
    pub fn write_one<T: Plain>(
        &mut self,
        argument: &'static str,
        data: *mut T,
    ) -> Result<&'a mut T> {
        let place = self.write(argument, SliceMut { data, len: 1 })?;
        // A slice of one has a first.
        Ok(&mut place[0])
    }

    /// Four sizes.
    pub fn shape(&self, argument: &'static str, data: *const usize) -> Result<[usize; 4]> {
        let four = self.read(argument, Slice { data, len: 4 })?;
        Ok(std::array::from_fn(|axis| four[axis]))
    }

    /// A copy of a string that ends with a zero.
    pub fn text(&self, argument: &'static str, text: *const c_char) -> Result<String> {
        self.apart(argument, &addresses(argument, text, 1)?)?;
        // SAFETY: the caller lends it up to its zero, and it is not null.
        let text = unsafe { CStr::from_ptr(text) };
        Ok(text.to_string_lossy().into_owned())
    }

    /// An operand to read, of its last `N` axes: there is but one index before them.
    #[inline(always)]
    pub fn view<T: Plain, const N: usize>(
        &self,
        argument: &'static str,
        view: &View<T>,
    ) -> Result<api::View<'a, T, N>> {
        let (shape, strides) = last_axes(argument, &view.shape, &view.strides)?;
        if shape.contains(&0) {
            // SAFETY: it has no element.
            return Ok(unsafe {
                api::View::from_raw(NonNull::dangling().as_ptr(), shape, strides)
            });
        }
        self.lend(argument, view.data, needed(argument, view.len, shape, strides)?)?;
        // SAFETY: all from the first element to the last is lent.
        Ok(unsafe { api::View::from_raw(view.data, shape, strides) })
    }

    /// An operand to write, of its last `N` axes: there is but one index before them.
    #[inline(always)]
    pub fn view_mut<T: Plain, const N: usize>(
        &mut self,
        argument: &'static str,
        view: &ViewMut<T>,
    ) -> Result<api::ViewMut<'a, T, N>> {
        let (shape, strides) = last_axes(argument, &view.shape, &view.strides)?;
        let within = |error| Fault::within(argument, error);
        if shape.contains(&0) {
            let nothing = NonNull::dangling().as_ptr();
            // SAFETY: it has no element.
            return unsafe { api::ViewMut::from_raw(nothing, shape, strides) }.map_err(within);
        }
        self.lend_mut(argument, view.data, needed(argument, view.len, shape, strides)?)?;
        // SAFETY: as above, to write.
        unsafe { api::ViewMut::from_raw(view.data, shape, strides) }.map_err(within)
    }

    /// Lends elements to read as long as `'a`, which are then aligned, not null, and in nothing that
    /// is lent to write. There is one at least.
    #[inline(always)]
    fn lend<T>(&self, argument: &'static str, data: *const T, len: usize) -> Result<()> {
        self.apart(argument, &addresses(argument, data, len)?)?;
        self.is_read.set(true);
        Ok(())
    }

    /// Lends elements to write as long as `'a`, which are then aligned, not null, and in nothing else
    /// that is lent: they are claimed before anything is lent to read. There is one at least.
    #[inline(always)]
    fn lend_mut<T>(&mut self, argument: &'static str, data: *mut T, len: usize) -> Result<()> {
        let addresses = addresses(argument, data, len)?;
        self.apart(argument, &addresses)?;
        self.args.apart(argument, &addresses)?;
        assert!(!self.is_read.get(), "`{argument}` is lent to write behind what is lent to read");
        self.written.add(Claim::new(argument, addresses));
        Ok(())
    }

    /// An error if some of the addresses are written by another operand.
    #[inline(always)]
    pub fn apart(&self, argument: &'static str, addresses: &Range<usize>) -> Result<()> {
        self.written.apart(argument, addresses)
    }
}

/// A copy of a struct, with zeros behind its first `size` bytes.
///
/// # Safety
/// They are valid for reading, and no more than an `A` has.
#[inline(never)]
unsafe fn whole<A: Args>(args: *const A, size: usize) -> A {
    let mut whole = MaybeUninit::<A>::zeroed();
    // SAFETY: the caller's; all bits, zeros included, are an `A`.
    unsafe {
        std::ptr::copy_nonoverlapping(args.cast::<u8>(), whole.as_mut_ptr().cast::<u8>(), size);
        whole.assume_init()
    }
}

/// The last `N` of the axes; an error if there is more than one index before them.
#[inline(always)]
fn last_axes<const N: usize>(
    argument: &'static str,
    shape: &[usize; 4],
    strides: &[usize; 4],
) -> Result<([usize; N], [usize; N])> {
    let leading = 4 - N;
    for axis in 0..leading {
        if shape[axis] != 1 {
            return Err(Fault::leading_axes(argument, *shape));
        }
    }
    let last = |all: &[usize; 4]| std::array::from_fn(|axis| all[leading + axis]);
    Ok((last(shape), last(strides)))
}

/// How many elements there are from a view's first to its last, which its memory must hold.
pub(crate) fn spanned<T>(argument: &'static str, view: &View<T>) -> Result<usize> {
    needed(argument, view.len, view.shape, view.strides)
}

/// As [`spanned`], of some of the axes.
#[inline(always)]
fn needed<const N: usize>(
    argument: &'static str,
    len: usize,
    shape: [usize; N],
    strides: [usize; N],
) -> Result<usize> {
    let Some(wanted) = span(shape, strides) else {
        return Err(Fault::extent(argument));
    };
    long_enough(argument, len, wanted)?;
    Ok(wanted)
}

#[inline(always)]
fn span<const N: usize>(shape: [usize; N], strides: [usize; N]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = 0usize;
    for (size, stride) in shape.into_iter().zip(strides) {
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)
}

/// An error if `given` elements are fewer than `wanted`.
#[inline(always)]
pub(crate) fn long_enough(argument: &str, given: usize, wanted: usize) -> Result<()> {
    if given < wanted { Err(Fault::too_short(argument, given, wanted)) } else { Ok(()) }
}

/// The addresses of `len` elements, which may be memory: an error if not.
#[inline(always)]
pub(crate) fn addresses<T>(
    argument: &'static str,
    data: *const T,
    len: usize,
) -> Result<Range<usize>> {
    if len == 0 {
        return Ok(0..0);
    }
    if data.is_null() {
        return Err(Fault::null(argument, len));
    }
    let (start, wanted) = (data.addr(), align_of::<T>());
    if !start.is_multiple_of(wanted) {
        return Err(Fault::misaligned(argument, start, wanted));
    }
    if len <= isize::MAX as usize / size_of::<T>()
        && let Some(end) = start.checked_add(len * size_of::<T>())
    {
        return Ok(start..end);
    }
    Err(Fault::too_long(argument, len))
}

/// A contiguous operand of `batch` x `heads` x `tokens` x `width` elements.
pub(crate) fn contiguous([batch, heads, tokens, width]: [usize; 4]) -> (usize, [usize; 4]) {
    // A product that wraps saturates, and is then longer than any memory.
    let strides = [heads, tokens, width, 1];
    let mut stride = 1usize;
    let mut out = [0; 4];
    for (place, size) in out.iter_mut().rev().zip(strides.into_iter().rev()) {
        stride = stride.saturating_mul(size);
        *place = stride;
    }
    (stride.saturating_mul(batch), out)
}
