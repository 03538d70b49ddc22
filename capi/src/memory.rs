//! The seam between C's pointers and Rust's slices: everything that is `unsafe` about memory.
//!
//! A call's [`Memory`] stands for the promise that C's caller makes in the header: each pointer is
//! null or leads to as many elements as are said to be there. All else is checked before a slice is
//! made: null, alignment, lengths, and that no output lies in another operand. Outputs are claimed
//! first, so that each operand need be compared with them alone.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::status::{Fault, Result, Status, caught};

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
    pub(crate) fn to_read(&self) -> View<T> {
        View { data: self.data, len: self.len, shape: self.shape, strides: self.strides }
    }
}

impl<T> SliceMut<T> {
    /// The same to read.
    pub(crate) fn to_read(&self) -> Slice<T> {
        Slice { data: self.data, len: self.len }
    }
}

impl<T> View<T> {
    /// The same memory as numbers of another type; [`Memory`] looks at their alignment.
    pub(crate) fn cast<U>(self) -> View<U> {
        View { data: self.data.cast(), len: self.len, shape: self.shape, strides: self.strides }
    }

    /// Rows and columns, for an operand that is a matrix.
    pub(crate) fn matrix(&self, argument: &str) -> Result<()> {
        match self.shape {
            [1, 1, ..] => Ok(()),
            [a, b, ..] => Err(Fault::new(
                Status::Size,
                argument,
                format_args!("leading axes: given {a} x {b}, wanted 1 x 1"),
            )),
        }
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

/// A writing operand's name and its addresses.
type Claim = (&'static str, Range<usize>);

/// The memory that C's caller lends to one call.
pub(crate) struct Memory<'a> {
    claims: [Claim; 8],
    count: usize,
    /// Whether something was lent to read, behind which nothing is lent to write.
    is_read: Cell<bool>,
    lent: PhantomData<&'a mut u8>,
}

/// Runs `f` with the caller's memory; an error or a panic in it becomes a status.
///
/// # Safety
/// Every pointer that `f` gives to [`Memory`] is null or, if aligned and inside the address space,
/// valid for as many elements as it is given with, until this returns; nobody else writes to what
/// is read meanwhile, nor reads or writes what is written.
pub(crate) unsafe fn call(f: impl for<'a> FnOnce(&mut Memory<'a>) -> Result<()>) -> Status {
    let mut memory = Memory {
        claims: [const { ("", 0..0) }; 8],
        count: 0,
        is_read: Cell::new(false),
        lent: PhantomData,
    };
    caught(|| f(&mut memory))
}

impl<'a> Memory<'a> {
    /// A copy of the struct, with defaults in what the caller's version of it lacks.
    pub fn args<A: Args>(&self, argument: &'static str, args: *const A) -> Result<A> {
        let size = self.size_of(argument, args)?;
        let bytes = addresses::<u8>(argument, args.cast(), size)?;
        self.apart(argument, &bytes)?;
        let mut whole = MaybeUninit::<A>::zeroed();
        // SAFETY: the caller lends `size` bytes, which `whole` has at least and no output has; all
        // bits, zeros included, are an `A`.
        unsafe {
            std::ptr::copy_nonoverlapping(args.cast::<u8>(), whole.as_mut_ptr().cast::<u8>(), size);
            Ok(whole.assume_init())
        }
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
            self.args(argument, place)
        });
        each.collect()
    }

    /// A struct's own size, of those that this version knows.
    fn size_of<A: Args>(&self, argument: &'static str, args: *const A) -> Result<usize> {
        let (size, least, most) = (self.number(argument, args.cast())?, A::LEAST, size_of::<A>());
        if (least..=most).contains(&size) {
            return Ok(size);
        }
        let what = format_args!("size: given {size}, wanted {least} to {most}");
        Err(Fault::new(Status::StructSize, argument, what))
    }

    /// One number.
    fn number(&self, argument: &'static str, place: *const usize) -> Result<usize> {
        self.apart(argument, &addresses(argument, place, 1)?)?;
        // SAFETY: the caller lends it, it is neither null nor misaligned, and no output has it.
        Ok(unsafe { place.read() })
    }

    /// Numbers to read.
    pub fn read<T: Plain>(&self, argument: &'static str, slice: Slice<T>) -> Result<&'a [T]> {
        self.lend(argument, slice.data, slice.len)
    }

    /// Numbers to read, if there are any.
    pub fn read_if_given<T: Plain>(
        &self,
        argument: &'static str,
        slice: Slice<T>,
    ) -> Result<Option<&'a [T]>> {
        let is_given = !slice.data.is_null() || slice.len > 0;
        is_given.then(|| self.read(argument, slice)).transpose()
    }

    /// Numbers to write. Every one is asked for before the first [`Memory::read`].
    pub fn write<T: Plain>(
        &mut self,
        argument: &'static str,
        slice: SliceMut<T>,
    ) -> Result<&'a mut [T]> {
        self.lend_mut(argument, slice.data, slice.len)
    }

    /// Numbers to write, if there are any.
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

    /// An operand to read.
    pub fn view<T: Plain>(
        &self,
        argument: &'static str,
        view: View<T>,
    ) -> Result<api::View<'a, T, 4>> {
        let data = self.lend(argument, view.data, spanned(argument, &view)?)?;
        api::View::with_strides(data, view.shape, view.strides)
            .map_err(|error| Fault::within(argument, error))
    }

    /// An operand to read that is a matrix.
    pub fn matrix<T: Plain>(
        &self,
        argument: &'static str,
        view: View<T>,
    ) -> Result<api::MatRef<'a, T>> {
        view.matrix(argument)?;
        let data = self.lend(argument, view.data, spanned(argument, &view)?)?;
        let ([.., rows, columns], [.., row, column]) = (view.shape, view.strides);
        api::MatRef::with_strides(data, [rows, columns], [row, column])
            .map_err(|error| Fault::within(argument, error))
    }

    /// An operand to write.
    pub fn view_mut<T: Plain>(
        &mut self,
        argument: &'static str,
        view: ViewMut<T>,
    ) -> Result<api::ViewMut<'a, T, 4>> {
        let data = self.lend_mut(argument, view.data, spanned(argument, &view.to_read())?)?;
        api::ViewMut::with_strides(data, view.shape, view.strides)
            .map_err(|error| Fault::within(argument, error))
    }

    /// An operand to write that is a matrix.
    pub fn matrix_mut<T: Plain>(
        &mut self,
        argument: &'static str,
        view: ViewMut<T>,
    ) -> Result<api::MatMut<'a, T>> {
        view.to_read().matrix(argument)?;
        let data = self.lend_mut(argument, view.data, spanned(argument, &view.to_read())?)?;
        let ([.., rows, columns], [.., row, column]) = (view.shape, view.strides);
        api::MatMut::with_strides(data, [rows, columns], [row, column])
            .map_err(|error| Fault::within(argument, error))
    }

    fn lend<T: Plain>(
        &self,
        argument: &'static str,
        data: *const T,
        len: usize,
    ) -> Result<&'a [T]> {
        let addresses = addresses(argument, data, len)?;
        if addresses.is_empty() {
            return Ok(&[]);
        }
        self.apart(argument, &addresses)?;
        self.is_read.set(true);
        // SAFETY: the caller lends so many elements; `data` is aligned and not null, they are less
        // than isize::MAX bytes, and none is in what was lent to write.
        Ok(unsafe { std::slice::from_raw_parts(data, len) })
    }

    fn lend_mut<T: Plain>(
        &mut self,
        argument: &'static str,
        data: *mut T,
        len: usize,
    ) -> Result<&'a mut [T]> {
        let addresses = addresses(argument, data, len)?;
        if addresses.is_empty() {
            return Ok(&mut []);
        }
        self.apart(argument, &addresses)?;
        assert!(!self.is_read.get(), "`{argument}` is lent to write behind what is lent to read");
        self.claims[self.count] = (argument, addresses);
        self.count += 1;
        // SAFETY: as in `lend`; besides, nothing that is lent later is in it, for it is claimed,
        // and nothing to read was lent before, as asserted.
        Ok(unsafe { std::slice::from_raw_parts_mut(data, len) })
    }

    /// An error if some of the addresses are written by another operand.
    pub fn apart(&self, argument: &'static str, addresses: &Range<usize>) -> Result<()> {
        for (other, claimed) in &self.claims[..self.count] {
            if addresses.start < claimed.end && claimed.start < addresses.end {
                let what = format_args!("given memory of `{other}`, wanted memory of its own");
                return Err(Fault::new(Status::Overlap, argument, what));
            }
        }
        Ok(())
    }
}

