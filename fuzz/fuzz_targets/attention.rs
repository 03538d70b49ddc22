//! Attention of any shape under any composition of masks: near float64, nothing from behind a
//! mask, the same bits on every instruction set.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use masktile::{Attention, TensorMut, TensorRef};
use masktile_fuzz::common::{AttentionRow, same_bits};
use masktile_fuzz::{Floats, Lie, MaskChoice, indices, on_every_isa};

#[derive(Arbitrary, Debug)]
struct Case {
    /// Batch, key/value heads, query heads of each, queries, keys, dim, value_dim.
    sizes: [u8; 7],
    has_many_keys: bool,
    /// Of queries, keys, values and the output.
    lies: [Lie; 4],
    numbers: [Floats; 3],
    scale: Option<f32>,
    mask: MaskChoice,
    softcap: Option<f32>,
    has_sinks: bool,
}

fuzz_target!(|case: Case| {
    let [batch, kv_heads, group, queries, keys, dim, value_dim] = case.sizes.map(usize::from);
    let (batch, kv_heads, group) = (batch % 2 + 1, kv_heads % 2 + 1, group % 3 + 1);
    let keys = if case.has_many_keys { keys + 230 } else { keys % 40 };
    let (heads, queries, dim, value_dim) =
        (kv_heads * group, queries % 20, dim % 20, value_dim % 40);
    let shapes = [
        [batch, heads, queries, dim],
        [batch, kv_heads, keys, dim],
        [batch, kv_heads, keys, value_dim],
        [batch, heads, queries, value_dim],
    ];
    let mut memory: [Vec<f32>; 3] =
        std::array::from_fn(|i| case.numbers[i].many(case.lies[i].extent(shapes[i])));
    let strides = |i: usize| case.lies[i].strides(shapes[i]);
    let shape = [batch, heads, queries, keys];
    let rows = batch * heads * queries;
    let sinks = case.numbers[0].many(heads);
    let len = masktile::attention::workspace_len(group * queries, keys, dim, value_dim);

    case.mask.with(shape, |data, mask| {
        let run = |memory: &[Vec<f32>; 3]| {
            on_every_isa(rows + case.lies[3].extent(shapes[3]), |isa, written| {
                let view =
                    |i: usize| TensorRef::with_strides(&memory[i], shapes[i], strides(i)).unwrap();
                let (lse, out) = written.split_at_mut(rows);
                let mut out = TensorMut::with_strides(out, shapes[3], strides(3)).unwrap();
                let attention = Attention::new(view(0), view(1), view(2)).mask(mask).isa(isa);
                let attention = match case.scale {
                    Some(scale) => attention.scale(scale),
                    None => attention,
                };
                let attention = match case.softcap {
                    Some(cap) => attention.softcap(cap),
                    None => attention,
                };
                let attention = if case.has_sinks { attention.sinks(&sinks) } else { attention };
                let mut workspace = vec![f32::NAN; len];
                attention.log_sum_exp(lse).run(&mut out, &mut workspace[..])
            })
        };
        let Some(written) = run(&memory) else { return };
        let clean = memory.clone();

        // Keys and values that no query keeps may hold anything.
        for [b, h, key] in indices([batch, kv_heads, keys]) {
            let is_kept = (0..group * queries).any(|row| {
                let (head, query) = (h * group + row / queries, row % queries);
                mask.kept(shape, [b, head, query, key]).unwrap()
            });
            if !is_kept {
                for i in [1, 2] {
                    let strides = strides(i);
                    for x in 0..shapes[i][3] {
                        let at = [b, h, key, x];
                        let at: usize = at.iter().zip(strides).map(|(at, by)| at * by).sum();
                        memory[i][at] = if x % 2 == 0 { f32::NAN } else { f32::INFINITY };
                    }
                }
            }
        }
        assert!(same_bits(&run(&memory).unwrap(), &written), "poison came through");

        let scale = case.scale.unwrap_or((1.0 / (dim.max(1) as f64).sqrt()) as f32);
        let is_plain = case.softcap.is_none() && !case.has_sinks;
        if !is_plain || !case.numbers.iter().all(Floats::are_plain) || !(0.0..10.0).contains(&scale)
        {
            return;
        }
        let out = TensorRef::with_strides(&written[rows..], shapes[3], strides(3)).unwrap();
        let row = |i: usize, at: [usize; 3]| -> Vec<f32> {
            let view = TensorRef::with_strides(&clean[i], shapes[i], strides(i)).unwrap();
            (0..shapes[i][3]).map(|x| *view.get([at[0], at[1], at[2], x]).unwrap()).collect()
        };
        for [b, h, query] in indices([batch, heads, queries]) {
            let all = |i| (0..keys).map(|key| row(i, [b, h / group, key])).collect::<Vec<_>>();
            let (q, k, v) = (row(0, [b, h, query]), all(1), all(2));
            let oracle = AttentionRow {
                q: &q,
                keys: k.iter().map(|row| &row[..]).collect(),
                values: v.iter().map(|row| &row[..]).collect(),
                scale: f64::from(scale),
            };
            let (wanted, magnitude) = oracle.output(value_dim, |key, score| {
                let at = [b, h, query, key];
                mask.kept(shape, at).unwrap().then(|| data.biased(&mask, at, score))
            });
            // Values are below 1; scores are a chain as long as dim, and biases are below 2.
            let bound = (20.0 + (dim as f64 + 4.0) * (magnitude + 2.0)) * 2f64.powi(-23);
            for (x, wanted) in wanted.into_iter().enumerate() {
                let given = f64::from(*out.get([b, h, query, x]).unwrap());
                assert!((given - wanted).abs() <= bound, "{given}, wanted {wanted}, {bound:e}");
            }
        }
    });
});
