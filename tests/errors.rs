//! Every error, one by one: the message, and outputs untouched.

use masktile::cache::KvCache;
use masktile::decoder::{join_as_columns, join_as_row};
use masktile::{
    Alibi, Attention, BitMask, BlockMask, BoolMask, Causal, Error, Mask, MatMut, MatRef, Matmul,
    Offset, PrefixLm, Segments, Softmax, TensorMut, TensorRef, View, Window,
};

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) {
    let error: Box<dyn std::error::Error> = Box::new(result.unwrap_err());
    assert_eq!(error.to_string(), message);
}

fn matrix(data: &[f32], rows: usize, columns: usize) -> MatRef<'_> {
    MatRef::new(data, [rows, columns]).unwrap()
}

#[test]
fn views() {
    let data = [0.0; 12];
    assert_error(MatRef::new(&data, [4, 4]), "`data`: length: given 12, wanted at least 16");
    assert_error(
        MatRef::with_strides(&data, [3, 4], [5, 1]),
        "`data`: length: given 12, wanted at least 14",
    );
    let overflow = "extent: given sizes and strides over usize::MAX, wanted less";
    assert_error(MatRef::new(&data, [usize::MAX, 2]), &format!("`shape`: {overflow}"));
    for strides in [[usize::MAX, 1], [usize::MAX / 2, usize::MAX / 2]] {
        assert_error(
            MatRef::with_strides(&data, [3, 4], strides),
            &format!("`strides`: {overflow}"),
        );
    }
    let mut out = [0.0; 12];
    for (shape, strides) in [([3, 4], [3, 1]), ([3, 4], [0, 1]), ([2, 2], [1, 1]), ([2, 3], [2, 1])]
    {
        assert_error(
            MatMut::with_strides(&mut out, shape, strides),
            "`strides`: strides: given ones by which elements overlap, wanted distinct elements",
        );
    }
    assert!(MatMut::with_strides(&mut out, [1, 4], [0, 1]).is_ok(), "one row needs no stride");
    assert!(MatRef::with_strides(&data, [3, 4], [0, 0]).is_ok(), "reading may repeat");
    let view = matrix(&data, 3, 4);
    assert_error(view.narrow(0, 2, 2), "`start + len`: end: given 4, wanted at most 3");
    assert_error(
        view.narrow(1, usize::MAX, 2),
        &format!("`start + len`: end: given {}, wanted at most 4", usize::MAX),
    );
    assert_error(view.narrow(2, 0, 0), "`axis`: axis: given 2, wanted at most 1");
    assert!(view.narrow(0, 3, 0).unwrap().get([0, 0]).is_none());
    let one = TensorRef::new(&data, [1, 1, 3, 4]).unwrap();
    assert_error(one.broadcast([2, 2, 4, 4]), "`shape`: tokens: given 3, wanted 4");
}

#[test]
fn matmul() {
    let data = [1.0; 24];
    let (a, b) = (matrix(&data, 2, 3), matrix(&data, 3, 4));
    let mut out = [7.0; 8];
    let mut workspace = [0.0; masktile::matmul::workspace_len(2, 4, 3)];
    let mut run = |matmul: Matmul<'_>, shape, workspace: &mut [f32], message| {
        let mut c = MatMut::new(&mut out, shape).unwrap();
        assert_error(matmul.run(&mut c, workspace), message);
        #[cfg(feature = "rayon")]
        if !message.starts_with("`workspace`") {
            assert_error(matmul.run_rayon(&mut c), message);
        }
        assert_eq!(out, [7.0; 8], "touched: {message}");
    };
    let w = &mut workspace[..];
    run(Matmul::new(a, matrix(&data, 4, 2)), [2, 2], w, "`b`: rows: given 4, wanted 3");
    run(Matmul::new(a, b), [1, 4], w, "`c`: rows: given 1, wanted 2");
    run(Matmul::new(a, b), [2, 3], w, "`c`: columns: given 3, wanted 4");
    run(Matmul::new(a, b).bias(&data[..3]), [2, 4], w, "`bias`: length: given 3, wanted 4");
    let short = w.len() - 1;
    let message = format!("`workspace`: length: given {short}, wanted at least {}", short + 1);
    run(Matmul::new(a, b), [2, 4], &mut w[..short], &message);
}

