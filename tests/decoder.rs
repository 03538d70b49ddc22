//! Joins of a decoder's inputs and the cache, in every layout.

mod common;

use common::Numbers;
use masktile::decoder::{KvCache, join_as_columns, join_as_row};
use masktile::{MatMut, MatRef, TensorMut, TensorRef};

#[test]
fn joins_in_every_layout() {
    for (n, d, width) in [(1, 1, 1), (3, 5, 2), (7, 4, 9), (0, 3, 3), (4, 0, 2), (5, 2, 0)] {
        let mut numbers = Numbers::new(n as u64 + 1);
        let (encoder, row, more) = (numbers.many(n * d), numbers.many(d), numbers.many(width));
        let stored = MatRef::new(&encoder, [n, d]).unwrap();
        // The same rows x columns with the columns contiguous in memory.
        let turned: Vec<f32> =
            (0..n * d).map(|at| *stored.get([at % n.max(1), at / n.max(1)]).unwrap()).collect();
        let turned = MatRef::new(&turned, [d, n]).unwrap().transposed();
        for encoder in [stored, turned] {
            for strides in [[d + width + 1, 1], [1, n + 2]] {
                let mut out = [7.0; 200];
                let mut joined = MatMut::with_strides(&mut out, [n + 1, d], strides).unwrap();
                join_as_row(encoder, &row, &mut joined).unwrap();
                for i in 0..=n {
                    for (j, x) in row.iter().enumerate() {
                        let wanted = if i < n { encoder.get([i, j]).unwrap() } else { x };
                        assert_eq!(joined.as_ref().get([i, j]), Some(wanted), "{n} {d} [{i}, {j}]");
                    }
                }
                assert_eq!(out.iter().filter(|x| **x != 7.0).count(), (n + 1) * d);

                let mut out = [7.0; 200];
                let mut joined = MatMut::with_strides(&mut out, [n, d + width], strides).unwrap();
                join_as_columns(encoder, &more, &mut joined).unwrap();
                for i in 0..n {
                    for j in 0..d + width {
                        let wanted =
                            if j < d { encoder.get([i, j]).unwrap() } else { &more[j - d] };
                        assert_eq!(joined.as_ref().get([i, j]), Some(wanted), "{n} {d} [{i}, {j}]");
                    }
                }
                assert_eq!(out.iter().filter(|x| **x != 7.0).count(), n * (d + width));
            }
        }
    }
}

#[test]
fn a_cache_holds_what_was_appended() {
    // batch 2, heads 3, capacity 5; values with tokens before heads.
    let shape = [2, 3, 5, 4];
    let mut numbers = Numbers::new(3);
    let (keys, values) = (numbers.many(2 * 3 * 5 * 4), numbers.many(2 * 3 * 5 * 4));
    let swapped = |data| TensorRef::new(data, [2, 5, 3, 4]).unwrap().heads_and_tokens_swapped();
    let (keys, values) = (TensorRef::new(&keys, shape).unwrap(), swapped(&values));
    let (mut key_memory, mut value_memory) = ([7.0; 120], [7.0; 120]);
    let value_view = TensorMut::new(&mut value_memory, [2, 5, 3, 4]).unwrap();
    let mut cache = KvCache::new(
        TensorMut::new(&mut key_memory, shape).unwrap(),
        value_view.heads_and_tokens_swapped(),
    )
    .unwrap();
    assert!(cache.is_empty() && cache.capacity() == 5);
    for (first, tokens) in [(0, 2), (2, 0), (2, 1), (3, 2)] {
        cache
            .append(
                keys.narrow(2, first, tokens).unwrap(),
                values.narrow(2, first, tokens).unwrap(),
            )
            .unwrap();
        assert_eq!(cache.len(), first + tokens);
        for at in (0..24 * cache.len())
            .map(|i| [i % 2, i / 2 % 3, i / 6 % cache.len(), i / 6 / cache.len()])
        {
            assert_eq!(cache.keys().get(at), keys.get(at), "{at:?}");
            assert_eq!(cache.values().get(at), values.get(at), "{at:?}");
        }
    }
    cache.truncate(9);
    assert_eq!(cache.len(), 5, "truncating to more changes nothing");
    cache.truncate(1);
    assert_eq!((cache.len(), cache.keys().shape()), (1, [2, 3, 1, 4]));
}
