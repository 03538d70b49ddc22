//! What operands and outputs may hold.

use core::marker::PhantomData;

#[doc(inline)]
pub use half::{bf16, f16};
#[doc(inline)]
pub use masktile_kernels::Number;
use masktile_kernels::attention::{self, Tensor};
use masktile_kernels::{Dtype, Isa, Numbers};

use crate::view::TensorRef;

/// Whether it is f32, known when a program is compiled: one of f32 alone holds no kernel of the others.
pub(crate) const fn is_f32<T: Number>() -> bool {
    matches!(T::DTYPE, Dtype::F32)
}

/// [`attention::attention`] or [`attention::attention_mixed`].
pub(crate) type AttentionKernel = unsafe fn(Isa, &attention::Attention<'_>, usize, usize, *mut f32);

/// The kernel that operands of other types than f32 take; none where they are of f32.
pub(crate) const fn kernel_of<T: Number>() -> Option<AttentionKernel> {
    if is_f32::<T>() { None } else { Some(attention::attention_mixed) }
}

/// A tensor of numbers of a type known at run time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyTensor<'a> {
    tensor: Tensor,
    shape: [usize; 4],
    kernel: Option<AttentionKernel>,
    numbers: PhantomData<&'a [f32]>,
}

impl<'a> AnyTensor<'a> {
    pub(crate) fn of<T: Number>(view: TensorRef<'a, T>) -> Self {
        AnyTensor {
            tensor: Tensor { numbers: Numbers::at(view.as_ptr()), strides: view.strides() },
            shape: view.shape(),
            kernel: kernel_of::<T>(),
            numbers: PhantomData,
        }
    }

    pub(crate) fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// `keys` of its tokens from `first` on, which it has.
    #[cfg(feature = "rayon")]
    pub(crate) fn tokens(mut self, first: usize, keys: usize) -> Self {
        self.tensor.numbers = self.tensor.numbers.skip(first * self.tensor.strides[2]);
        self.shape[2] = keys;
        self
    }

    /// As kernels take it.
    pub(crate) fn tensor(&self) -> Tensor {
        self.tensor
    }

    /// The kernel that it takes, where that is not the one of f32.
    pub(crate) fn kernel(&self) -> Option<AttentionKernel> {
        self.kernel
    }
}
