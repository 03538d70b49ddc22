//! Caches that are filled differently or lie in pages, and attention over parts of the keys.

use masktile::attention::{
    KEY_BLOCK, KeyBlocks, Merge, PartialOutput, key_blocks_len, workspace_len,
};
use masktile::cache::{PagedCache, PagedKv, RaggedCache, ScaledTokens};
use masktile::{Attention, TensorRef, View, bf16, f16};

use super::common::{Numbers, thinned};
use super::{Input, Lie, Output, against_both};

/// Pages of every length, some of them shared or unused, with a table as long as it must be.
#[test]
fn attention_over_pages() {
    against_both("attention over pages", |tally| {
        for page in thinned(1..=20) {
            let (lengths, dim, value_dim) = (vec![2 * page + 1, page, 1], page % 7 + 1, page + 3);
            // The first batch needs three pages, the others one; the rest names no page.
            let (pages, no_page) = (4, u32::MAX);
            let table = vec![3, 0, 2, 1, no_page, no_page, 0, no_page, no_page];
            let table = View::new(&table, [3, 3]).unwrap();
            for lie in Lie::ALL {
                let mut numbers = Numbers::new(page as u64);
                let mut tensor = |shape| Input::new(&mut numbers, shape, lie.strides(shape));
                let keys = tensor([pages, 2, page, dim]);
                let values = tensor([pages, 2, page, value_dim]);
                let q = tensor([3, 4, 2, dim]);
                let kv = PagedKv::new(keys.view(), values.view(), table, &lengths).unwrap();
                let len = workspace_len(4, 2 * page + 1, dim, value_dim);
                tally.each_isa(format_args!("pages of {page} {lie:?}"), |isa, case| {
                    let shape = [3, 4, 2, value_dim];
                    let mut out = Output::new(shape, lie.strides(shape));
                    let mut workspace = vec![f32::NAN; len];
                    let attention = kv.attend(q.view()).isa(isa);
                    attention.run(&mut out.view(), &mut workspace[..]).unwrap();
                    out.elements(case)
                });
            }
        }
    });
}

/// Keys and values of halves and of eight bits, each ending where its memory ends.
#[test]
fn attention_over_fewer_bits() {
    against_both("attention over fewer bits", |tally| {
        for keys in thinned(1..=35) {
            let (dim, value_dim, queries) = (keys % 20 + 1, keys % 37 + 1, keys % 3 + 1);
            let mut numbers = Numbers::new(keys as u64);
            let q = numbers.many(2 * queries * dim);
            let q = TensorRef::new(&q, [1, 2, queries, dim]).unwrap();
            let k: Box<[f16]> = numbers.many(keys * dim).into_iter().map(f16::from_f32).collect();
            let v: Box<[bf16]> =
                numbers.many(keys * value_dim).into_iter().map(bf16::from_f32).collect();
            let codes = |n: usize| -> Box<[i8]> { (0..n).map(|i| (i * 37) as i8).collect() };
            let (key_codes, value_codes) = (codes(keys * dim), codes(keys * value_dim));
            let scales: Box<[f32]> = numbers.many(keys).into();
            let (k_shape, v_shape) = ([1, 1, keys, dim], [1, 1, keys, value_dim]);
            let scaled = |codes, shape| {
                let scales = View::new(&scales, [1, 1, keys]).unwrap();
                ScaledTokens::new(TensorRef::new(codes, shape).unwrap(), scales).unwrap()
            };
            for is_scaled in [false, true] {
                let case = format_args!("{keys} keys, scaled {is_scaled}");
                tally.each_isa(case, |isa, case| {
                    let attention = if is_scaled {
                        Attention::scaled(
                            q,
                            scaled(&key_codes, k_shape),
                            scaled(&value_codes, v_shape),
                        )
                    } else {
                        let k = TensorRef::new(&k, k_shape).unwrap();
                        Attention::new(q, k, TensorRef::new(&v, v_shape).unwrap())
                    };
                    let shape = [1, 2, queries, value_dim];
                    let mut out = Output::new(shape, Lie::Gaps.strides(shape));
                    let len = workspace_len(2 * queries, keys, dim, value_dim);
                    let mut workspace = vec![f32::NAN; len];
                    attention.isa(isa).run(&mut out.view(), &mut workspace[..]).unwrap();
                    out.elements(case)
                });
            }
        }
    });
}

