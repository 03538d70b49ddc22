//! The peers on crates.io.

use anyhow::Result;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use super::Product;
use crate::matmul::{Problem, Shape};

pub fn all() -> Vec<Box<dyn Product>> {
    vec![
        Box::new(Gemm),
        Box::new(Faer),
        Box::new(Gemmkit(gemmkit::Workspace::default())),
        Box::new(RtenGemm(GemmExecutor::new())),
        Box::new(Matrixmultiply),
    ]
}

struct Gemm;

impl Product for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    #[rustfmt::skip]
    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, .. } = problem.shape;
        let [b_row, b_column] = problem.shape.b_strides();
        let none = gemm::Parallelism::None;
        // SAFETY: the operands hold m x k and k x n floats of these strides, C m x n.
        unsafe {
            gemm::gemm(
                m, n, k,
                c.as_mut_ptr(), 1, n as isize, false,
                problem.a.as_ptr(), 1, k as isize,
                problem.b.as_ptr(), b_column as isize, b_row as isize,
                0.0, 1.0, false, false, false, none,
            );
        }
        Ok(())
    }
}

struct Faer;

impl Product for Faer {
    fn name(&self) -> &'static str {
        "faer"
    }

    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, transposed } = problem.shape;
        let a = faer::MatRef::from_row_major_slice(&problem.a, m, k);
        let b = if transposed {
            faer::MatRef::from_column_major_slice(&problem.b, k, n).as_dyn_stride()
        } else {
            faer::MatRef::from_row_major_slice(&problem.b, k, n).as_dyn_stride()
        };
        let c = faer::MatMut::from_row_major_slice_mut(c, m, n);
        faer::linalg::matmul::matmul(c, faer::Accum::Replace, a, b, 1.0, faer::Par::Seq);
        Ok(())
    }
}

struct Gemmkit(gemmkit::Workspace);

impl Product for Gemmkit {
    fn name(&self) -> &'static str {
        "gemmkit"
    }

    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, .. } = problem.shape;
        let [b_row, b_column] = problem.shape.b_strides();
        let a = gemmkit::MatRef::from_row_major(&problem.a, m, k);
        let b = gemmkit::MatRef::new(&problem.b, k, n, b_row as isize, b_column as isize);
        let c = gemmkit::MatMut::from_row_major(c, m, n);
        gemmkit::gemm_with(&mut self.0, 1.0, a, b, 0.0, c, gemmkit::Parallelism::Serial);
        Ok(())
    }
}

struct RtenGemm(GemmExecutor);

impl Product for RtenGemm {
    fn name(&self) -> &'static str {
        "rten-gemm"
    }

    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, .. } = problem.shape;
        let a = NdTensorView::from_data([m, k], &*problem.a);
        let strides = problem.shape.b_strides();
        let b = NdTensorView::from_data_with_strides([k, n], &*problem.b, strides)?;
        let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
        Ok(self.0.gemm(c, a, b, GemmOptions::default())?)
    }
}

struct Matrixmultiply;

impl Product for Matrixmultiply {
    fn name(&self) -> &'static str {
        "matrixmultiply"
    }

    #[rustfmt::skip]
    fn run(&mut self, problem: &Problem, c: &mut [f32]) -> Result<()> {
        let Shape { m, k, n, .. } = problem.shape;
        let [b_row, b_column] = problem.shape.b_strides();
        // SAFETY: the operands hold m x k and k x n floats of these strides, C m x n.
        unsafe {
            matrixmultiply::sgemm(
                m, k, n,
                1.0,
                problem.a.as_ptr(), k as isize, 1,
                problem.b.as_ptr(), b_row as isize, b_column as isize,
                0.0,
                c.as_mut_ptr(), n as isize, 1,
            );
        }
        Ok(())
    }
}
