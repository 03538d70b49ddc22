//! The matrix product.

mod parts;

use std::ffi::c_void;
use std::sync::Arc;

pub use parts::{Parts, masktile_matmul_parts, masktile_parts_free, masktile_parts_run};

use crate::isa;
use crate::memory::{Args, Memory, Slice, SliceMut, User, View, ViewMut, call};
use crate::optional::Optional;
use crate::status::{Fault, Result, Status};

/// A function of each element of a product.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// `x`
    None = 0,
    /// `max(x, 0)`
    Relu = 1,
    /// `x / 2 (1 + erf(x / sqrt 2))`, the exact GELU.
    GeluErf = 2,
    /// Its approximation by tanh.
    GeluTanh = 3,
    /// `x / (1 + exp(-x))`, also called swish.
    Silu = 4,
}

/// Bounds that may be left out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Clamp {
    /// 0: there are none.
    pub is_given: u32,
    /// The least result.
    pub least: f32,
    /// The greatest.
    pub greatest: f32,
}

/// A last step of yours: called once for every finished element, with `count` contiguous elements
/// of one row from `column` on, some at a time, in no given order and from any of the threads that
/// run parts. Rows count on through the leading axes. It neither throws nor jumps out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Each {
    /// Of `user`, the row, the first column, the elements and how many; null for none.
    pub function: Option<
        unsafe extern "C-unwind" fn(
            user: *mut c_void,
            row: usize,
            column: usize,
            elements: *mut f32,
            count: usize,
        ),
    >,
    /// Whatever you want it to get.
    pub user: *mut c_void,
}

/// `C = clamp(activation(scale (alpha A B + beta C) + bias) + residual)`: A is m x k, B is k x n, C
/// and the residual are m x n, scale and bias are one number a column. One product for each index
/// of the leading axes; B may have 1 there, or be packed, and all share it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Matmul {
    /// `sizeof(MasktileMatmul)`.
    pub size: usize,
    /// m x k.
    pub a: View<f32>,
    /// k x n; all zeros if `packed_b` is given.
    pub b: View<f32>,
    /// m x n.
    pub c: ViewMut<f32>,
    /// At least `masktile_matmul_workspace_len` floats, m being the rows of all leading indices.
    pub workspace: SliceMut<f32>,
    /// Memory that `masktile_pack_b` wrote, in place of `b`.
    pub packed_b: Slice<f32>,
    /// A factor of A. Default 1.
    pub alpha: Optional,
    /// A factor of what C holds. With 0 C is written and never read.
    pub beta: f32,
    /// One of `MasktileActivation`, after the bias.
    pub activation: u32,
    /// A factor for each column of C, as a quantised weight has.
    pub scale: Slice<f32>,
    /// A number for each column of C, added.
    pub bias: Slice<f32>,
    /// A matrix as large as C, added after the activation.
    pub residual: View<f32>,
    /// Bounds of the result, after the residual. NaN stays NaN.
    pub clamp: Clamp,
    /// One of `MasktileIsa`.
    pub isa: u32,
    /// The last step.
    pub each: Each,
}

// SAFETY: numbers, pointers, and an optional function.
unsafe impl Args for Matmul {
    const LEAST: usize = std::mem::offset_of!(Matmul, packed_b);
}

/// Floats of workspace for an m x k by k x n product, whatever the machine and the strides.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_matmul_workspace_len(m: usize, n: usize, k: usize) -> usize {
    api::matmul::workspace_len(m, n, k)
}

/// Computes C.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_matmul(args: *const Matmul) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let mut older = None;
            let args = memory.args("args", args, &mut older)?;
            let Matmul { a, b, c, workspace, .. } = *args;
            let operands = Operands { a, b, c, workspace };
            if operands.are_matrices() && args.is_of_defaults() {
                plain(&mut memory, operands)
            } else {
                run(memory, args)
            }
        })
    }
}

/// A function that a product calls last. Shared: a box that moves would take along what is borrowed
/// from it.
type EachFunction = dyn Fn(usize, usize, &mut [f32]) + Send + Sync;

impl Each {
    fn function(self) -> Option<Arc<EachFunction>> {
        let (function, user) = (self.function?, User(self.user));
        Some(Arc::new(move |row, column, elements: &mut [f32]| {
            // SAFETY: the caller's function takes any element; these are lent to it.
            unsafe { function(user.get(), row, column, elements.as_mut_ptr(), elements.len()) }
        }))
    }
}

