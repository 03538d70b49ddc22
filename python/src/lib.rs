//! The Python module `masktile`: NumPy arrays in and out, without copies.
//!
//! | file | what |
//! | --- | --- |
//! | `attention`, `softmax`, `matmul` | the operations |
//! | `arrays` | arrays of NumPy as views: type, axes, strides, overlap |
//! | `masks` | masks that own what they say, and what they become for a call |
//! | `classes` | the mask classes of Python |
//! | `run` | instruction sets, threads, scratch memory |

mod arrays;
mod attention;
mod classes;
mod masks;
mod matmul;
mod run;
mod softmax;

use pyo3::prelude::*;

/// CPU kernels for transformer decoders on NumPy arrays: matmul, masked softmax and attention, the
/// same bits on every instruction set.
#[pymodule]
mod masktile {
    #[pymodule_export]
    use super::attention::attention;
    #[pymodule_export]
    use super::classes::{
        Alibi, Bias, BitMask, BlockMask, BoolMask, Causal, KeyLengths, KeyRanges, Mask, Offset,
        PrefixLm, Segments, Window,
    };
    #[pymodule_export]
    use super::matmul::matmul;
    #[pymodule_export]
    use super::run::{isa, isas};
    #[pymodule_export]
    use super::softmax::softmax;
}