/// How many elements there are from a view's first to its last, which its memory must hold.
pub(crate) fn spanned<T>(argument: &'static str, view: &View<T>) -> Result<usize> {
    // The Rust API says how many a view needs that has none.
    let needed = match api::View::<T, 4>::with_strides(&[], view.shape, view.strides) {
        Ok(_) => 0,
        Err(error) => match error.kind() {
            api::ErrorKind::TooShort { wanted, .. } => wanted,
            _ => return Err(Fault::within(argument, error)),
        },
    };
    long_enough(argument, view.len, needed)?;
    Ok(needed)
}

/// An error if `given` elements are fewer than `wanted`.
pub(crate) fn long_enough(argument: &str, given: usize, wanted: usize) -> Result<()> {
    if given >= wanted {
        return Ok(());
    }
    let what = format_args!("length: given {given}, wanted at least {wanted}");
    Err(Fault::new(Status::TooShort, argument, what))
}

/// The addresses of `len` elements, which may be memory: an error if not.
pub(crate) fn addresses<T>(
    argument: &'static str,
    data: *const T,
    len: usize,
) -> Result<Range<usize>> {
    if len == 0 {
        return Ok(0..0);
    }
    if data.is_null() {
        let what = format_args!("given a null pointer, wanted {len} elements");
        return Err(Fault::new(Status::Null, argument, what));
    }
    let (start, wanted) = (data.addr(), align_of::<T>());
    if !start.is_multiple_of(wanted) {
        let what = format_args!("address: given {start:#x}, wanted a multiple of {wanted}");
        return Err(Fault::new(Status::Misaligned, argument, what));
    }
    let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
    let end = bytes.and_then(|bytes| start.checked_add(bytes));
    end.map(|end| start..end).ok_or_else(|| {
        let what = format_args!("length: given {len} elements, wanted what memory can hold");
        Fault::new(Status::Overflow, argument, what)
    })
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