/// `f` of a mask nine levels deep.
fn check_nested(masks: &[Mask<'_>], depth: usize, f: &dyn Fn(Mask<'_>)) {
    match depth {
        8 => f(Mask::All(masks)),
        _ => check_nested(&[Mask::All(masks)], depth + 1, f),
    }
}

#[test]
fn masks() {
    let (data, bytes) = ([0.0; 24], [1u8; 24]);
    let scores = TensorRef::new(&data, [2, 1, 3, 4]).unwrap();
    let check = |mask: Mask<'_>, message: &str| {
        let mut probs = [7.0; 24];
        let out = TensorMut::new(&mut probs, [2, 1, 3, 4]).unwrap();
        assert_error(Softmax::new().mask(mask).run(scores, out), message);
        let out = TensorMut::new(&mut probs, [2, 1, 3, 4]).unwrap();
        assert_error(Softmax::new().mask(mask).run_in_place(out), message);
        assert_eq!(probs, [7.0; 24], "touched: {message}");

        let q = TensorRef::new(&data, [2, 1, 3, 4]).unwrap();
        let k = TensorRef::new(&data, [2, 1, 4, 3]).unwrap();
        let q = q.narrow(3, 0, 3).unwrap();
        let mut out = TensorMut::new(&mut probs[..18], [2, 1, 3, 3]).unwrap();
        let attention = Attention::new(q, k, k).mask(mask);
        assert_error(attention.run(&mut out, &mut [0.0; 20_000]), message);
        assert_eq!(probs, [7.0; 24], "touched: {message}");
    };
    check(Mask::KeyLengths(&[4]), "`mask`: key lengths: given 1, wanted 2");
    check(Mask::KeyLengths(&[4, 5]), "`mask`: key length: given 5, wanted at most 4");
    check(Causal::offsets(&[0; 3]).into(), "`mask`: offsets: given 3, wanted 2");
    let ones = TensorRef::new(&bytes, [1, 1, 3, 4]).unwrap();
    check(BoolMask::ones_are_kept(ones).into(), "`mask`: batch: given 1, wanted 2");
    let ones = MatRef::new(&bytes, [4, 3]).unwrap();
    check(BoolMask::ones_are_masked(ones).into(), "`mask`: batch: given 1, wanted 2");
    let bias = TensorRef::new(&data, [2, 1, 4, 3]).unwrap();
    check(Mask::Bias(bias), "`mask`: queries: given 4, wanted 3");
    let ones = Mask::Bool(BoolMask::ones_are_kept(TensorRef::new(&bytes, [2, 1, 3, 4]).unwrap()));
    let nested = Mask::All(&[Mask::None, Mask::KeyLengths(&[9, 9])]);
    check(nested, "`mask`: key length: given 9, wanted at most 4");
    check(
        Mask::All(&[ones; 5]),
        "`mask`: masks of one sort composed (runs of keys, matrices and functions, biases): given 5, wanted at most 4",
    );
    let eight = [Mask::None; 8];
    let many = [Mask::All(&eight); 8];
    check(Mask::All(&many), "`mask`: masks composed: given 65, wanted at most 64");
    check_nested(&[Mask::None], 0, &|mask| {
        check(mask, "`mask`: levels of masks composed: given 9, wanted at most 8");
    });
    check(Causal::past(&[1]).into(), "`mask`: past lengths: given 1, wanted 2");
    check(Causal::ending_at(&[4, 5]).into(), "`mask`: key length: given 5, wanted at most 4");
    let window = Window::new(1, 0, Offset::per_batch(&[1]));
    check(window.into(), "`mask`: offsets: given 1, wanted 2");
    let prefix = PrefixLm::new(&[1, 6], Offset::top_left());
    check(prefix.into(), "`mask`: prefix length: given 6, wanted at most 4");
    check(Mask::KeyRanges(&[0..4, 2..5]), "`mask`: end of a key range: given 5, wanted at most 4");
    check(
        Segments::cumulative(&[0, 3], &[0, 2, 4]).into(),
        "`mask`: cumulative lengths of keys: given 3, wanted 2",
    );
    check(
        Segments::cumulative(&[0, 2, 1], &[0, 2, 4]).into(),
        "`mask`: cumulative lengths of queries: given 1 at index 2, wanted at least 2",
    );
    check(
        Segments::cumulative_causal(&[0, 3], &[0, 5]).into(),
        "`mask`: cumulative lengths of keys: given 5, wanted at most 4",
    );
    let ids = View::new(&[0; 8], [2, 4]).unwrap();
    check(Segments::ids(ids, ids).into(), "`mask`: queries: given 4, wanted 3");
    let bits = TensorRef::new(&bytes, [2, 1, 3, 4]).unwrap();
    check(BitMask::ones_are_kept(bits).into(), "`mask`: keys: given 4, wanted 1");
    let table = TensorRef::new(&bytes, [2, 1, 3, 1]).unwrap();
    check(BlockMask::ones_are_kept(table, [2, 4]).into(), "`mask`: queries: given 3, wanted 2");
    check(
        BlockMask::ones_are_kept(table, [0, 4]).into(),
        "`mask`: block size: given 0, wanted at least 1",
    );
    check(
        Alibi::new(&[1.0, 1.0], Offset::top_left()).into(),
        "`mask`: ALiBi slopes: given 2, wanted 1",
    );
    check(
        Alibi::new(&[f32::NAN], Offset::top_left()).into(),
        "`mask`: ALiBi slope: given NaN, wanted a finite number",
    );
    assert_error(
        Mask::None.kept([1, 1, 2, 2], [0, 0, 2, 0]),
        "`position`: index: given 2, wanted at most 1",
    );
    assert_error(
        Mask::KeyLengths(&[]).kept([1, 1, 2, 2], [0, 0, 1, 0]),
        "`mask`: key lengths: given 0, wanted 1",
    );
}

