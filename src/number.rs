//! What operands and outputs may hold.

#[doc(inline)]
pub use half::{bf16, f16};
#[doc(inline)]
pub use masktile_kernels::Number;
