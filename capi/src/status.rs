//! Status codes, the text of the last error, and the wall that no panic passes.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use api::ErrorKind;

/// How a call ended. The numbers stay; later versions may add some.
///
/// With any but `MASKTILE_STATUS_OK` the outputs are as they were, but for
/// `MASKTILE_STATUS_PANIC`, behind which they may be written in part.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A size does not fit the others.
    Size = 1,
    /// A size is no multiple of another.
    Multiple = 2,
    /// Memory is too short for what it should hold.
    TooShort = 3,
    /// A number is over its limit.
    TooLarge = 4,
    /// A number that the operation cannot take, as a temperature of 0.
    Number = 5,
    /// A size that must not be 0.
    Zero = 6,
    /// Numbers that must not fall, and do.
    Falls = 7,
    /// An option that has no meaning for this call.
    Misplaced = 8,
    /// Memory that holds no packed matrix, or one of another version.
    NotPacked = 9,
    /// A matrix packed for other instruction sets.
    PackedFor = 10,
    /// Sizes and strides, or an address and a length, that no memory has.
    Overflow = 11,
    /// Elements of an output would be the same memory, or an output lies in another operand.
    Overlap = 12,
    /// No instruction set has that name or number.
    UnknownIsa = 13,
    /// The machine lacks that instruction set.
    UnavailableIsa = 14,
    /// A null pointer where memory is wanted.
    Null = 15,
    /// A pointer that is no multiple of its element's size.
    Misaligned = 16,
    /// A struct's `size` that this version does not know.
    StructSize = 17,
    /// A number that is no enumerator of its enum.
    Unknown = 18,
    /// A function of the caller's panicked, or the library has a defect.
    Panic = 19,
    /// An error that this version of the interface has no number for.
    Other = 20,
}

impl Status {
    /// All, in the order of their numbers.
    const ALL: [Status; 21] = [
        Status::Ok,
        Status::Size,
        Status::Multiple,
        Status::TooShort,
        Status::TooLarge,
        Status::Number,
        Status::Zero,
        Status::Falls,
        Status::Misplaced,
        Status::NotPacked,
        Status::PackedFor,
        Status::Overflow,
        Status::Overlap,
        Status::UnknownIsa,
        Status::UnavailableIsa,
        Status::Null,
        Status::Misaligned,
        Status::StructSize,
        Status::Unknown,
        Status::Panic,
        Status::Other,
    ];

    const fn message(self) -> &'static CStr {
        match self {
            Status::Ok => c"done",
            Status::Size => c"a size does not fit the others",
            Status::Multiple => c"a size is no multiple of another",
            Status::TooShort => c"memory is too short",
            Status::TooLarge => c"a number is over its limit",
            Status::Number => c"a number that the operation cannot take",
            Status::Zero => c"a size is 0",
            Status::Falls => c"numbers fall that must not",
            Status::Misplaced => c"an option has no meaning for this call",
            Status::NotPacked => c"memory holds no packed matrix",
            Status::PackedFor => c"a matrix is packed for other instruction sets",
            Status::Overflow => c"sizes and strides are beyond any memory",
            Status::Overlap => c"an output overlaps itself or another operand",
            Status::UnknownIsa => c"no such instruction set",
            Status::UnavailableIsa => c"the machine lacks the instruction set",
            Status::Null => c"a null pointer",
            Status::Misaligned => c"a misaligned pointer",
            Status::StructSize => c"a struct has a size that this version does not know",
            Status::Unknown => c"a number is none of its enum",
            Status::Panic => c"a function of the caller's panicked, or the library has a defect",
            Status::Other => c"another error",
        }
    }

    fn of(kind: ErrorKind) -> Status {
        match kind {
            ErrorKind::Size { .. } => Status::Size,
            ErrorKind::Multiple { .. } => Status::Multiple,
            ErrorKind::TooShort { .. } => Status::TooShort,
            ErrorKind::TooLarge { .. } => Status::TooLarge,
            ErrorKind::Number { .. } => Status::Number,
            ErrorKind::Zero { .. } => Status::Zero,
            ErrorKind::Falls { .. } => Status::Falls,
            ErrorKind::Misplaced { .. } => Status::Misplaced,
            ErrorKind::NotPacked => Status::NotPacked,
            ErrorKind::PackedFor { .. } => Status::PackedFor,
            ErrorKind::Overflow => Status::Overflow,
            ErrorKind::Overlap => Status::Overlap,
            ErrorKind::UnknownIsa(_) => Status::UnknownIsa,
            ErrorKind::UnavailableIsa(_) => Status::UnavailableIsa,
            _ => Status::Other,
        }
    }
}

