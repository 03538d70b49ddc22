//! The instruction sets: which there are, which the machine has, and the one dispatcher.
//!
//! A new one is a file here, a `Kind`, and an arm wherever the compiler then asks for it.
//!
//! An x86-64 target without SSE2 (`x86_64-unknown-none`) computes floats in software, and the
//! compiler cannot mix that with vector registers: it has scalar code alone.

use crate::simd::Op;
#[cfg(vectors)]
use crate::simd::Simd;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx512;
mod cache;
#[cfg(cortex_m_fpu)]
mod cortex_m;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod cpuid;
#[cfg_attr(not(vectors), allow(dead_code, reason = "for vectors"))]
pub(crate) mod int8;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm128;

pub(crate) use cache::Caches;
pub use int8::DotProduct;

/// Whether the target may have any instruction set beside scalar code: where it has none, scratch
/// memory need not be as large as their tiles.
pub(crate) const HAS_VECTORS: bool = cfg!(vectors);

/// An instruction set that this machine has: a value of this type is the proof.
///
/// ```
/// use masktile_kernels::Isa;
/// assert!(Isa::available().any(|isa| isa == Isa::detect()));
/// assert_eq!(Isa::from_name("scalar"), Some(Isa::SCALAR));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

/// The names that [`Isa::from_name`] knows, present or not. The order is that of [`Isa::available`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    Scalar,
    Wasm128,
    Neon,
    Avx2,
    Avx512,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Scalar, Kind::Wasm128, Kind::Neon, Kind::Avx2, Kind::Avx512];

    const fn name(self) -> &'static str {
        match self {
            Kind::Scalar => "scalar",
            Kind::Wasm128 => "wasm128",
            Kind::Neon => "neon",
            Kind::Avx2 => "avx2",
            Kind::Avx512 => "avx512",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Kind::Scalar => true,
            Kind::Wasm128 => {
                cfg!(all(target_arch = "wasm32", target_feature = "simd128"))
            }
            Kind::Neon => cfg!(all(target_arch = "aarch64", target_feature = "neon")),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Kind::Avx2 => cpuid::features().avx2,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Kind::Avx512 => cpuid::features().avx512,
            #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
            Kind::Avx2 | Kind::Avx512 => false,
        }
    }
}

impl Isa {
    /// Portable code, on every machine.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// The best that the machine has. x86 is asked by CPUID and XGETBV, with or without an
    /// operating system; NEON and WebAssembly's vectors are used where the target was compiled
    /// with them.
    pub fn detect() -> Isa {
        Isa::available().last().unwrap_or(Isa::SCALAR)
    }

    /// Those that the machine has, the plainest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Kind::ALL.into_iter().filter(|kind| kind.is_available()).map(Isa)
    }

    /// The names of every instruction set of this crate, on whatever machine.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        Kind::ALL.into_iter().map(Kind::name)
    }

    /// The available one of that name, as [`Isa::name`] writes it; none if the name is unknown
    /// or the machine lacks it.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::available().find(|isa| isa.name() == name)
    }

    /// `scalar`, `wasm128`, `neon`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }
}

impl core::fmt::Debug for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Evaluates `op` with the instruction set `isa`. A match and no table of functions, so that a
/// program holds the kernels that it calls and no others.
#[inline]
pub fn run<O: Op>(isa: Isa, op: O) -> O::Out {
    match isa.0 {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        // SAFETY: an `Isa` of this kind exists only where `is_available` said so.
        Kind::Avx512 => unsafe { avx512::Avx512::assume() }.run(op),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        // SAFETY: as above.
        Kind::Avx2 => unsafe { avx2::Avx2::assume() }.run(op),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Kind::Neon => neon::Neon::new().run(op),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Kind::Wasm128 => wasm128::Wasm128::new().run(op),
        _ => scalar::run(op),
    }
}
