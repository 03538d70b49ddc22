//! Arrays of ndarray as masktile's views and back: the same addresses, whatever the strides.

use masktile::{MatMut, MatRef, Matmul, TensorMut, TensorRef, View, ViewMut, Workspace};
use ndarray::{Array, Array2, Array3, Array4, ArrayView2, ArrayView4, ArrayViewMut2, Axis, Ix4, s};

fn numbers<D: ndarray::Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>) -> Array<f32, D> {
    let mut next = 0.0;
    Array::from_shape_simple_fn(shape, || {
        next += 1.0;
        next
    })
}

/// Every element is at the address where the array has it, and the way back gives the array.
fn assert_same(array: ArrayView4<'_, f32>, case: &str) {
    let view = TensorRef::try_from(array).unwrap();
    assert_eq!(view.shape(), array.shape(), "{case}");
    for ((a, b, c, d), element) in array.indexed_iter() {
        let own = view.get([a, b, c, d]).unwrap();
        assert!(std::ptr::eq(own, element), "{case}: [{a}, {b}, {c}, {d}]");
    }
    let back = ArrayView4::try_from(view).unwrap();
    assert_eq!(back, array, "{case}");
    assert!(array.is_empty() || back.as_ptr() == array.as_ptr(), "{case}");
}

#[test]
fn every_layout_without_a_negative_stride() {
    let tensor = numbers((2, 3, 4, 5));
    let columns_first = Array4::from_shape_fn((2, 3, 4, 5).f(), |i| tensor[i]);
    let one_row = numbers((1, 1, 1, 5));
    let mut swapped = tensor.view();
    swapped.swap_axes(1, 2);
    let cases = [
        ("standard", tensor.view()),
        ("columns first", columns_first.view()),
        ("reversed axes", tensor.t()),
        ("heads and tokens swapped", swapped),
        ("every second", tensor.slice(s![.., ..;2, 1..;2, ..;3])),
        ("one, from the end", tensor.slice(s![..1;-1, .., 2..3;-1, ..])),
        ("repeated", one_row.broadcast((2, 3, 4, 5)).unwrap()),
        ("no element", tensor.slice(s![.., 1..1, .., ..])),
    ];
    use ndarray::ShapeBuilder;
    for (case, array) in cases {
        assert_same(array, case);
    }
    let dynamic = tensor.view().into_dyn();
    assert_eq!(TensorRef::try_from(dynamic).unwrap().get([1, 2, 3, 4]), Some(&120.0));
}

#[test]
fn outputs_are_written_where_they_lie() {
    let mut tensor = Array4::<f32>::zeros((2, 3, 4, 5));
    let mut view =
        TensorMut::try_from(tensor.slice_mut(s![1, 1..;2, ..;3, 1..]).insert_axis(Axis(0)))
            .unwrap();
    assert_eq!(view.shape(), [1, 1, 2, 4]);
    *view.get_mut([0, 0, 1, 3]).unwrap() = 7.0;
    assert_eq!((tensor[[1, 1, 3, 4]], tensor.sum()), (7.0, 7.0));

    let mut data = [0.0; 12];
    let view = MatMut::with_strides(&mut data, [2, 3], [1, 4]).unwrap();
    let mut array = ArrayViewMut2::try_from(view).unwrap();
    array[[1, 2]] = 7.0;
    assert_eq!((data[9], data.iter().sum::<f32>()), (7.0, 7.0));
}

#[test]
fn halves_of_a_matrix_by_columns_on_two_threads() {
    let (x, w) = (numbers((8, 16)), numbers((16, 40)));
    let mut y = Array2::<f32>::zeros((8, 40));
    std::thread::scope(|scope| {
        let (left, right) = y.view_mut().split_at(Axis(1), 19);
        let (w_left, w_right) = w.view().split_at(Axis(1), 19);
        for (mut y, w) in [(left, w_left), (right, w_right)] {
            let x = x.view();
            scope.spawn(move || {
                let mut y = MatMut::try_from(y.view_mut()).unwrap();
                Matmul::new(MatRef::try_from(x).unwrap(), MatRef::try_from(w).unwrap())
                    .run(&mut y, &mut Workspace::new())
                    .unwrap();
            });
        }
    });
    // Whole numbers below 2^24: every order of summation gives the same.
    assert_eq!(y, x.dot(&w));
}

#[test]
fn errors_say_what_was_wanted() {
    let mut tensor = numbers((2, 3, 4));
    let error = TensorRef::try_from(tensor.view()).unwrap_err().to_string();
    assert_eq!(error, "`array`: axes: given 3, wanted 4");
    let error = View::<f32, 3>::try_from(tensor.slice(s![.., ..;-1, ..])).unwrap_err().to_string();
    let wanted = "`strides`: stride: given -4, wanted none below 0: reverse the axis, or copy";
    assert_eq!(error, wanted);
    let error = ViewMut::<f32, 3>::try_from(tensor.slice_mut(s![.., ..;-1, ..])).unwrap_err();
    assert_eq!(error.to_string(), wanted);

    let huge = MatRef::with_strides(&[1.0], [usize::MAX, 2], [0, 0]).unwrap();
    let error = ArrayView2::try_from(huge).unwrap_err().to_string();
    assert_eq!(error, "`shape`: extent: given sizes and strides over usize::MAX, wanted less");
}

#[test]
fn a_slice_of_many_axes_is_a_matrix_of_none() {
    let array: Array3<f32> = Array3::zeros((0, usize::MAX >> 3, 1));
    let view = View::<f32, 3>::try_from(array.view()).unwrap();
    assert_eq!(view.strides(), [0; 3]);
    let array: Array<f32, Ix4> = Array4::zeros((1, 0, 2, 3));
    assert_same(array.view(), "none");
}
