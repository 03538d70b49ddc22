//! The C ABI of masktile: `libmasktile` and `masktile.h`.
//!
//! Each function translates its arguments into the Rust API (here called `api`), which checks
//! them. What C adds is checked in `memory`: pointers, lengths, and operands that overlap. Every
//! struct of arguments begins with its size as its caller compiled it, and all its zeros are
//! defaults, so that it can grow. No panic leaves a function: see `status`.
//!
//! `include/masktile.h` is generated from these files, and its documentation is theirs:
//! `MASKTILE_WRITE_HEADER=1 cargo test --test header` writes it anew.

pub mod attention;
pub mod cache;
pub mod decoder;
pub mod isa;
pub mod mask;
pub mod matmul;
pub mod memory;
pub mod optional;
pub mod packed;
pub mod softmax;
pub mod status;
pub mod version;
pub mod view;
