//! The peers behind the C interface of BLAS, loaded when the program runs.
//!
//! Builds of OpenBLAS differ in the names of their functions and in the width of their integers,
//! which the suffix `64_` tells.

use std::ffi::{OsStr, c_int};
use std::path::Path;

use anyhow::{Context, Result};
use libloading::Library;

use super::Product;
use crate::matmul::{Problem, Shape};

/// A library, where its path comes from and how its functions may be called.
pub struct Blas {
    pub name: &'static str,
    pub variable: &'static str,
    builds: &'static [Build],
}

/// Names of functions; those of `one` are called with 1 before any product.
struct Build {
    sgemm: &'static str,
    one: &'static [&'static str],
    wide: bool,
}

pub const LIBRARIES: [Blas; 2] = [
    Blas {
        name: "openblas",
        variable: "MASKTILE_OPENBLAS",
        builds: &[
            Build { sgemm: "cblas_sgemm", one: &["openblas_set_num_threads"], wide: false },
            Build { sgemm: "cblas_sgemm64_", one: &["openblas_set_num_threads64_"], wide: true },
            Build {
                sgemm: "scipy_cblas_sgemm",
                one: &["scipy_openblas_set_num_threads"],
                wide: false,
            },
            Build {
                sgemm: "scipy_cblas_sgemm64_",
                one: &["scipy_openblas_set_num_threads64_"],
                wide: true,
            },
        ],
    },
    Blas {
        name: "mkl",
        variable: "MASKTILE_MKL",
        // Layer 1 is the sequential one.
        builds: &[Build {
            sgemm: "cblas_sgemm",
            one: &["MKL_Set_Threading_Layer", "MKL_Set_Num_Threads"],
            wide: false,
        }],
    },
];

/// `cblas_sgemm` with integers I.
type Cblas<I> = unsafe extern "C" fn(
    order: c_int,
    transpose_a: c_int,
    transpose_b: c_int,
    m: I,
    n: I,
    k: I,
    alpha: f32,
    a: *const f32,
    lda: I,
    b: *const f32,
    ldb: I,
    beta: f32,
    c: *mut f32,
    ldc: I,
);

const ROW_MAJOR: c_int = 101;
const NO_TRANSPOSE: c_int = 111;
const TRANSPOSE: c_int = 112;

enum Sgemm {
    Narrow(Cblas<i32>),
    Wide(Cblas<i64>),
}

/// A loaded library.
pub struct Loaded {
    name: &'static str,
    sgemm: Sgemm,
}

impl Blas {
    /// Loads the library at `path` and sets it to one thread. It stays loaded until the process
    /// ends, for it may have threads.
    pub fn open(&self, path: &OsStr) -> Result<Loaded> {
        let named = || format!("{}={}", self.variable, Path::new(path).display());
        // SAFETY: the user vouches for the library, whose initialisers run here.
        let library = unsafe { Library::new(path) }.with_context(named)?;
        let library: &'static Library = Box::leak(Box::new(library));
        let loaded = self.builds.iter().find_map(|build| build.functions(library));
        let sgemm = loaded.with_context(|| format!("{}: no known cblas_sgemm", named()))?;
        Ok(Loaded { name: self.name, sgemm })
    }
}

impl Build {
    /// Its product, after the library was set to one thread; none if it is of another build.
    fn functions(&self, library: &'static Library) -> Option<Sgemm> {
        let one = self.one.iter().map(|name| {
            // SAFETY: each of these takes an int, and what it returns, if anything, is ignored.
            unsafe { library.get::<unsafe extern "C" fn(c_int)>(*name) }.ok()
        });
        let one = one.collect::<Option<Vec<_>>>()?;
        // SAFETY: the name tells the signature.
        let sgemm = unsafe {
            if self.wide {
                Sgemm::Wide(*library.get(self.sgemm).ok()?)
            } else {
                Sgemm::Narrow(*library.get(self.sgemm).ok()?)
            }
        };
        for set in one {
            // SAFETY: as above.
            unsafe { set(1) };
        }
        Some(sgemm)
    }
}

impl Product for Loaded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        match self.sgemm {
            Sgemm::Narrow(sgemm) => call(sgemm, problem, c),
            Sgemm::Wide(sgemm) => call(sgemm, problem, c),
        }
    }
}

#[rustfmt::skip]
fn call<I>(sgemm: Cblas<I>, problem: &Problem, c: &mut [f32]) -> Result<()>
where
    I: TryFrom<usize, Error = std::num::TryFromIntError>,
{
    let Shape { m, k, n, transposed } = problem.shape;
    let (transpose_b, ldb) = if transposed { (TRANSPOSE, k) } else { (NO_TRANSPOSE, n) };
    let (a, b, c) = (problem.a.as_ptr(), problem.b.as_ptr(), c.as_mut_ptr());
    let int = I::try_from;
    // SAFETY: the operands hold m x k and k x n floats of these leading dimensions, C m x n.
    unsafe {
        sgemm(
            ROW_MAJOR, NO_TRANSPOSE, transpose_b,
            int(m)?, int(n)?, int(k)?,
            1.0, a, int(k)?, b, int(ldb)?, 0.0, c, int(n)?,
        );
    }
    Ok(())
}
