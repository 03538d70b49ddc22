//! Attention, its parts and its caches through C: the bits of the Rust API, on every instruction set.

mod common;

use std::ffi::{CStr, CString};

use api::{TensorMut, TensorRef};
use common::{
    BEFORE, args, assert_done, assert_same_bits, last_error, numbers, slice, slice_mut, view,
    view_mut, view_of,
};
use masktile::attention::{
    Attention, Copied, KeyBlocks, Merge, PartialOutput, masktile_attention,
    masktile_attention_key_blocks_len, masktile_attention_workspace_len, masktile_merge,
};
use masktile::cache::{
    KvCache, PagedCache, RaggedCache, masktile_kv_cache_append, masktile_kv_cache_attend,
    masktile_paged_cache_append, masktile_paged_cache_attend, masktile_ragged_cache_append,
    masktile_ragged_cache_attend,
};
use masktile::isa::{
    Isa, masktile_isa_available, masktile_isa_best, masktile_isa_current, masktile_isa_force,
    masktile_isa_name, masktile_isa_named,
};
use masktile::mask::{Mask, MaskKind, MaskOf};
use masktile::optional::Optional;
use masktile::status::Status;

// Every call's memory is what it says: `// SAFETY: lent` stands for that below.

const fn given(value: f32) -> Optional {
    Optional { is_given: 1, value }
}

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const QUERIES: usize = 3;
const KEYS: usize = 600;
const DIM: usize = 8;
const Q: [usize; 4] = [1, HEADS, QUERIES, DIM];
const KV: [usize; 4] = [1, KV_HEADS, KEYS, DIM];

/// An attention with its operands' numbers, set up by C's defaults.
struct Layer {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    workspace: Vec<f32>,
}

impl Layer {
    fn new() -> Self {
        let rows = HEADS / KV_HEADS * QUERIES;
        Layer {
            q: numbers(1, HEADS * QUERIES * DIM),
            k: numbers(2, KV_HEADS * KEYS * DIM),
            v: numbers(3, KV_HEADS * KEYS * DIM),
            workspace: vec![0.0; masktile_attention_workspace_len(rows, KEYS, DIM, DIM)],
        }
    }

    fn in_rust(&self) -> api::Attention<'_> {
        let (k, v) = (TensorRef::new(&self.k, KV).unwrap(), TensorRef::new(&self.v, KV).unwrap());
        api::Attention::new(TensorRef::new(&self.q, Q).unwrap(), k, v)
    }

    fn in_c(&mut self, out: &mut [f32]) -> Attention {
        args(|attention: &mut Attention| {
            attention.q = view(&self.q, Q);
            attention.k = view(&self.k, KV);
            attention.v = view(&self.v, KV);
            attention.out = view_mut(out, Q);
            attention.workspace = slice_mut(&mut self.workspace);
        })
    }
}

#[test]
fn attention_with_everything() {
    let mut layer = Layer::new();
    let (sinks, rows) = ([0.1, 0.2, 0.3, 0.4], HEADS * QUERIES);
    for (copied, same) in [
        (Copied::Scaled, api::attention::Copied::Scaled),
        (Copied::Capped, api::attention::Copied::Capped),
        (Copied::Biased, api::attention::Copied::Biased),
        (Copied::Probs, api::attention::Copied::Probs),
    ] {
        let (mut wanted, mut wanted_lse) = (vec![0.0; rows * DIM], vec![0.0; rows]);
        let mut wanted_copy = vec![0.0; rows * KEYS];
        layer
            .in_rust()
            .mask(api::Causal::bottom_right())
            .scale(1.25)
            .softcap(3.0)
            .temperature(1.5)
            .sinks(&sinks)
            .log_sum_exp(&mut wanted_lse)
            .copy_scores(same, TensorMut::new(&mut wanted_copy, [1, HEADS, QUERIES, KEYS]).unwrap())
            .run(&mut TensorMut::new(&mut wanted, Q).unwrap(), &mut api::Workspace::new())
            .unwrap();

        let (mut out, mut lse) = (vec![0.0; rows * DIM], vec![0.0; rows]);
        let mut copy = vec![0.0; rows * KEYS];
        let causal = bottom_right();
        let mut args = layer.in_c(&mut out);
        (args.masks, args.mask_count) = (&causal, 1);
        (args.scale, args.softcap, args.temperature) = (given(1.25), given(3.0), given(1.5));
        (args.sinks, args.lse) = (slice(&sinks), slice_mut(&mut lse));
        args.copied = copied as u32;
        args.copy = view_mut(&mut copy, [1, HEADS, QUERIES, KEYS]);
        // SAFETY: lent
        assert_done(unsafe { masktile_attention(&args) });
        assert_same_bits(&out, &wanted, "out");
        assert_same_bits(&lse, &wanted_lse, "lse");
        assert_same_bits(&copy, &wanted_copy, "copy");
    }
}

