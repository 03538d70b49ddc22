//! Views and masks of any shape (proptest): construction is safe for every size and stride, and what
//! a view, a mask and an operation say agrees with plain indices.

mod common;

use common::{Numbers, same_bits, softmax_row};
use masktile::{
    Attention, BoolMask, Causal, Isa, Mask, MatMut, MatRef, Matmul, Softmax, TensorMut, TensorRef,
    Workspace,
};
use proptest::prelude::*;

/// `shape` of a larger stored matrix, behind `skip` rows and columns, transposed if `turned`.
fn part(
    (data, stored): &(Vec<f32>, [usize; 2]),
    turned: bool,
    skip: usize,
    shape: [usize; 2],
) -> MatRef<'_> {
    let whole = MatRef::new(data, *stored).unwrap();
    let whole = if turned { whole.transposed() } else { whole };
    whole.narrow(0, skip, shape[0]).unwrap().narrow(1, skip, shape[1]).unwrap()
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..7, 1 => Just(usize::MAX), 1 => Just(usize::MAX / 2), 1 => any::<usize>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if common::is_small() { 64 } else { 2000 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// A view is made exactly where every element lies inside the slice.
    #[test]
    fn a_view_holds_its_elements(len in 0usize..60, shape in [size(), size()], strides in [size(), size()]) {
        let data: Vec<u32> = (0..len as u32).collect();
        let last = shape.iter().zip(strides).try_fold(0u128, |at, (size, stride)| {
            Some(at.saturating_add((size.checked_sub(1)? as u128) * stride as u128))
        });
        let fits = last.is_none_or(|last| last < len as u128);
        let view = MatRef::with_strides(&data, shape, strides);
        prop_assert_eq!(view.is_ok(), fits);
        if let Ok(view) = view {
            for i in 0..shape[0].min(4) {
                for j in 0..shape[1].min(4) {
                    let at = (i * strides[0] + j * strides[1]) as u32;
                    prop_assert_eq!(view.get([i, j]), Some(&at));
                    prop_assert_eq!(view.transposed().get([j, i]), Some(&at));
                }
            }
            prop_assert_eq!(view.get([shape[0], 0]), None);
        }
    }

    /// An output never has two elements in one place.
    #[test]
    fn an_output_is_distinct(shape in [0usize..5, 0usize..5], strides in [0usize..9, 0usize..9]) {
        let mut data = [0u32; 80];
        if let Ok(mut out) = MatMut::with_strides(&mut data, shape, strides) {
            for i in 0..shape[0] {
                for j in 0..shape[1] {
                    *out.get_mut([i, j]).unwrap() += 1;
                }
            }
            prop_assert!(data.iter().all(|times| *times <= 1));
        }
    }

    /// Narrowing is indexing with an offset, and refuses what is outside.
    #[test]
    fn narrow_is_an_offset(axis in 0usize..3, start in size(), len in size()) {
        let data: Vec<u32> = (0..30).collect();
        let view = MatRef::new(&data, [5, 6]).unwrap();
        let inside = axis < 2 && start.checked_add(len).is_some_and(|end| end <= view.shape()[axis]);
        let narrowed = view.narrow(axis, start, len);
        prop_assert_eq!(narrowed.is_ok(), inside);
        if let Ok(narrowed) = narrowed {
            let mut at = [0, 0];
            at[axis] = start;
            let wanted = if len == 0 { None } else { view.get(at) };
            prop_assert_eq!(narrowed.get([0, 0]), wanted);
        }
    }

    /// No operation panics on any sizes; errors leave the output alone.
    #[test]
    fn no_operation_panics(a in [size(), size()], b in [size(), size()], c in [size(), size()],
                           strides in [0usize..4, 0usize..4], workspace in 0usize..2000) {
        let data = [1.0f32; 64];
        let mut out = [7.0f32; 64];
        let mut workspace = vec![0.0; workspace];
        let view = |shape| MatRef::with_strides(&data, shape, strides).or(MatRef::new(&data, shape));
        if let (Ok(a), Ok(b), Ok(mut c)) = (view(a), view(b), MatMut::new(&mut out, c)) {
            // Stride 0 makes operands of any size: keep the work finite.
            if a.shape().iter().chain(&b.shape()).chain(&c.shape()).all(|size| *size < 100) {
                let result = Matmul::new(a, b).run(&mut c, &mut workspace[..]);
                if result.is_err() {
                    for at in 0..c.rows() * c.columns() {
                        prop_assert_eq!(c.get_mut([at / c.columns(), at % c.columns()]), Some(&mut 7.0));
                    }
                }
                // Whether these fit or not, they return.
                let _ = Softmax::new().run(a, c.reborrow());
                let attention = Attention::new(a.into(), b.into(), b.into());
                let _ = attention.run(&mut TensorMut::from(c), &mut workspace[..]);
            }
        }
    }

    /// A softmax under any composition of masks is the oracle's, which asks `kept` position by
    /// position, on every instruction set.
    #[test]
    fn a_masked_softmax_is_the_oracles(
        queries in 1usize..6, keys in 1usize..40, offset in -5isize..40, length in 0usize..40,
        polarity in any::<bool>(), use_causal in any::<bool>(), use_length in any::<bool>(),
        use_ones in any::<bool>(), seed in any::<u64>(),
    ) {
        let shape = [1, 1, queries, keys];
        let mut numbers = Numbers::new(seed);
        let scores: Vec<f32> = numbers.many(queries * keys).iter().map(|x| x * 10.0).collect();
        let ones: Vec<u8> = (0..queries * keys).map(|_| numbers.below(2) as u8).collect();
        let ones = TensorRef::new(&ones, shape).unwrap();
        let lengths = [length.min(keys)];
        let none = Mask::None;
        let ones = if polarity { BoolMask::ones_are_kept(ones) } else { BoolMask::ones_are_masked(ones) };
        let masks = [
            if use_causal { Causal::offset(offset).into() } else { none },
            if use_length { Mask::KeyLengths(&lengths) } else { none },
            if use_ones { ones.into() } else { none },
        ];
        let mask = Mask::All(&masks);
        let run = |isa| {
            let mut probs = scores.clone();
            let out = TensorMut::new(&mut probs, shape).unwrap();
            Softmax::new().mask(mask).isa(isa).run_in_place(out).unwrap();
            probs
        };
        let scalar = run(Isa::SCALAR);
        for i in 0..queries {
            let row = i * keys..(i + 1) * keys;
            let logits: Vec<Option<f64>> = row.clone()
                .map(|at| mask.kept(shape, [0, 0, i, at % keys]).unwrap().then(|| f64::from(scores[at])))
                .collect();
            for (given, wanted) in scalar[row].iter().zip(softmax_row(&logits).0) {
                prop_assert!((f64::from(*given) - wanted).abs() <= 2e-6 * wanted);
            }
        }
        for isa in Isa::available() {
            prop_assert!(same_bits(&run(isa), &scalar), "{}", isa);
        }
    }

    /// A product of transposed and sliced operands is the product of copies.
    #[test]
    fn a_product_of_views_is_the_product_of_copies(
        m in 1usize..20, n in 1usize..40, k in 0usize..20, skip in 0usize..3, turned in any::<[bool; 3]>(), seed in any::<u64>(),
    ) {
        let mut numbers = Numbers::new(seed);
        let mut workspace = Workspace::new();
        // A larger matrix, sliced, as a view and as a copy.
        let mut operand = |rows: usize, columns: usize, turned: bool| {
            let (stored_rows, stored_columns) = if turned { (columns, rows) } else { (rows, columns) };
            let shape = [stored_rows + skip, stored_columns + skip];
            (numbers.many(shape[0] * shape[1]), shape)
        };
        let (a, b) = (operand(m, k, turned[0]), operand(k, n, turned[1]));
        let a_view = part(&a, turned[0], skip, [m, k]);
        let b_view = part(&b, turned[1], skip, [k, n]);
        let copy = |view: MatRef<'_>| -> Vec<f32> {
            let columns = view.columns().max(1);
            let all = 0..view.rows() * view.columns();
            all.map(|at| *view.get([at / columns, at % columns]).unwrap()).collect()
        };
        let (a_copy, b_copy) = (copy(a_view), copy(b_view));
        let mut wanted = vec![0.0; m * n];
        Matmul::new(MatRef::new(&a_copy, [m, k]).unwrap(), MatRef::new(&b_copy, [k, n]).unwrap())
            .isa(Isa::SCALAR).run(&mut MatMut::new(&mut wanted, [m, n]).unwrap(), &mut workspace).unwrap();
        for isa in Isa::available() {
            let mut given = vec![f32::NAN; m * n];
            let shape = if turned[2] { [n, m] } else { [m, n] };
            let out = MatMut::new(&mut given, shape).unwrap();
            let mut out = if turned[2] { out.transposed() } else { out };
            Matmul::new(a_view, b_view).isa(isa).run(&mut out, &mut workspace).unwrap();
            let given: Vec<f32> = (0..m * n).map(|at| *out.as_ref().get([at / n, at % n]).unwrap()).collect();
            prop_assert!(same_bits(&given, &wanted), "{}", isa);
        }
    }
}
