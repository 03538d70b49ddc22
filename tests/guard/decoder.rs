//! Joins and the cache.

use masktile::cache::KvCache;
use masktile::decoder::{join_as_columns, join_as_row};

use super::common::{Numbers, thinned};
use super::{Input, Lie, Output, against_both};

#[test]
fn joins() {
    against_both("joins", |tally| {
        for n in thinned(0..=20) {
            let (d, width) = (n * 3 % 19, n * 5 % 7);
            for lie in Lie::ALL {
                let mut numbers = Numbers::new(n as u64);
                let encoder = Input::new(&mut numbers, [n, d], lie.strides([n, d]));
                let (row, more) = (numbers.many(d), numbers.many(width));
                let case = format!("{:?} {n} {d} {width} {lie:?}", tally.against);
                tally.cases += 2;
                let mut joined = Output::new([n + 1, d], lie.strides([n + 1, d]));
                join_as_row(encoder.view(), &row, &mut joined.view()).unwrap();
                assert!(joined.elements(&case).ends_with(&row), "{case}");
                let mut joined = Output::new([n, d + width], lie.strides([n, d + width]));
                join_as_columns(encoder.view(), &more, &mut joined.view()).unwrap();
                let joined = joined.elements(&case);
                assert!(
                    joined.chunks((d + width).max(1)).all(|row| row.ends_with(&more)),
                    "{case}"
                );
            }
        }
    });
}

#[test]
fn cache() {
    against_both("cache", |tally| {
        for dim in thinned(0..=20) {
            for lie in Lie::ALL {
                tally.cases += 1;
                let (shape, tokens, value_dim) = ([2, 3, 4, dim], [2, 3, 2, dim], dim + 1);
                let (value_shape, value_tokens) = ([2, 3, 4, value_dim], [2, 3, 2, value_dim]);
                let mut numbers = Numbers::new(dim as u64);
                let key = Input::new(&mut numbers, tokens, lie.strides(tokens));
                let value = Input::new(&mut numbers, value_tokens, lie.strides(value_tokens));
                let mut keys = Output::new(shape, lie.strides(shape));
                let mut values = Output::new(value_shape, lie.strides(value_shape));
                let mut cache = KvCache::new(keys.view(), values.view()).unwrap();
                cache.append(key.view(), value.view()).unwrap();
                cache.append(key.view(), value.view()).unwrap();
                assert!(cache.append(key.view(), value.view()).is_err(), "it is full");
                let case = format!("{:?} {dim} {lie:?}", tally.against);
                keys.elements(&case);
                values.elements(&case);
            }
        }
    });
}