fn bottom_right() -> Mask {
    args(|mask: &mut Mask| {
        mask.kind = MaskKind::Causal as u32;
        let kind = masktile::mask::OffsetKind::BottomRight as u32;
        mask.of = MaskOf {
            offset: masktile::mask::Offset {
                kind,
                same: 0,
                per_batch: slice(&[]),
                lengths: slice(&[]),
            },
        };
    })
}

/// In two parts, merged by key blocks with the bits of the whole, and by outputs nearly so.
#[test]
fn attention_in_parts_merged() {
    let mut layer = Layer::new();
    let rows = HEADS * QUERIES;
    let (mut whole, mut whole_lse) = (vec![0.0; rows * DIM], vec![0.0; rows]);
    let mut args_whole = layer.in_c(&mut whole);
    args_whole.lse = slice_mut(&mut whole_lse);
    // SAFETY: lent
    assert_done(unsafe { masktile_attention(&args_whole) });

    let cut = [(0, 512), (512, 88)];
    let mut blocks =
        cut.map(|(_, keys)| vec![0.0; masktile_attention_key_blocks_len(rows, keys, DIM)]);
    let mut outputs = [vec![0.0; rows * DIM], vec![0.0; rows * DIM]];
    let mut lses = [vec![0.0; rows], vec![0.0; rows]];
    for (i, (first, keys)) in cut.into_iter().enumerate() {
        let mut part = layer.in_c(&mut outputs[i]);
        for kv in [&mut part.k, &mut part.v] {
            kv.data = kv.data.wrapping_add(first * DIM);
            kv.len -= first * DIM;
            kv.shape[2] = keys;
        }
        (part.first_key, part.all_keys) = (first, KEYS);
        part.lse = slice_mut(&mut lses[i]);
        // SAFETY: lent
        assert_done(unsafe { masktile_attention(&part) });
        part.lse = slice_mut(&mut []);
        part.lse.data = std::ptr::null_mut();
        part.blocks = slice_mut(&mut blocks[i]);
        // SAFETY: lent
        assert_eq!(unsafe { masktile_attention(&part) }, Status::Misplaced);
        part.out.data = std::ptr::null_mut();
        // SAFETY: lent
        assert_done(unsafe { masktile_attention(&part) });
    }

    let blocks: Vec<KeyBlocks> = blocks
        .iter()
        .zip(cut)
        .map(|(blocks, (_, keys))| KeyBlocks { blocks: slice(blocks), keys })
        .collect();
    let outputs: Vec<PartialOutput> = outputs
        .iter()
        .zip(&lses)
        .map(|(out, lse)| PartialOutput { out: view(out, Q), lse: slice(lse) })
        .collect();
    let (mut merged, mut lse) = (vec![0.0; rows * DIM], vec![0.0; rows]);
    let mut args = args(|merge: &mut Merge| {
        merge.out = view_mut(&mut merged, Q);
        merge.lse = slice_mut(&mut lse);
        merge.blocks = slice(&blocks);
    });
    // SAFETY: lent
    assert_done(unsafe { masktile_merge(&args) });
    assert_same_bits(&merged, &whole, "merged");
    assert_same_bits(&lse, &whole_lse, "merged lse");
    args.outputs = slice(&outputs);
    // SAFETY: lent
    assert_eq!(unsafe { masktile_merge(&args) }, Status::Misplaced);
    args.blocks = masktile::memory::Slice { data: std::ptr::null(), len: 0 };
    // SAFETY: lent
    assert_done(unsafe { masktile_merge(&args) });
    for (given, wanted) in merged.iter().zip(&whole) {
        assert!((given - wanted).abs() < 1e-6, "{given} {wanted}");
    }
}