#[test]
fn softmax() {
    let data = [0.0; 24];
    let mut probs = [7.0; 24];
    let scores = matrix(&data, 4, 6);
    let out = MatMut::new(&mut probs, [6, 4]).unwrap();
    assert_error(Softmax::new().run(scores, out), "`probs`: queries: given 6, wanted 4");
    let out = MatMut::new(&mut probs, [4, 6]).unwrap();
    let softmax = Softmax::new();
    assert_error(
        softmax.log_sum_exp(&mut [0.0; 3]).run(scores, out),
        "`lse`: length: given 3, wanted at least 4",
    );
    for (softmax, message) in [
        (Softmax::new().softcap(0.0), "`softcap`: value: given 0"),
        (Softmax::new().temperature(f32::NAN), "`temperature`: value: given NaN"),
        (Softmax::new().temperature(1e-45), "`temperature`: value: given 0.0000000"),
    ] {
        let error = softmax.run(scores, MatMut::new(&mut probs, [4, 6]).unwrap()).unwrap_err();
        let error = error.to_string();
        let wanted = "wanted a finite number above 0 with a finite inverse";
        assert!(error.starts_with(message) && error.ends_with(wanted), "{error}");
    }
    let softmax = Softmax::new().sinks(&[1.0; 2]);
    let out = MatMut::new(&mut probs, [4, 6]).unwrap();
    assert_error(softmax.run(scores, out), "`sinks`: heads: given 2, wanted 1");
    assert_eq!(probs, [7.0; 24]);
}

