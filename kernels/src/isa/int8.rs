//! The contract between an instruction set and the products of bytes, and which instructions of
//! that sort the machine has.
//!
//! Sums of integers are the same in any order, so instruction sets may multiply as they like: what
//! is common to them is the order of bytes in memory, four numbers of the depth for each column.

use super::Isa;
#[cfg(vectors)]
use super::Kind;
use crate::simd::Simd;

/// The instructions by which an instruction set multiplies bytes. The results are the same; some
/// are faster. A value of this type is the proof that the machine has them.
///
/// ```
/// use masktile_kernels::{DotProduct, Isa};
/// let isa = Isa::detect();
/// assert_eq!(DotProduct::available(isa).next(), Some(DotProduct::PLAIN));
/// println!("{isa} multiplies bytes by {}", DotProduct::best(isa));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DotProduct(Dot);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Dot {
    Plain,
    AvxVnni,
    Avx512Vnni,
    Dotprod,
}

impl Dot {
    const ALL: [Dot; 4] = [Dot::Plain, Dot::AvxVnni, Dot::Avx512Vnni, Dot::Dotprod];

    fn is_available(self, isa: Isa) -> bool {
        match (self, isa.0) {
            (Dot::Plain, _) => true,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            (Dot::AvxVnni, Kind::Avx2) => super::cpuid::features().avx_vnni,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            (Dot::Avx512Vnni, Kind::Avx512) => super::cpuid::features().avx512_vnni,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            (Dot::Dotprod, Kind::Neon) => super::neon::has_dotprod(),
            _ => false,
        }
    }
}

impl DotProduct {
    /// Multiplications of 16 bits: every machine has them.
    pub const PLAIN: DotProduct = DotProduct(Dot::Plain);

    /// The fastest that the machine has beside `isa`.
    pub fn best(isa: Isa) -> DotProduct {
        DotProduct::available(isa).last().unwrap_or(DotProduct::PLAIN)
    }

    /// Those that the machine has beside `isa`, [`DotProduct::PLAIN`] first.
    pub fn available(isa: Isa) -> impl Iterator<Item = DotProduct> {
        Dot::ALL.into_iter().filter(move |dot| dot.is_available(isa)).map(DotProduct)
    }

    /// `plain`, `avxvnni`, `avx512vnni` or `dotprod`, as compilers call the feature.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Dot::Plain => "plain",
            Dot::AvxVnni => "avxvnni",
            Dot::Avx512Vnni => "avx512vnni",
            Dot::Dotprod => "dotprod",
        }
    }
}

impl core::fmt::Debug for DotProduct {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for DotProduct {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// How the left-hand bytes are held for the multiplication.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "no target has instructions of every sort")]
pub(crate) enum Left {
    /// As 16 bits, their zero point subtracted.
    Wide,
    /// As u8.
    Unsigned,
    /// As i8.
    Signed,
}

/// An operation on bytes, generic over the instructions.
pub(crate) trait Int8Op {
    /// What it returns.
    type Out;
    /// The body, `#[inline(always)]` as that of [`crate::Op`].
    fn eval<S: Int8>(self, s: S) -> Self::Out;
}

/// Products of bytes on vectors of 16 columns. A value exists only where the machine has the
/// instructions, so arithmetic is safe; loads and stores trust their pointers.
pub(crate) trait Int8: Copy + 'static {
    /// The instruction set that these instructions come beside.
    type Base: Simd;
    /// Four numbers of a row.
    type Group: Copy;
    /// The same in every lane.
    type Row: Copy;
    /// Four numbers of each of 16 columns.
    type Columns: Copy;
    /// 16 sums.
    type Sums: Copy;
    /// How a [`Int8::Group`] holds its numbers.
    const LEFT: Left;
    /// Rows of the register tile, at most 16.
    const MR: usize;
    /// Vectors in a row of the register tile: 1 or 2.
    const NV: usize;

    /// The instruction set.
    fn base(self) -> Self::Base;
    /// Four bytes of a row, i8 or u8 as [`Int8::LEFT`] says (for [`Left::Wide`] i8); `zero` is
    /// subtracted from them only there.
    fn group(self, bytes: [u8; 4], zero: i16) -> Self::Group;
    /// The numbers in every lane.
    fn row(self, group: Self::Group) -> Self::Row;
    /// The columns at `p`, of any alignment: 4 bytes of the first, of the second, and so on.
    ///
    /// # Safety
    /// `p` is valid for reading 16 words.
    unsafe fn columns(self, p: *const u32) -> Self::Columns;
    /// No sums.
    fn zero(self) -> Self::Sums;
    /// Adds the four products of each column, exactly modulo 2^32.
    fn dot(self, sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums;
    /// Writes the sums to `p`, or adds them to what is there, modulo 2^32.
    ///
    /// # Safety
    /// `p` is valid for writing and, with `add`, reading 16 numbers.
    unsafe fn store(self, p: *mut i32, sums: Self::Sums, add: bool);
    /// Four rows of 16 bytes as 16 columns of 4.
    #[inline(always)]
    fn interleave(self, rows: [[u8; 16]; 4]) -> [[u8; 4]; 16] {
        core::array::from_fn(
            #[inline(always)]
            |j| [rows[0][j], rows[1][j], rows[2][j], rows[3][j]],
        )
    }

    /// Runs `op` with the target features enabled.
    fn run<O: Int8Op>(self, op: O) -> O::Out;
}

/// Evaluates `op` by these instructions of `isa`; gives it back where there are no vectors.
#[inline]
pub(crate) fn run<O: Int8Op>(isa: Isa, dot: DotProduct, op: O) -> Result<O::Out, O> {
    match (isa.0, dot.0) {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        (Kind::Avx512, Dot::Avx512Vnni) => {
            // SAFETY: values of both kinds exist only where `is_available` said so.
            Ok(unsafe { super::avx512::int8::Vnni::assume() }.run(op))
        }
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        (Kind::Avx2, Dot::AvxVnni) => {
            // SAFETY: as above.
            Ok(unsafe { super::avx2::int8::Vnni::assume() }.run(op))
        }
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        // SAFETY: as above.
        (Kind::Avx512, _) => Ok(Int8::run(unsafe { super::avx512::Avx512::assume() }, op)),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        // SAFETY: as above.
        (Kind::Avx2, _) => Ok(Int8::run(unsafe { super::avx2::Avx2::assume() }, op)),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        (Kind::Neon, Dot::Dotprod) => {
            // SAFETY: as above.
            Ok(unsafe { super::neon::int8::Dotprod::assume() }.run(op))
        }
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        (Kind::Neon, _) => Ok(Int8::run(super::neon::Neon::new(), op)),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        (Kind::Wasm128, _) => Ok(Int8::run(super::wasm128::Wasm128::new(), op)),
        _ => Err(op),
    }
}