/// Attention of the last query over the first `tokens` keys, by the Rust API.
fn last_of(layer: &Layer, tokens: usize) -> Vec<f32> {
    let mut out = vec![0.0; HEADS * DIM];
    let narrowed = |data| TensorRef::new(data, KV).unwrap().narrow(2, 0, tokens).unwrap();
    let q = TensorRef::new(&layer.q, [1, HEADS, 1, QUERIES * DIM]).unwrap();
    api::Attention::new(q.narrow(3, 0, DIM).unwrap(), narrowed(&layer.k), narrowed(&layer.v))
        .run(&mut TensorMut::new(&mut out, [1, HEADS, 1, DIM]).unwrap(), &mut api::Workspace::new())
        .unwrap();
    out
}

/// One query of each head, for a cache to attend with.
fn decode(layer: &mut Layer, out: &mut [f32]) -> Attention {
    let mut args = layer.in_c(out);
    (args.q.shape, args.q.strides) = ([1, HEADS, 1, DIM], [0, QUERIES * DIM, 0, 1]);
    args.out = view_mut(out, [1, HEADS, 1, DIM]);
    for kv in [&mut args.k, &mut args.v] {
        kv.data = std::ptr::null();
    }
    args
}

/// Tokens `first..first + count` of the layer's keys and values.
fn tokens(data: &[f32], first: usize, count: usize) -> masktile::memory::View<f32> {
    let mut view = view(data, KV);
    view.data = view.data.wrapping_add(first * DIM);
    view.len -= first * DIM;
    view.shape[2] = count;
    view
}

#[test]
fn kv_cache() {
    let mut layer = Layer::new();
    let capacity = [1, KV_HEADS, 10, DIM];
    let (mut keys, mut values) = (vec![0.0; KV_HEADS * 10 * DIM], vec![0.0; KV_HEADS * 10 * DIM]);
    let mut cache = args(|cache: &mut KvCache| {
        cache.keys = view_mut(&mut keys, capacity);
        cache.values = view_mut(&mut values, capacity);
    });
    for (first, count) in [(0, 4), (4, 1), (5, 3)] {
        let (k, v) = (tokens(&layer.k, first, count), tokens(&layer.v, first, count));
        // SAFETY: lent
        assert_done(unsafe { masktile_kv_cache_append(&mut cache, k, v) });
        assert_eq!(cache.len, first + count);
        let mut out = vec![0.0; HEADS * DIM];
        let attention = decode(&mut layer, &mut out);
        // SAFETY: lent
        assert_done(unsafe { masktile_kv_cache_attend(&cache, &attention) });
        assert_same_bits(&out, &last_of(&layer, first + count), "attend");
    }
    let (k, v) = (tokens(&layer.k, 0, 3), tokens(&layer.v, 0, 3));
    // SAFETY: lent
    assert_eq!(unsafe { masktile_kv_cache_append(&mut cache, k, v) }, Status::TooLarge);
    assert_eq!(last_error(), "`keys`: tokens: given 3, wanted at most 2");
    assert_eq!(cache.len, 8);
    cache.len = 11;
    // SAFETY: lent
    assert_eq!(unsafe { masktile_kv_cache_append(&mut cache, k, v) }, Status::TooLarge);
    let mut out = vec![BEFORE; HEADS * DIM];
    let mut attention = decode(&mut layer, &mut out);
    // SAFETY: lent
    assert_eq!(unsafe { masktile_kv_cache_attend(&cache, &attention) }, Status::TooLarge);
    attention.k = k;
    // SAFETY: lent
    assert_eq!(unsafe { masktile_kv_cache_attend(&cache, &attention) }, Status::Misplaced);
    assert_eq!(last_error(), "`k`: given here, wanted those of the cache");
    assert_eq!(out, [BEFORE; HEADS * DIM]);
}

