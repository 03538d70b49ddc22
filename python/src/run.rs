//! How an operation is run: its instruction set, its threads, its scratch memory.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use masktile::{Isa, Workspace};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::ThreadPool;

/// The instruction set that operations use: the one that MASKTILE_ISA names, else the best that
/// the machine has.
#[pyfunction]
pub fn isa() -> PyResult<&'static str> {
    masktile::isa::current().map(|isa| isa.name()).map_err(invalid)
}

/// The instruction sets of this machine, worst first.
#[pyfunction]
pub fn isas() -> Vec<&'static str> {
    Isa::available().map(|isa| isa.name()).collect()
}

/// An argument that masktile cannot take.
pub fn invalid(error: masktile::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub fn named(isa: Option<&str>) -> PyResult<Option<Isa>> {
    isa.map(masktile::isa::named).transpose().map_err(invalid)
}

/// Runs `operation` with this thread's scratch memory.
pub fn with_workspace<T>(operation: impl FnOnce(&mut Workspace) -> T) -> T {
    thread_local! {
        static KEPT: Cell<Workspace> = const { Cell::new(Workspace::new()) };
    }
    let mut workspace = KEPT.take();
    let result = operation(&mut workspace);
    KEPT.set(workspace);
    result
}

/// The pool of so many threads, or none for one.
pub fn pool(threads: usize) -> PyResult<Option<Arc<ThreadPool>>> {
    static POOLS: LazyLock<Mutex<HashMap<usize, Arc<ThreadPool>>>> = LazyLock::new(Mutex::default);
    match threads {
        0 => Err(PyValueError::new_err("`threads`: given 0, wanted at least 1")),
        1 => Ok(None),
        _ => {
            // A thread that panicked left no pool half made.
            let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pool) = pools.get(&threads) {
                return Ok(Some(pool.clone()));
            }
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = Arc::new(pool.map_err(|error| {
                PyRuntimeError::new_err(format!("`threads`: cannot start {threads}: {error}"))
            })?);
            pools.insert(threads, pool.clone());
            Ok(Some(pool))
        }
    }
}
