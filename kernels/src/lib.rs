//! Kernels of `masktile`: f32 matrix product, masked softmax and attention, without `std`,
//! without an allocator and without a panic path.
//!
//! Most users want the crate `masktile`, which checks shapes and calls these functions.
//!
//! * One generic body per operation: [`gemm`], [`softmax`], [`attention`]; functions of one vector
//!   in [`exp`] and [`activation`].
//! * One file per instruction set under `isa/`, each a type that implements [`Simd`].
//! * [`run`] chooses the instruction set once per call.
//!
//! # The order of every sum
//!
//! Results are the same bits on every instruction set, for every thread count and every batch,
//! because each sum has one order that no path may leave:
//!
//! * **Matrix product.** `C[i, j]` is one chain of fused multiply-adds over `k` in order, which
//!   starts at `beta C[i, j]` (or zero): `c = fma(alpha a[i, p], b[p, j], c)`. The bias is added last.
//! * **Softmax.** Column `j` belongs to lane `j mod 16`. A lane adds its columns in order within
//!   a block of 1024 columns, then its blocks in order; [`Simd::sum`] adds the 16 lanes by one tree.
//!   Columns that are masked add nothing.
//! * **Attention.** A score is a product's chain over `head_dim`. Keys are taken in blocks of
//!   [`attention::KEY_BLOCK`] from the first key on. Each block by itself gives a maximum, a sum
//!   (as softmax) and a weighted value (one chain over the block's kept keys); blocks are merged
//!   from the first to the last. Nothing else enters, so a row does not know which other rows,
//!   heads or batches are computed beside it, or by how many threads.
#![no_std]

#[cfg(all(feature = "std", target_arch = "aarch64"))]
extern crate std;

pub mod activation;
pub mod attention;
pub mod exp;
pub mod fixed;
pub mod gemm;
pub mod int8;
pub mod isa;
pub mod mask;
mod number;
mod row;
pub mod score;
mod simd;
pub mod softmax;

pub use isa::{DotProduct, Isa, run};
pub use number::{Dtype, Number, Numbers, NumbersMut};
pub use simd::{LANES, Op, Simd};
