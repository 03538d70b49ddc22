//! Caches in pages: any table is refused or read inside its bounds, and attention over pages has
//! the bits of attention over the same tokens side by side.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::attention::workspace_len;
use masktile::cache::{PagedCache, PagedKv};
use masktile::{Attention, Causal, TensorMut, TensorRef, View};
use masktile_fuzz::common::same_bits;
use masktile_fuzz::{Floats, Lie, indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    /// Pages, heads, tokens of a page, dim, value_dim, queries, columns of the table.
    sizes: [u8; 7],
    table: Vec<u32>,
    lengths: Vec<u8>,
    counts: Vec<u8>,
    /// Of the pages of keys and values.
    lies: [Lie; 2],
    numbers: Floats,
}

/// What an attention writes, the same on every instruction set.
fn attend<'a>(shape: [usize; 4], len: usize, attention: impl Fn() -> Attention<'a>) -> Vec<f32> {
    on_every_isa(shape.iter().product(), |isa, memory| {
        let mut out = TensorMut::new(memory, shape)?;
        let mut workspace = vec![f32::NAN; len];
        attention().isa(isa).run(&mut out, &mut workspace[..])
    })
    .unwrap()
}

fuzz_target!(|case: Case| {
    let [pages, heads, page, dim, value_dim, queries, columns] = case.sizes.map(usize::from);
    let (pages, heads, page) = (pages % 9, heads % 3 + 1, page % 20);
    let (dim, value_dim, queries, columns) =
        (dim % 9 + 1, value_dim % 20 + 1, queries % 4 + 1, columns % 5);
    let batch = case.lengths.len().min(4);
    let mut lengths: Vec<usize> = case.lengths[..batch].iter().map(|x| usize::from(*x)).collect();
    // Most tables name pages; now and then one that is not there.
    let small = |page: &u32| if *page >> 24 == 7 { *page } else { page % (pages.max(1) as u32) };
    let table: Vec<u32> = case.table.iter().map(small).collect();
    let Ok(table) = View::new(&table, [batch, columns]) else { return };

    let shapes = [[pages, heads, page, dim], [pages, heads, page, value_dim]];
    let strides = |i: usize| case.lies[i].strides(shapes[i]);
    let mut memory = [0, 1].map(|i| case.numbers.many(case.lies[i].extent(shapes[i])));

    let [keys, values] = &mut memory;
    let counts: Vec<usize> = case.counts.iter().map(|x| usize::from(*x % 8)).collect();
    let tokens = case.numbers.many(batch * heads * 8 * value_dim.max(dim));
    if let Ok(mut cache) = PagedCache::new(
        TensorMut::with_strides(keys, shapes[0], strides(0)).unwrap(),
        TensorMut::with_strides(values, shapes[1], strides(1)).unwrap(),
        table,
        &mut lengths,
    ) {
        let of = |dim| TensorRef::new(&tokens, [batch, heads, 8, dim]).unwrap();
        let _ = cache.append(of(dim), of(value_dim), &counts);
        assert!(cache.kv().is_ok());
    }

    let view = |i: usize| TensorRef::with_strides(&memory[i], shapes[i], strides(i)).unwrap();
    let Ok(kv) = PagedKv::new(view(0), view(1), table, &lengths) else { return };
    let q = case.numbers.many(batch * heads * queries * dim);
    let q = TensorRef::new(&q, [batch, heads, queries, dim]).unwrap();
    let len = workspace_len(queries, kv.longest(), dim, value_dim);
    let out_shape = [batch, heads, queries, value_dim];
    let paged = attend(out_shape, len, || kv.attend(q));

    let side_by_side = |i: usize| -> Vec<f32> {
        let [_, _, _, dim] = shapes[i];
        indices([batch, heads, kv.longest(), dim])
            .map(|[b, h, t, x]| {
                if t >= lengths[b] {
                    return f32::NAN;
                }
                let at = *table.get([b, t / page]).unwrap() as usize;
                *view(i).get([at, h, t % page, x]).unwrap()
            })
            .collect()
    };
    let (keys, values) = (side_by_side(0), side_by_side(1));
    let tensor = |data, dim| TensorRef::new(data, [batch, heads, kv.longest(), dim]).unwrap();
    let plain = attend(out_shape, len, || {
        Attention::new(q, tensor(&keys[..], dim), tensor(&values[..], value_dim))
            .mask(Causal::ending_at(&lengths))
    });
    assert!(same_bits(&paged, &plain));
});