#[test]
fn appending() {
    against_both("appending to caches", |tally| {
        for page in thinned(1..=20) {
            for lie in Lie::ALL {
                tally.cases += 2;
                let mut numbers = Numbers::new(page as u64);
                let mut tensor = |shape| Input::new(&mut numbers, shape, lie.strides(shape));
                let (keys, values) = (tensor([2, 3, 5, page]), tensor([2, 3, 5, 2]));
                let case = format!("{:?} {page} {lie:?}", tally.against);

                let (key_shape, value_shape) = ([2, 3, 7, page], [2, 3, 7, 2]);
                let mut key_memory = Output::new(key_shape, lie.strides(key_shape));
                let mut value_memory = Output::new(value_shape, lie.strides(value_shape));
                let mut lengths = vec![2, 3];
                RaggedCache::new(key_memory.view(), value_memory.view(), &mut lengths)
                    .unwrap()
                    .append(keys.view(), values.view(), &[5, 4])
                    .unwrap();
                assert_eq!(lengths, [7, 7], "{case}");
                key_memory.elements(&case);
                value_memory.elements(&case);

                // 7 tokens in pages.
                let columns = 7usize.div_ceil(page);
                let table: Vec<u32> = (0..2 * columns as u32).rev().collect();
                let (key_shape, value_shape) =
                    ([2 * columns, 3, page, page], [2 * columns, 3, page, 2]);
                let mut key_memory = Output::new(key_shape, lie.strides(key_shape));
                let mut value_memory = Output::new(value_shape, lie.strides(value_shape));
                let mut lengths = vec![2, 3];
                let table = View::new(&table, [2, columns]).unwrap();
                PagedCache::new(key_memory.view(), value_memory.view(), table, &mut lengths)
                    .unwrap()
                    .append(keys.view(), values.view(), &[5, 4])
                    .unwrap();
                key_memory.elements(&case);
                value_memory.elements(&case);
            }
        }
    });
}

/// Keys in two parts, merged from their blocks and from their outputs.
#[test]
fn attention_in_parts() {
    against_both("attention in parts", |tally| {
        for value_dim in thinned(1..=35) {
            let (queries, dim, keys, lie) = (3, 4, KEY_BLOCK + value_dim, Lie::ALL[value_dim % 4]);
            let mut numbers = Numbers::new(value_dim as u64);
            let mut tensor = |shape| Input::new(&mut numbers, shape, lie.strides(shape));
            let q = tensor([1, 2, queries, dim]);
            let (k, v) = (tensor([1, 2, keys, dim]), tensor([1, 2, keys, value_dim]));
            let parts = [(0, KEY_BLOCK), (KEY_BLOCK, value_dim)];
            let rows = 2 * queries;
            let shape = [1, 2, queries, value_dim];
            let case = format_args!("{value_dim} values {lie:?}");
            let attend = |isa, (first, len): (usize, usize)| {
                Attention::new(
                    q.view(),
                    k.view().narrow(2, first, len).unwrap(),
                    v.view().narrow(2, first, len).unwrap(),
                )
                .part_of(first, keys)
                .isa(isa)
            };
            tally.each_isa(case, |isa, case| {
                let blocks = parts.map(|part| {
                    let mut workspace =
                        vec![f32::NAN; workspace_len(queries, part.1, dim, value_dim)];
                    let mut blocks = vec![f32::NAN; key_blocks_len(rows, part.1, value_dim)];
                    attend(isa, part).run_key_blocks(&mut blocks, &mut workspace[..]).unwrap();
                    blocks
                });
                let blocks: Vec<KeyBlocks<'_>> = blocks
                    .iter()
                    .zip(parts)
                    .map(|(blocks, (_, keys))| KeyBlocks { blocks, keys })
                    .collect();
                let mut out = Output::new(shape, lie.strides(shape));
                let mut lse = Output::new([rows], [1]);
                Merge::blocks(&blocks)
                    .log_sum_exp(&mut lse.memory)
                    .isa(isa)
                    .run(&mut out.view())
                    .unwrap();
                let mut all = out.elements(case);
                all.extend(lse.elements(case));
                all
            });
            tally.each_isa(case, |isa, case| {
                let outputs = parts.map(|part| {
                    let mut workspace =
                        vec![f32::NAN; workspace_len(queries, part.1, dim, value_dim)];
                    let mut out = Output::new(shape, lie.strides(shape));
                    let mut lse = vec![f32::NAN; rows];
                    attend(isa, part)
                        .log_sum_exp(&mut lse)
                        .run(&mut out.view(), &mut workspace[..])
                        .unwrap();
                    (out, lse)
                });
                let outputs: Vec<PartialOutput<'_>> = outputs
                    .iter()
                    .map(|(out, lse)| PartialOutput {
                        out: TensorRef::with_strides(&out.memory, shape, out.strides).unwrap(),
                        lse,
                    })
                    .collect();
                let mut out = Output::new(shape, lie.strides(shape));
                Merge::outputs(&outputs).isa(isa).run(&mut out.view()).unwrap();
                out.elements(case)
            });
        }
    });
}