#[test]
fn attention() {
    let data = [0.0; 64];
    let view = |shape| TensorRef::new(&data, shape).unwrap();
    let check = |q, k, v, out: [usize; 4], workspace: usize, message: &str| {
        let mut memory = [7.0; 64];
        let attention = Attention::new(view(q), view(k), view(v));
        let mut out = TensorMut::new(&mut memory, out).unwrap();
        assert_error(attention.run(&mut out, &mut vec![0.0; workspace][..]), message);
        assert_eq!(memory, [7.0; 64], "touched: {message}");
    };
    let q = [1, 4, 2, 4];
    let enough = 20_000;
    check(q, [1, 4, 3, 5], [1, 4, 3, 2], [1, 4, 2, 2], enough, "`k`: dim: given 5, wanted 4");
    check(q, [2, 2, 3, 4], [1, 2, 3, 2], [1, 4, 2, 2], enough, "`k`: batch: given 2, wanted 1");
    check(q, [1, 4, 3, 4], [1, 2, 3, 2], [1, 4, 2, 2], enough, "`v`: heads: given 2, wanted 4");
    check(q, [1, 4, 3, 4], [1, 4, 2, 2], [1, 4, 2, 2], enough, "`v`: tokens: given 2, wanted 3");
    check(q, [1, 4, 3, 4], [1, 4, 3, 2], [1, 4, 2, 3], enough, "`out`: dim: given 3, wanted 2");
    check(
        q,
        [1, 3, 3, 4],
        [1, 3, 3, 2],
        [1, 4, 2, 2],
        enough,
        "`q`: heads: given 4, wanted a multiple of 3",
    );
    check(
        q,
        [1, 0, 3, 4],
        [1, 0, 3, 2],
        [1, 4, 2, 2],
        enough,
        "`q`: heads: given 4, wanted a multiple of 0",
    );
    let wanted = masktile::attention::workspace_len(2, 3, 4, 2);
    let message = format!("`workspace`: length: given 5, wanted at least {wanted}");
    check(q, [1, 4, 3, 4], [1, 4, 3, 2], [1, 4, 2, 2], 5, &message);

    let mut memory = [7.0; 64];
    let mut out = TensorMut::new(&mut memory, [1, 4, 2, 2]).unwrap();
    let mut lse = [7.0; 7];
    let attention = Attention::new(view(q), view([1, 4, 3, 4]), view([1, 4, 3, 2]));
    assert_error(
        attention.log_sum_exp(&mut lse).run(&mut out, &mut vec![0.0; enough][..]),
        "`lse`: length: given 7, wanted at least 8",
    );
    assert_eq!((memory, lse), ([7.0; 64], [7.0; 7]));
}

#[test]
fn decoder() {
    let data = [1.0; 24];
    let encoder = matrix(&data, 2, 3);
    let mut joined = [7.0; 12];
    let mut out = MatMut::new(&mut joined, [3, 4]).unwrap();
    assert_error(
        join_as_row(encoder, &data[..2], &mut out),
        "`previous`: length: given 2, wanted 3",
    );
    assert_error(
        join_as_row(encoder, &data[..3], &mut out),
        "`joined`: columns: given 4, wanted 3",
    );
    assert_error(
        join_as_columns(encoder, &data[..1], &mut out),
        "`joined`: rows: given 3, wanted 2",
    );
    let mut out = MatMut::new(&mut joined, [2, 4]).unwrap();
    assert_error(join_as_row(encoder, &data[..3], &mut out), "`joined`: rows: given 2, wanted 3");
    assert_error(
        join_as_columns(encoder, &data[..2], &mut out),
        "`joined`: columns: given 4, wanted 5",
    );
    assert_eq!(joined, [7.0; 12]);

    let (mut keys, mut values) = ([7.0; 8], [7.0; 12]);
    let other = TensorMut::new(&mut values, [1, 1, 3, 3]).unwrap();
    let cache = KvCache::new(TensorMut::new(&mut keys, [1, 1, 4, 2]).unwrap(), other);
    assert_error(cache, "`values`: capacity: given 3, wanted 4");
    let mut cache = KvCache::new(
        TensorMut::new(&mut keys, [1, 1, 4, 2]).unwrap(),
        TensorMut::new(&mut values, [1, 1, 4, 3]).unwrap(),
    )
    .unwrap();
    let step = |tokens, dim| TensorRef::new(&data, [1, 1, tokens, dim]).unwrap();
    assert_error(cache.append(step(1, 3), step(1, 3)), "`keys`: dim: given 3, wanted 2");
    assert_error(cache.append(step(1, 2), step(2, 3)), "`values`: tokens: given 2, wanted 1");
    cache.append(step(3, 2), step(3, 3)).unwrap();
    assert_error(cache.append(step(2, 2), step(2, 3)), "`keys`: tokens: given 2, wanted at most 1");
    assert_eq!(cache.len(), 3);
    assert_eq!(cache.keys().shape(), [1, 1, 3, 2]);
    assert_eq!((keys[6..].to_vec(), values[9..].to_vec()), (vec![7.0; 2], vec![7.0; 3]));
}