/// A product of matrices without options. It is computed apart from the others because a small one
/// takes no longer than their checks, and what options are put into is copied with each.
#[inline(always)]
fn plain(memory: &mut Memory<'_>, args: Operands) -> Result<()> {
    let mut c = memory.view_mut("c", &args.c)?;
    let workspace = memory.write("workspace", args.workspace)?;
    let (a, b) = (memory.view("a", &args.a)?, memory.view("b", &args.b)?);
    Ok(api::Matmul::<2>::new(a, b).run(&mut c, workspace)?)
}

/// What every product has: copies, so that nothing is looked up twice.
#[derive(Clone, Copy)]
struct Operands {
    a: View<f32>,
    b: View<f32>,
    c: ViewMut<f32>,
    workspace: SliceMut<f32>,
}

impl Operands {
    /// Whether all are matrices, none of them empty.
    #[inline(always)]
    fn are_matrices(&self) -> bool {
        let is_matrix = |[batch, heads, rows, columns]: [usize; 4]| {
            batch == 1 && heads == 1 && rows > 0 && columns > 0
        };
        let shapes = [self.a.shape, self.b.shape, self.c.shape];
        shapes.into_iter().all(is_matrix) && self.workspace.len > 0
    }
}

/// Any other product. It takes the memory by value, so that `plain`'s stays in registers.
#[inline(never)]
fn run(mut memory: Memory<'_>, args: &Matmul) -> Result<()> {
    let mut c = memory.view_mut("c", &args.c)?;
    let workspace = memory.write("workspace", args.workspace)?;
    let each = args.each.function();
    Ok(product(&memory, args, each.as_deref())?.run(&mut c, workspace)?)
}

impl Matmul {
    /// Whether every option is the default.
    #[inline(always)]
    fn is_of_defaults(&self) -> bool {
        let slices = [self.packed_b, self.scale, self.bias];
        let slices = slices.map(|slice| slice.data.addr() | slice.len);
        let numbers = self.alpha.is_given
            | self.activation
            | self.clamp.is_given
            | self.isa
            | self.beta.to_bits();
        let each = self.each.function.map_or(0, |function| function as usize);
        let residual = self.residual.data.addr();
        slices[0] | slices[1] | slices[2] | residual | each | numbers as usize == 0
    }
}

/// The product that the arguments say, but for C. What is written was lent before.
fn product<'p, 'a: 'p>(
    memory: &Memory<'a>,
    args: &Matmul,
    each: Option<&'p EachFunction>,
) -> Result<api::Matmul<'p, 4>> {
    let a = memory.view("a", &args.a)?;
    let packed = memory.read_if_given("packed_b", args.packed_b)?;
    let mut product: api::Matmul<'p, 4> = match packed {
        None => api::Matmul::new(a, memory.view("b", &args.b)?),
        Some(_) if !args.b.data.is_null() => {
            return Err(Fault::misplaced("b", "either it or `packed_b`"));
        }
        Some(packed) => api::Matmul::packed(a, api::PackedB::from_memory(packed)?),
    };
    product = product.beta(args.beta).activation(activation(args.activation)?);
    if let Some(alpha) = args.alpha.get() {
        product = product.alpha(alpha);
    }
    if let Some(scale) = memory.read_if_given("scale", args.scale)? {
        product = product.scale(scale);
    }
    if let Some(bias) = memory.read_if_given("bias", args.bias)? {
        product = product.bias(bias);
    }
    if !args.residual.data.is_null() {
        product = product.residual(memory.view("residual", &args.residual)?);
    }
    if args.clamp.is_given != 0 {
        product = product.clamp(args.clamp.least, args.clamp.greatest);
    }
    if let Some(isa) = isa::asked_for(args.isa)? {
        product = product.isa(isa);
    }
    if let Some(each) = each {
        product = product.each(each);
    }
    Ok(product)
}

fn activation(given: u32) -> Result<api::Activation> {
    const ALL: [(Activation, api::Activation); 5] = [
        (Activation::None, api::Activation::None),
        (Activation::Relu, api::Activation::Relu),
        (Activation::GeluErf, api::Activation::GeluErf),
        (Activation::GeluTanh, api::Activation::GeluTanh),
        (Activation::Silu, api::Activation::Silu),
    ];
    let found = ALL.into_iter().find(|(activation, _)| *activation as u32 == given);
    found.map(|(_, activation)| activation).ok_or_else(|| {
        let what = format_args!("given {given}, wanted one of MasktileActivation");
        Fault::new(Status::Unknown, "activation", what)
    })
}
