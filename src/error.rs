//! The one error type: which argument, what was given, what was wanted.

use core::fmt;

use crate::isa::{Isa, Name};

/// An argument that an operation cannot take. No output was touched.
///
/// ```
/// use masktile::{MatMut, MatRef, Matmul};
/// let (a, b, mut c) = ([0.0; 6], [0.0; 8], [0.0; 4]);
/// let (a, b) = (MatRef::new(&a, [2, 3])?, MatRef::new(&b, [4, 2])?);
/// let error = Matmul::new(a, b).run(&mut MatMut::new(&mut c, [2, 2])?, &mut []).unwrap_err();
/// assert_eq!(error.to_string(), "`b`: rows: given 4, wanted 3");
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Error {
    argument: &'static str,
    kind: ErrorKind,
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A size does not fit the others.
    Size {
        /// Which size: rows, columns, batch, heads, ...
        what: &'static str,
        /// As given.
        given: usize,
        /// As wanted.
        wanted: usize,
    },
    /// A size must be a multiple of another.
    Multiple {
        /// Which size.
        what: &'static str,
        /// As given.
        given: usize,
        /// A number that should divide it.
        of: usize,
    },
    /// A slice is too short for what it should hold.
    TooShort {
        /// Its length.
        given: usize,
        /// The least length.
        wanted: usize,
    },
    /// A number is over its limit.
    TooLarge {
        /// Which number.
        what: &'static str,
        /// As given.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// A number that an operation cannot take.
    Number {
        /// Which number.
        what: &'static str,
        /// As given.
        given: f32,
        /// What it should be.
        wanted: &'static str,
    },
    /// A size that must not be 0.
    Zero {
        /// Which size.
        what: &'static str,
    },
    /// Numbers that must not fall, and do.
    Falls {
        /// Which numbers.
        what: &'static str,
        /// The place of the one that falls.
        index: usize,
        /// It.
        given: usize,
        /// The one before it.
        wanted: usize,
    },
    /// An option that has no meaning for this call.
    Misplaced {
        /// Where it belongs.
        wanted: &'static str,
    },
    /// What this build leaves out.
    Feature {
        /// The Cargo feature that has it.
        wanted: &'static str,
    },
    /// Memory that holds no packed matrix, or one of another version.
    NotPacked,
    /// A matrix packed for other instruction sets.
    PackedFor {
        /// Columns of a panel, as packed.
        given: usize,
        /// Columns of a panel that the instruction set reads.
        wanted: usize,
        /// The instruction set.
        isa: Isa,
    },
    /// Sizes and strides whose extent is no `usize`.
    Overflow,
    /// Two elements of an output would be the same number in memory.
    Overlap,
    /// No instruction set has that name.
    UnknownIsa(Name),
    /// The machine lacks that instruction set.
    UnavailableIsa(Name),
}

impl Error {
    pub(crate) fn new(argument: &'static str, kind: ErrorKind) -> Self {
        Error { argument, kind }
    }

    /// The name of the argument.
    pub fn argument(&self) -> &'static str {
        self.argument
    }

    /// What is wrong with it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// An error unless `given` is `wanted`.
pub(crate) fn same(
    argument: &'static str,
    what: &'static str,
    given: usize,
    wanted: usize,
) -> crate::Result<()> {
    if given == wanted {
        return Ok(());
    }
    Err(Error::new(argument, ErrorKind::Size { what, given, wanted }))
}

/// An error unless the sizes are those wanted; `axes` names them.
pub(crate) fn same_shape<const N: usize>(
    argument: &'static str,
    axes: [&'static str; N],
    given: [usize; N],
    wanted: [usize; N],
) -> crate::Result<()> {
    let sizes = given.into_iter().zip(wanted).zip(axes);
    sizes.into_iter().try_for_each(|((given, wanted), what)| same(argument, what, given, wanted))
}

/// An error if a slice of `given` is shorter than `wanted`.
pub(crate) fn long_enough(
    argument: &'static str,
    given: usize,
    wanted: usize,
) -> crate::Result<()> {
    if given >= wanted {
        return Ok(());
    }
    Err(Error::new(argument, ErrorKind::TooShort { given, wanted }))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.argument)?;
        match self.kind {
            ErrorKind::Size { what, given, wanted } => {
                write!(f, "{what}: given {given}, wanted {wanted}")
            }
            ErrorKind::Multiple { what, given, of } => {
                write!(f, "{what}: given {given}, wanted a multiple of {of}")
            }
            ErrorKind::TooShort { given, wanted } => {
                write!(f, "length: given {given}, wanted at least {wanted}")
            }
            ErrorKind::TooLarge { what, given, limit } => {
                write!(f, "{what}: given {given}, wanted at most {limit}")
            }
            ErrorKind::Number { what, given, wanted } => {
                write!(f, "{what}: given {given}, wanted {wanted}")
            }
            ErrorKind::Zero { what } => write!(f, "{what}: given 0, wanted at least 1"),
            ErrorKind::Falls { what, index, given, wanted } => {
                write!(f, "{what}: given {given} at index {index}, wanted at least {wanted}")
            }
            ErrorKind::Misplaced { wanted } => write!(f, "given here, wanted {wanted}"),
            ErrorKind::Feature { wanted } => {
                write!(f, "given what this build leaves out, wanted the feature `{wanted}`")
            }
            ErrorKind::NotPacked => {
                write!(f, "given memory that holds no packed matrix of this version, wanted one")
            }
            ErrorKind::PackedFor { given, wanted, isa } => {
                write!(
                    f,
                    "given panels of {given} columns, wanted {wanted}, which {isa} reads: pack for it"
                )
            }
            ErrorKind::Overflow => {
                write!(f, "extent: given sizes and strides over usize::MAX, wanted less")
            }
            ErrorKind::Overlap => {
                write!(f, "strides: given ones by which elements overlap, wanted distinct elements")
            }
            ErrorKind::UnknownIsa(name) => {
                write!(f, "given {name:?}, which is no instruction set, wanted ")?;
                list_available(f)
            }
            ErrorKind::UnavailableIsa(name) => {
                write!(f, "given {name:?}, which this machine lacks, wanted ")?;
                list_available(f)
            }
        }
    }
}

fn list_available(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("one of")?;
    for (i, isa) in crate::Isa::available().enumerate() {
        write!(f, "{} {isa}", if i > 0 { "," } else { "" })?;
    }
    Ok(())
}

impl core::error::Error for Error {}
