//! Matrices of faer as masktile's views and back: the same addresses, whatever the strides.

use faer::{Mat, unzip, zip};
use masktile::{MatMut, MatRef, Matmul, Workspace};

fn numbers(rows: usize, columns: usize) -> Mat<f32> {
    Mat::from_fn(rows, columns, |i, j| (i * columns + j) as f32)
}

fn assert_same(matrix: faer::MatRef<'_, f32>, case: &str) {
    let view = MatRef::try_from(matrix).unwrap();
    assert_eq!(view.shape(), [matrix.nrows(), matrix.ncols()], "{case}");
    let back = faer::MatRef::try_from(view).unwrap();
    for i in 0..matrix.nrows() {
        for j in 0..matrix.ncols() {
            assert!(std::ptr::eq(view.get([i, j]).unwrap(), &matrix[(i, j)]), "{case}: [{i}, {j}]");
            assert!(std::ptr::eq(&back[(i, j)], &matrix[(i, j)]), "{case}: [{i}, {j}]");
        }
    }
}

#[test]
fn every_layout_without_a_negative_stride() {
    let matrix = numbers(5, 7);
    assert_same(matrix.as_ref(), "columns first");
    assert_same(matrix.transpose(), "transposed");
    assert_same(matrix.submatrix(1, 2, 3, 4), "a part");
    assert_same(matrix.submatrix(1, 2, 1, 1).reverse_rows(), "one, reversed");
    assert_same(matrix.submatrix(5, 2, 0, 4), "no element");
    let data = [1.0, 2.0, 3.0];
    let repeated = MatRef::with_strides(&data, [4, 3], [0, 1]).unwrap();
    assert_same(faer::MatRef::try_from(repeated).unwrap(), "repeated");
}

#[test]
fn outputs_are_written_where_they_lie() {
    let mut matrix = Mat::<f32>::zeros(5, 7);
    let mut view = MatMut::try_from(matrix.as_mut().submatrix_mut(1, 2, 3, 4)).unwrap();
    *view.get_mut([2, 3]).unwrap() = 7.0;
    assert_eq!((matrix[(3, 5)], matrix.sum()), (7.0, 7.0));

    let mut data = [0.0; 12];
    let view = MatMut::with_strides(&mut data, [2, 3], [5, 2]).unwrap();
    let mut back = faer::MatMut::try_from(view).unwrap();
    back[(1, 2)] = 7.0;
    assert_eq!((data[9], data.iter().sum::<f32>()), (7.0, 7.0));
}

#[test]
fn a_product_of_parts() {
    let (x, w) = (numbers(9, 16), numbers(16, 12));
    let mut y = Mat::<f32>::zeros(8, 12);
    let (top, bottom) = y.as_mut().split_at_row_mut(3);
    for (y, x) in [(top, x.subrows(1, 3)), (bottom, x.subrows(4, 5))] {
        Matmul::new(MatRef::try_from(x).unwrap(), MatRef::try_from(w.as_ref()).unwrap())
            .run(&mut MatMut::try_from(y).unwrap(), &mut Workspace::new())
            .unwrap();
    }
    let mut wanted = Mat::<f32>::zeros(8, 12);
    zip!(&mut wanted).for_each_with_index(|i, j, unzip!(place)| {
        *place = (0..16).map(|k| x[(i + 1, k)] * w[(k, j)]).sum();
    });
    // Whole numbers below 2^24: every order of summation gives the same.
    assert_eq!(y, wanted);
}

#[test]
fn negative_strides_are_errors() {
    let mut matrix = numbers(5, 7);
    let wanted = "`strides`: stride: given -1, wanted none below 0: reverse the axis, or copy";
    let error = MatRef::try_from(matrix.as_ref().reverse_rows()).unwrap_err();
    assert_eq!(error.to_string(), wanted);
    let error = MatMut::try_from(matrix.as_mut().reverse_rows_mut()).unwrap_err();
    assert_eq!(error.to_string(), wanted);
}
