//! masktile's operations as custom operations of candle: each reads the tensors' memory as it lies
//! and writes the tensor that it returns.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor, bail};
use masktile::{
    Activation, Attention, Mask, MatMut, MatRef, Matmul, PackedB, Segments, Softmax, TensorMut,
    TensorRef,
};

/// `activation(x W^T + b)`, with a residual added behind the activation where one is given. The
/// weight is packed once.
pub struct Linear {
    packed: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Linear {
    /// `weights` are out x in and lie one below the other: their outputs follow on from each other.
    ///
    /// # Errors
    /// If the tensors are not f32, or their sizes do not fit.
    pub fn new(weights: &[Tensor], biases: &[Tensor], activation: Activation) -> Result<Self> {
        let (weight, bias) = (Tensor::cat(weights, 0)?, Tensor::cat(biases, 0)?);
        let (outputs, inputs) = weight.dims2()?;
        if bias.dims1()? != outputs {
            bail!("bias: given {:?}, wanted {outputs} numbers", bias.shape());
        }
        let weight = weight.flatten_all()?.to_vec1::<f32>()?;
        let mut packed = vec![0.0; PackedB::len(inputs, outputs)];
        let by_rows = MatRef::new(&weight, [outputs, inputs]).map_err(Error::wrap)?;
        PackedB::pack(by_rows.transposed(), &mut packed).map_err(Error::wrap)?;
        Ok(Linear { packed, bias: bias.to_vec1()?, activation })
    }

    /// .. x in to .. x out
    ///
    /// # Errors
    /// If `x` is not contiguous f32 on the CPU, or has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(self)
    }

    /// [`Linear::forward`], plus `residual`.
    ///
    /// # Errors
    /// As [`Linear::forward`], and if the residual has another size than the result.
    pub fn forward_plus(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(residual, self)
    }

    fn run(
        &self,
        x: &[f32],
        layout: &Layout,
        residual: Option<&[f32]>,
    ) -> masktile::Result<(CpuStorage, Shape)> {
        let weight = PackedB::from_memory(&self.packed)?;
        let [inputs, outputs] = weight.shape();
        let (rows, mut dims) = (x.len() / inputs.max(1), layout.dims().to_vec());
        let mut y = vec![0.0; rows * outputs];
        let mut product = Matmul::packed(MatRef::new(x, [rows, inputs])?, weight)
            .bias(&self.bias)
            .activation(self.activation);
        if let Some(residual) = residual {
            product = product.residual(MatRef::new(residual, [rows, outputs])?);
        }
        product.run_rayon(&mut MatMut::new(&mut y, [rows, outputs])?)?;
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        Ok((CpuStorage::F32(y), dims.into()))
    }

    /// The numbers of `x`, whose last axis must be as long as the weight's.
    fn checked<'x>(&self, storage: &'x CpuStorage, layout: &Layout) -> Result<&'x [f32]> {
        let [inputs, _] = PackedB::from_memory(&self.packed).map_err(Error::wrap)?.shape();
        if layout.dims().last() != Some(&inputs) {
            bail!("x: given {:?}, wanted a last axis of {inputs}", layout.shape());
        }
        numbers("x", storage, layout)
    }
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "masktile-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = self.checked(storage, layout)?;
        self.run(x, layout, None).map_err(Error::wrap)
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "masktile-linear-residual"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = self.checked(storage, layout)?;
        let residual = numbers("residual", residual, residual_layout)?;
        self.run(x, layout, Some(residual)).map_err(Error::wrap)
    }
}

/// Self-attention of sentences that lie one behind the other without padding, from one tensor of
/// queries, keys and values as one product makes it, tokens x (3 heads dim), to tokens x (heads
/// dim). Nothing is transposed: the heads are strides.
pub struct SelfAttention<'a> {
    /// How many heads.
    pub heads: usize,
    /// Where each sentence begins, and where the last one ends.
    pub starts: &'a [usize],
}

impl SelfAttention<'_> {
    /// tokens x (3 heads dim) to tokens x (heads dim)
    ///
    /// # Errors
    /// If `qkv` is not contiguous f32 on the CPU, or its sizes do not fit.
    pub fn forward(&self, qkv: &Tensor) -> Result<Tensor> {
        qkv.apply_op1_no_bwd(self)
    }

    fn run(
        &self,
        qkv: &[f32],
        [tokens, heads, dim]: [usize; 3],
        out: &mut [f32],
    ) -> masktile::Result<()> {
        let (width, shape) = (heads * dim, [1, heads, tokens, dim]);
        let part = |index: usize| {
            let data = qkv.get(index * width..).unwrap_or(&[]);
            TensorRef::with_strides(data, shape, [0, dim, 3 * width, 1])
        };
        Attention::new(part(0)?, part(1)?, part(2)?)
            .mask(Segments::cumulative(self.starts, self.starts))
            .run_rayon(&mut TensorMut::with_strides(out, shape, [0, dim, width, 1])?)
    }
}

impl CustomOp1 for SelfAttention<'_> {
    fn name(&self) -> &'static str {
        "masktile-self-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, fused) = layout.shape().dims2()?;
        if self.heads == 0 || fused % (3 * self.heads) != 0 {
            bail!("qkv: given a width of {fused}, wanted a multiple of 3 x {} heads", self.heads);
        }
        let (heads, dim) = (self.heads, fused / 3 / self.heads);
        let mut out = vec![0.0; tokens * heads * dim];
        let qkv = numbers("qkv", storage, layout)?;
        self.run(qkv, [tokens, heads, dim], &mut out).map_err(Error::wrap)?;
        Ok((CpuStorage::F32(out), (tokens, heads * dim).into()))
    }
}

/// Softmax over the last axis of batch x heads x queries x keys, padded keys masked.
pub struct PaddedSoftmax<'a> {
    /// A factor of the scores.
    pub scale: f32,
    /// Keys of each batch that are no padding.
    pub lengths: &'a [usize],
}

impl PaddedSoftmax<'_> {
    /// Scores to probabilities.
    ///
    /// # Errors
    /// If the scores are not contiguous f32 on the CPU, or the lengths do not fit.
    pub fn forward(&self, scores: &Tensor) -> Result<Tensor> {
        scores.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for PaddedSoftmax<'_> {
    fn name(&self) -> &'static str {
        "masktile-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, queries, keys) = layout.shape().dims4()?;
        let scores = numbers("scores", storage, layout)?;
        let (shape, mut probs) = ([batch, heads, queries, keys], vec![0.0; scores.len()]);
        let mut run = || {
            Softmax::new()
                .scale(self.scale)
                .mask(Mask::KeyLengths(self.lengths))
                .run(TensorRef::new(scores, shape)?, TensorMut::new(&mut probs, shape)?)
        };
        run().map_err(Error::wrap)?;
        Ok((CpuStorage::F32(probs), layout.shape().clone()))
    }
}

/// The memory of a contiguous f32 tensor.
fn numbers<'x>(name: &str, storage: &'x CpuStorage, layout: &Layout) -> Result<&'x [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{name}: given strides {:?}, wanted a contiguous tensor", layout.stride());
    };
    let all = storage.as_slice::<f32>()?;
    Ok(all.get(start..end).unwrap_or(&[]))
}
