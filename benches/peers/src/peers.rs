//! The peers: an adapter for each, all behind [`Product`], all on the calling thread.

mod blas;
mod crates;

use anyhow::Result;
use masktile::Isa;

use crate::matmul::Problem;

/// An implementation of the f32 product.
pub trait Product {
    fn name(&self) -> &'static str;

    /// The instruction set, of those that choose none by themselves.
    fn isa(&self) -> Option<Isa> {
        None
    }

    /// `C = A B`, C in row-major order; reads nothing from `c`.
    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()>;
}

/// All crates, and the libraries that the environment names.
pub fn all() -> Result<Vec<Box<dyn Product>>> {
    let mut peers = crates::all();
    for library in blas::LIBRARIES {
        match std::env::var_os(library.variable) {
            Some(path) => peers.push(Box::new(library.open(&path)?)),
            None => println!("{} left out: {} is not set", library.name, library.variable),
        }
    }
    Ok(peers)
}