/// Why a call fails: its status, and the text that names argument, given and wanted.
#[derive(Debug)]
pub(crate) struct Fault {
    status: Status,
    text: String,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Worded as the Rust API's errors are.
    #[cold]
    pub fn new(status: Status, argument: &str, what: impl Display) -> Self {
        Fault { status, text: format!("`{argument}`: {what}") }
    }

    /// An error about one operand's view or slice, which does not know the operand's name.
    #[cold]
    pub fn within(argument: &str, error: api::Error) -> Self {
        Fault { status: Status::of(error.kind()), text: format!("in `{argument}`: {error}") }
    }

    /// Memory that is shorter than it should be. As those below, apart from the checks: what is
    /// formatted must be in memory, and a good call should not pay for that.
    #[cold]
    #[inline(never)]
    pub fn too_short(argument: &str, given: usize, wanted: usize) -> Self {
        let what = format_args!("length: given {given}, wanted at least {wanted}");
        Fault::new(Status::TooShort, argument, what)
    }

    /// A null pointer where elements are wanted.
    #[cold]
    #[inline(never)]
    pub fn null(argument: &str, wanted: usize) -> Self {
        let what = format_args!("given a null pointer, wanted {wanted} elements");
        Fault::new(Status::Null, argument, what)
    }

    /// An address that is no multiple of its elements' alignment.
    #[cold]
    #[inline(never)]
    pub fn misaligned(argument: &str, given: usize, wanted: usize) -> Self {
        let what = format_args!("address: given {given:#x}, wanted a multiple of {wanted}");
        Fault::new(Status::Misaligned, argument, what)
    }

    /// An address and a length that no memory has.
    #[cold]
    #[inline(never)]
    pub fn too_long(argument: &str, given: usize) -> Self {
        let what = format_args!("length: given {given} elements, wanted what memory can hold");
        Fault::new(Status::Overflow, argument, what)
    }

    /// Sizes and strides that no memory has.
    #[cold]
    #[inline(never)]
    pub fn extent(argument: &str) -> Self {
        let what = "extent: given sizes and strides over usize::MAX, wanted less";
        Fault::new(Status::Overflow, argument, what)
    }

    /// An operand that lies in another.
    #[cold]
    #[inline(never)]
    pub fn overlap(argument: &str, other: &str) -> Self {
        let what = format_args!("given memory of `{other}`, wanted memory of its own");
        Fault::new(Status::Overlap, argument, what)
    }

    /// More than one index of the axes before a matrix's.
    #[cold]
    #[inline(never)]
    pub fn leading_axes(argument: &str, given: [usize; 4]) -> Self {
        let [a, b, ..] = given;
        let what = format_args!("leading axes: given {a} x {b}, wanted 1 x 1");
        Fault::new(Status::Size, argument, what)
    }

    /// A struct of a size that this version does not know.
    #[cold]
    #[inline(never)]
    pub fn struct_size(argument: &str, given: usize, least: usize, most: usize) -> Self {
        let what = format_args!("size: given {given}, wanted {least} to {most}");
        Fault::new(Status::StructSize, argument, what)
    }

    #[cold]
    pub fn misplaced(argument: &str, wanted: &str) -> Self {
        Fault::new(Status::Misplaced, argument, format_args!("given here, wanted {wanted}"))
    }

    /// Keeps the text for `masktile_last_error`.
    fn keep(self) -> Status {
        let text = CString::new(self.text).unwrap_or_default();
        // A thread that is being torn down has no last error any more.
        let _ = LAST.try_with(|last| last.replace(text));
        self.status
    }
}

impl From<api::Error> for Fault {
    #[cold]
    fn from(error: api::Error) -> Self {
        Fault { status: Status::of(error.kind()), text: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs `f`; a panic in it becomes a status.
pub(crate) fn caught(f: impl FnOnce() -> Result<()>) -> Status {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(fault)) => fault.keep(),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Fault { status: Status::Panic, text: format!("panic: {}", text.unwrap_or("?")) }.keep()
        }
    }
}

/// What `status` means, in English, for any number. Lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_status_message(status: u32) -> *const c_char {
    let known = usize::try_from(status).ok().and_then(|status| Status::ALL.get(status));
    known.map_or(c"an unknown status", |status| status.message()).as_ptr()
}

/// The text of the last call that failed on this thread: which argument, what was given, what was
/// wanted. Empty if none failed. Lives until the next call that fails on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_messages_belong_together() {
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
        }
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(caught(|| panic!("with {}", "a text")), Status::Panic);
        let text = LAST.with_borrow(|last| last.clone().into_string().unwrap());
        assert_eq!(text, "panic: with a text");
        assert_eq!(caught(|| std::panic::panic_any(7)), Status::Panic);
    }
}
