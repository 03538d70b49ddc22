#![cfg_attr(not(feature = "std"), no_std)]
#![doc = include_str!("../README.md")]
//!
//! # Finding things
//!
//! | to do | see |
//! | --- | --- |
//! | describe memory | [`View`], [`ViewMut`]; [`MatRef`], [`MatMut`] for matrices, [`TensorRef`], [`TensorMut`] for batch x heads x tokens x dim |
//! | hold numbers in half the memory | [`struct@f16`], [`struct@bf16`]; what takes them says [`Number`] |
//! | multiply | [`Matmul`]; [`quantised`] for weights of few bits, [`PackedB`] for a weight packed once, [`Activation`] for what follows |
//! | multiply bytes | [`MatmulInt8`]; [`int8`] for quantisation |
//! | mask | [`mask`] |
//! | softmax | [`Softmax`] |
//! | attention | [`Attention`]; over a part of the keys, and merged, [`attention::Merge`] |
//! | cache keys and values | [`cache`] |
//! | build a decoder's input | [`decoder`] |
//! | choose an instruction set | [`isa`] |
//! | take arrays of ndarray or matrices of faer | `interop`, with those features |

pub mod attention;
pub mod cache;
pub mod decoder;
pub mod error;
pub mod int8;
#[cfg(any(feature = "ndarray", feature = "faer"))]
pub mod interop;
pub mod isa;
pub mod mask;
pub mod matmul;
pub mod number;
pub mod packed;
pub mod quantised;
pub mod score;
pub mod softmax;
pub mod view;
pub mod workspace;

#[doc(inline)]
pub use attention::Attention;
#[doc(inline)]
pub use error::{Error, ErrorKind};
#[doc(inline)]
pub use int8::{MatmulInt8, PackedInt8};
#[doc(inline)]
pub use isa::Isa;
#[doc(inline)]
pub use mask::{
    Alibi, BitMask, BlockMask, BoolMask, Causal, Mask, Offset, PrefixLm, Segments, Window,
};
#[doc(inline)]
pub use matmul::{Activation, Matmul};
#[doc(inline)]
pub use number::{Number, bf16, f16};
#[doc(inline)]
pub use packed::PackedB;
#[doc(inline)]
pub use softmax::Softmax;
#[doc(inline)]
pub use view::{MatMut, MatRef, TensorMut, TensorRef, View, ViewMut};
#[cfg(feature = "alloc")]
#[doc(inline)]
pub use workspace::Workspace;

#[cfg(feature = "alloc")]
extern crate alloc;

/// The result of every operation that checks its arguments.
pub type Result<T> = core::result::Result<T, Error>;