#[test]
fn ragged_and_paged_caches() {
    let mut layer = Layer::new();
    let len = KV_HEADS * 12 * DIM;
    let memory = || vec![0.0; len];
    let [mut keys, mut values, mut page_keys, mut page_values] = std::array::from_fn(|_| memory());
    let (mut lengths, mut page_lengths) = ([0usize], [0usize]);
    let table = [2u32, 0, 1];
    let ragged = args(|cache: &mut RaggedCache| {
        cache.keys = view_mut(&mut keys, [1, KV_HEADS, 12, DIM]);
        cache.values = view_mut(&mut values, [1, KV_HEADS, 12, DIM]);
        cache.lengths = slice_mut(&mut lengths);
    });
    let paged = args(|cache: &mut PagedCache| {
        cache.keys = view_mut(&mut page_keys, [3, KV_HEADS, 4, DIM]);
        cache.values = view_mut(&mut page_values, [3, KV_HEADS, 4, DIM]);
        cache.table = view_of(&table, [1, 1, 1, 3]);
        cache.lengths = slice_mut(&mut page_lengths);
    });
    for (first, count) in [(0, 4), (4, 1), (5, 4)] {
        let (k, v) = (tokens(&layer.k, first, count), tokens(&layer.v, first, count));
        // SAFETY: lent
        unsafe {
            assert_done(masktile_ragged_cache_append(&ragged, k, v, slice(&[count])));
            assert_done(masktile_paged_cache_append(&paged, k, v, slice(&[count])));
            assert_eq!(masktile_ragged_cache_append(&ragged, k, v, slice(&[9])), Status::TooLarge);
            assert_eq!(masktile_paged_cache_append(&paged, k, v, slice(&[9])), Status::TooLarge);
        }
        let wanted = last_of(&layer, first + count);
        let mut out = vec![0.0; HEADS * DIM];
        let attention = decode(&mut layer, &mut out);
        // SAFETY: lent
        assert_done(unsafe { masktile_ragged_cache_attend(&ragged, &attention) });
        assert_same_bits(&out, &wanted, "ragged");
        out.fill(0.0);
        let attention = decode(&mut layer, &mut out);
        // SAFETY: lent
        assert_done(unsafe { masktile_paged_cache_attend(&paged, &attention) });
        assert_same_bits(&out, &wanted, "paged");
    }
    assert_eq!((lengths, page_lengths), ([9], [9]));
}

#[test]
fn instruction_sets() {
    let mut isas = [Isa::Default; 8];
    // SAFETY: lent
    let count = unsafe { masktile_isa_available(isas.as_mut_ptr(), 8) };
    assert_eq!(count, api::Isa::available().count());
    // SAFETY: lent
    assert_eq!(unsafe { masktile_isa_available(std::ptr::null_mut(), 0) }, count);
    assert_eq!(masktile_isa_best(), isas[count - 1]);
    for (isa, same) in isas.into_iter().zip(api::Isa::available()) {
        // SAFETY: lent
        let name = unsafe { CStr::from_ptr(masktile_isa_name(isa as u32)) };
        assert_eq!(name.to_str(), Ok(same.name()));
        let mut named = Isa::Default;
        // SAFETY: lent
        assert_done(unsafe { masktile_isa_named(name.as_ptr(), &mut named) });
        assert_eq!(named, isa);
        assert_done(masktile_isa_force(isa as u32));
        let mut current = Isa::Default;
        // SAFETY: lent
        assert_done(unsafe { masktile_isa_current(&mut current) });
        assert_eq!(current, isa);

        let mut layer = Layer::new();
        let (mut out, mut wanted) = (vec![0.0; HEADS * QUERIES * DIM], vec![0.0; 96]);
        let mut args = layer.in_c(&mut out);
        args.isa = isa as u32;
        // SAFETY: lent
        assert_done(unsafe { masktile_attention(&args) });
        let attention = layer.in_rust().isa(same);
        let mut view = TensorMut::new(&mut wanted, Q).unwrap();
        attention.run(&mut view, &mut api::Workspace::new()).unwrap();
        assert_same_bits(&out, &wanted, same.name());
    }
    assert_done(masktile_isa_force(Isa::Default as u32));
    assert_eq!(masktile_isa_force(6), Status::UnknownIsa);
    assert_eq!(last_error(), "`isa`: given 6, wanted one of MasktileIsa");
    assert_eq!(masktile_isa_force(Isa::Wasm128 as u32), Status::UnavailableIsa);
    assert!(masktile_isa_name(6).is_null());
    let mut named = Isa::Neon;
    let name = CString::new("avx1024").unwrap();
    // SAFETY: lent
    assert_eq!(unsafe { masktile_isa_named(name.as_ptr(), &mut named) }, Status::UnknownIsa);
    assert!(last_error().starts_with("`isa`: given \"avx1024\", which is no instruction set"));
    assert_eq!(named, Isa::Neon, "touched");
}
