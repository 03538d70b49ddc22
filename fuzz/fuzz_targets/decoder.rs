//! Joins and the cache against plain vectors.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::cache::KvCache;
use masktile::decoder::{join_as_columns, join_as_row};
use masktile::{MatMut, MatRef, TensorMut, TensorRef};
use masktile_fuzz::{Floats, Lie, indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    sizes: [u8; 6],
    lies: [Lie; 4],
    numbers: Floats,
    steps: Vec<Step>,
    joined: [u8; 2],
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// So many tokens; the second number is added to the width of the values.
    Append(u8, bool),
    Truncate(u8),
}

impl Case {
    fn cache(&self) {
        let [batch, heads, capacity, dim, value_dim, _] = self.sizes.map(usize::from);
        let (lead, capacity) = ([batch % 3, heads % 3], capacity % 20);
        let shape = |tokens, dim| [lead[0], lead[1], tokens, dim];
        let shapes = [shape(capacity, dim % 9), shape(capacity, value_dim % 9)];
        let mut memory = [0, 1].map(|i| vec![7.0; self.lies[i].extent(shapes[i])]);
        let [keys, values] = &mut memory;
        let view = |memory, i: usize| {
            TensorMut::with_strides(memory, shapes[i], self.lies[i].strides(shapes[i])).unwrap()
        };
        let mut cache = KvCache::new(view(keys, 0), view(values, 1)).unwrap();
        // Each token as it was appended: all batches and heads, keys and values.
        let mut model: Vec<[Vec<f32>; 2]> = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Truncate(len) => {
                    cache.truncate(usize::from(*len));
                    model.truncate(usize::from(*len));
                }
                Step::Append(tokens, is_wider) => {
                    let tokens = usize::from(tokens % 8);
                    let wide = usize::from(*is_wider);
                    let new = [shape(tokens, dim % 9), shape(tokens, value_dim % 9 + wide)];
                    let numbers = [0, 1].map(|i| {
                        let many = self.numbers.many(self.lies[i + 2].extent(new[i]) + number);
                        many[number..].to_vec()
                    });
                    let view = |i: usize| {
                        let strides = self.lies[i + 2].strides(new[i]);
                        TensorRef::with_strides(&numbers[i], new[i], strides).unwrap()
                    };
                    let fits = !is_wider && model.len() + tokens <= capacity;
                    assert_eq!(cache.append(view(0), view(1)).is_ok(), fits);
                    for t in (0..tokens).filter(|_| fits) {
                        model.push([0, 1].map(|i| {
                            let [batch, heads, _, dim] = new[i];
                            let of_token = indices([batch, heads, dim]);
                            of_token.map(|[b, h, x]| *view(i).get([b, h, t, x]).unwrap()).collect()
                        }));
                    }
                }
            }
            assert_eq!(cache.len(), model.len());
            for (t, token) in model.iter().enumerate() {
                for (i, view) in [cache.keys(), cache.values()].into_iter().enumerate() {
                    let of_token = indices([lead[0], lead[1], shapes[i][3]]).zip(&token[i]);
                    for ([b, h, x], wanted) in of_token {
                        let given = view.get([b, h, t, x]).unwrap();
                        assert_eq!(given.to_bits(), wanted.to_bits());
                    }
                }
            }
        }
    }

    fn joins(&self) {
        let [n, d, width, ..] = self.sizes.map(|size| usize::from(size % 20));
        let encoder = self.numbers.many(self.lies[0].extent([n, d]));
        let encoder = MatRef::with_strides(&encoder, [n, d], self.lies[0].strides([n, d])).unwrap();
        let (row, more) = (self.numbers.many(d), self.numbers.many(width));
        // Off by one now and then, which is an error.
        let [rows, columns] = self.joined.map(|size| usize::from(size % 8 == 0));
        let size = [n + 1 + rows, d + columns];
        let strides = self.lies[1].strides(size);
        let joined = on_every_isa(self.lies[1].extent(size), |_, memory| {
            join_as_row(encoder, &row, &mut MatMut::with_strides(memory, size, strides)?)
        });
        assert_eq!(joined.is_some(), rows + columns == 0);
        if let Some(joined) = &joined {
            let view = MatRef::with_strides(joined, size, strides).unwrap();
            for [i, j] in indices(size) {
                let wanted = encoder.get([i, j]).unwrap_or(&row[j]);
                assert_eq!(view.get([i, j]).unwrap().to_bits(), wanted.to_bits());
            }
        }
        let size = [n + rows, d + width + columns];
        let strides = self.lies[1].strides(size);
        let joined = on_every_isa(self.lies[1].extent(size), |_, memory| {
            join_as_columns(encoder, &more, &mut MatMut::with_strides(memory, size, strides)?)
        });
        assert_eq!(joined.is_some(), rows + columns == 0);
        if let Some(joined) = &joined {
            let view = MatRef::with_strides(joined, size, strides).unwrap();
            for [i, j] in indices(size) {
                let wanted = if j < d { encoder.get([i, j]).unwrap() } else { &more[j - d] };
                assert_eq!(view.get([i, j]).unwrap().to_bits(), wanted.to_bits());
            }
        }
    }
}

fuzz_target!(|case: Case| {
    case.cache();
    case.joins();
});
