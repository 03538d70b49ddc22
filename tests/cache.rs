//! Caches: appended step by step, ragged or in pages, they give the bits of contiguous attention.

mod common;

use common::{MaskData, Numbers, assert_same_bits};
use masktile::cache::{KvCache, PagedCache, PagedKv, RaggedCache};
use masktile::{
    Attention, Causal, Error, Isa, Mask, Offset, TensorMut, TensorRef, View, Window, Workspace,
};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 6;
const WIDTH: usize = 18;
const BATCH: usize = 3;
const TOKENS: usize = 310;

/// Tokens of three sequences, as far as each is long.
const LENGTHS: [usize; BATCH] = [310, 37, 256];

struct Tokens {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Tokens {
    fn new() -> Self {
        let mut numbers = Numbers::new(5);
        Tokens {
            q: numbers.many(BATCH * HEADS * TOKENS * DIM).iter().map(|x| x * 3.0).collect(),
            k: numbers.many(BATCH * KV_HEADS * TOKENS * DIM),
            v: numbers.many(BATCH * KV_HEADS * TOKENS * WIDTH),
        }
    }

    fn k(&self) -> TensorRef<'_> {
        TensorRef::new(&self.k, [BATCH, KV_HEADS, TOKENS, DIM]).unwrap()
    }

    fn v(&self) -> TensorRef<'_> {
        TensorRef::new(&self.v, [BATCH, KV_HEADS, TOKENS, WIDTH]).unwrap()
    }

    /// The last `queries` queries of each sequence.
    fn last(&self, queries: usize) -> Vec<f32> {
        let q = TensorRef::new(&self.q, [BATCH, HEADS, TOKENS, DIM]).unwrap();
        let mut last = Vec::new();
        for (b, length) in LENGTHS.into_iter().enumerate() {
            for h in 0..HEADS {
                for i in length - queries..length {
                    last.extend((0..DIM).map(|x| *q.get([b, h, i, x]).unwrap()));
                }
            }
        }
        last
    }

    /// Each sequence's last queries over its own tokens, alone.
    fn wanted(&self, isa: Isa, queries: usize, mask: Mask<'_>) -> Vec<f32> {
        let q = self.last(queries);
        let q = TensorRef::new(&q, [BATCH, HEADS, queries, DIM]).unwrap();
        let mut all = Vec::new();
        for (b, length) in LENGTHS.into_iter().enumerate() {
            let part = |x: TensorRef<'_>| {
                x.narrow(0, b, 1).unwrap().narrow(2, 0, length).unwrap().as_owned()
            };
            let (k, v) = (part(self.k()), part(self.v()));
            let mut out = vec![f32::NAN; HEADS * queries * WIDTH];
            Attention::new(
                q.narrow(0, b, 1).unwrap(),
                TensorRef::new(&k, [1, KV_HEADS, length, DIM]).unwrap(),
                TensorRef::new(&v, [1, KV_HEADS, length, WIDTH]).unwrap(),
            )
            .mask(mask)
            .isa(isa)
            .run(
                &mut TensorMut::new(&mut out, [1, HEADS, queries, WIDTH]).unwrap(),
                &mut Workspace::new(),
            )
            .unwrap();
            all.extend(out);
        }
        all
    }
}

/// The numbers of a view, copied in order.
trait AsOwned {
    fn as_owned(&self) -> Vec<f32>;
}

impl AsOwned for TensorRef<'_> {
    fn as_owned(&self) -> Vec<f32> {
        let [batch, heads, tokens, dim] = self.shape();
        let size = batch * heads * tokens * dim;
        (0..size)
            .map(|at| {
                let line = at / dim / tokens;
                *self.get([line / heads, line % heads, at / dim % tokens, at % dim]).unwrap()
            })
            .collect()
    }
}

fn attend(attention: Attention<'_>, isa: Isa, queries: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; BATCH * HEADS * queries * WIDTH];
    let mut view = TensorMut::new(&mut out, [BATCH, HEADS, queries, WIDTH]).unwrap();
    attention.isa(isa).run(&mut view, &mut Workspace::new()).unwrap();
    out
}

/// Counts of tokens to append in some steps, which add up to [`LENGTHS`].
fn steps() -> Vec<[usize; BATCH]> {
    let mut steps = vec![[300, 20, 255], [1, 0, 1]];
    steps.extend([[1, 1, 0]; 9]);
    steps.push([0, 8, 0]);
    steps
}

#[test]
fn a_ragged_cache_is_its_sequences_alone() {
    let tokens = Tokens::new();
    let (mut keys, mut values) = (
        vec![f32::NAN; BATCH * KV_HEADS * 320 * DIM],
        vec![f32::NAN; BATCH * KV_HEADS * 320 * WIDTH],
    );
    let mut lengths = [0; BATCH];
    let mut cache = RaggedCache::new(
        TensorMut::new(&mut keys, [BATCH, KV_HEADS, 320, DIM]).unwrap(),
        TensorMut::new(&mut values, [BATCH, KV_HEADS, 320, WIDTH]).unwrap(),
        &mut lengths,
    )
    .unwrap();
    for counts in steps() {
        let (k, v) = step(&tokens, cache.lengths(), &counts);
        let most = counts.into_iter().max().unwrap();
        let k = TensorRef::new(&k, [BATCH, KV_HEADS, most, DIM]).unwrap();
        let v = TensorRef::new(&v, [BATCH, KV_HEADS, most, WIDTH]).unwrap();
        cache.append(k, v, &counts).unwrap();
    }
    assert_eq!(cache.lengths(), LENGTHS);
    for isa in Isa::available() {
        for queries in [1, 3, 30] {
            let q = tokens.last(queries);
            let q = TensorRef::new(&q, [BATCH, HEADS, queries, DIM]).unwrap();
            let wanted = tokens.wanted(isa, queries, Causal::bottom_right().into());
            let given = attend(cache.attend(q).unwrap(), isa, queries);
            assert_same_bits(&given, &wanted, format_args!("{isa}, {queries} queries"));
        }
    }
}

/// The next `counts` tokens of each sequence behind `lengths`, padded with NaN.
fn step(tokens: &Tokens, lengths: &[usize], counts: &[usize; BATCH]) -> (Vec<f32>, Vec<f32>) {
    let most = counts.iter().max().unwrap();
    let part = |x: TensorRef<'_>| {
        let mut numbers = Vec::new();
        for (b, (length, count)) in lengths.iter().zip(counts).enumerate() {
            for h in 0..KV_HEADS {
                for t in 0..*most {
                    let at = |d| {
                        if t < *count { *x.get([b, h, length + t, d]).unwrap() } else { f32::NAN }
                    };
                    numbers.extend((0..x.shape()[3]).map(at));
                }
            }
        }
        numbers
    };
    (part(tokens.k()), part(tokens.v()))
}

#[test]
fn pages_are_contiguous_keys_and_values() {
    let tokens = Tokens::new();
    for page in [1, 5, 16, 48, 256, 400] {
        let columns = TOKENS.div_ceil(page);
        let pages = BATCH * columns + 2;
        // Pages in no order; where a sequence has none, a page that is not there.
        let mut next = 0;
        let mut table = vec![u32::MAX; BATCH * columns];
        for (b, length) in LENGTHS.into_iter().enumerate() {
            for column in 0..length.div_ceil(page) {
                table[b * columns + column] = ((next * 7 + 3) % (pages | 1) % pages) as u32;
                next += 1;
            }
        }
        distinct(&mut table, pages);
        let table = View::new(&table, [BATCH, columns]).unwrap();
        let (mut keys, mut values) = (
            vec![f32::NAN; pages * KV_HEADS * page * DIM],
            vec![f32::NAN; pages * KV_HEADS * page * WIDTH],
        );
        let mut lengths = [0; BATCH];
        let mut cache = PagedCache::new(
            TensorMut::new(&mut keys, [pages, KV_HEADS, page, DIM]).unwrap(),
            TensorMut::new(&mut values, [pages, KV_HEADS, page, WIDTH]).unwrap(),
            table,
            &mut lengths,
        )
        .unwrap();
        let mut so_far = [0; BATCH];
        for counts in steps() {
            let (k, v) = step(&tokens, &so_far, &counts);
            let most = counts.into_iter().max().unwrap();
            let k = TensorRef::new(&k, [BATCH, KV_HEADS, most, DIM]).unwrap();
            let v = TensorRef::new(&v, [BATCH, KV_HEADS, most, WIDTH]).unwrap();
            cache.append(k, v, &counts).unwrap();
            so_far.iter_mut().zip(counts).for_each(|(length, count)| *length += count);
        }
        let kv = cache.kv().unwrap();
        assert_eq!(kv.lengths(), LENGTHS);
        for isa in Isa::available() {
            for queries in [1, 30] {
                let q = tokens.last(queries);
                let q = TensorRef::new(&q, [BATCH, HEADS, queries, DIM]).unwrap();
                let case = format!("{isa}, pages of {page}, {queries} queries");
                let causal = tokens.wanted(isa, queries, Causal::bottom_right().into());
                assert_same_bits(&attend(kv.attend(q), isa, queries), &causal, &case);
                // Lengths hold whatever the mask says.
                let full = tokens.wanted(isa, queries, Mask::None);
                assert_same_bits(&attend(Attention::paged(q, kv), isa, queries), &full, &case);
                let window = |offset| Mask::from(Window::new(20, 0, offset));
                let near = tokens.wanted(isa, queries, window(Offset::bottom_right()));
                let attention = Attention::paged(q, kv).mask(window(Offset::ending_at(&LENGTHS)));
                assert_same_bits(&attend(attention, isa, queries), &near, &case);
            }
        }
    }
}

/// Makes the pages of a table distinct, keeping those that are not there.
fn distinct(table: &mut [u32], pages: usize) {
    let mut free: Vec<u32> = (0..pages as u32).rev().collect();
    for page in table.iter_mut().filter(|page| **page != u32::MAX) {
        let at = free.iter().position(|other| other == page).unwrap_or(free.len() / 2);
        *page = free.swap_remove(at);
    }
}

/// Pages whose values are not contiguous, and matrices of masks over the longest sequence.
#[test]
fn pages_of_any_strides() {
    let tokens = Tokens::new();
    let (page, pages) = (7, 45);
    let table: Vec<u32> = (0..pages as u32).collect();
    let table = View::new(&table, [1, pages]).unwrap();
    let lengths = [TOKENS];
    // Batch 0: its tokens are pages in order; dims outermost.
    let lay = |x: TensorRef<'_>, dim: usize| {
        let mut laid = vec![f32::NAN; dim * KV_HEADS * pages * page];
        for h in 0..KV_HEADS {
            for t in 0..TOKENS {
                for d in 0..dim {
                    laid[(d * KV_HEADS + h) * pages * page + t] = *x.get([0, h, t, d]).unwrap();
                }
            }
        }
        laid
    };
    let (k, v) = (lay(tokens.k(), DIM), lay(tokens.v(), WIDTH));
    let view = |data, dim| {
        let all = pages * page;
        TensorRef::with_strides(data, [pages, KV_HEADS, page, dim], [page, all, 1, KV_HEADS * all])
    };
    let kv =
        PagedKv::new(view(&k, DIM).unwrap(), view(&v, WIDTH).unwrap(), table, &lengths).unwrap();
    let data = MaskData::new([1, HEADS, 9, TOKENS]);
    let q = TensorRef::new(&tokens.q, [1, HEADS, 9, DIM]).unwrap();
    let part = |x: TensorRef<'_>| x.narrow(0, 0, 1).unwrap().as_owned();
    let (k, v) = (part(tokens.k()), part(tokens.v()));
    data.each_kind(|name, mask| {
        for isa in Isa::available() {
            let run = |attention: Attention<'_>| {
                let mut out = [f32::NAN; HEADS * 9 * WIDTH];
                let mut view = TensorMut::new(&mut out, [1, HEADS, 9, WIDTH]).unwrap();
                attention.mask(mask).isa(isa).run(&mut view, &mut Workspace::new()).unwrap();
                out
            };
            let wanted = run(Attention::new(
                q,
                TensorRef::new(&k, [1, KV_HEADS, TOKENS, DIM]).unwrap(),
                TensorRef::new(&v, [1, KV_HEADS, TOKENS, WIDTH]).unwrap(),
            ));
            assert_same_bits(&run(Attention::paged(q, kv)), &wanted, format_args!("{isa} {name}"));
        }
    });
}

#[track_caller]
fn assert_error<T>(result: Result<T, Error>, message: &str) {
    match result {
        Ok(_) => panic!("no error, wanted {message}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

#[test]
fn errors() {
    let data = [1.0; 64];
    let view = |shape| TensorRef::new(&data, shape).unwrap();
    let table = [0, 3, 1, u32::MAX];
    let table = View::new(&table, [2, 2]).unwrap();
    let pages = view([4, 2, 3, 2]);
    let check = |values, lengths: &[usize], message| {
        assert_error(PagedKv::new(pages, values, table, lengths).map(|_| ()), message);
    };
    check(view([4, 2, 2, 2]), &[0, 0], "`values`: page length: given 2, wanted 3");
    check(pages, &[0], "`lengths`: batch: given 1, wanted 2");
    check(pages, &[7, 0], "`lengths`: length: given 7, wanted at most 6");
    check(pages, &[6, 4], "`table`: page: given 4294967295, wanted at most 3");
    let empty = view([4, 2, 0, 2]);
    let zero = PagedKv::new(empty, empty, table, &[0, 0]);
    assert_error(zero.map(|_| ()), "`keys`: page length: given 0, wanted at least 1");

    let (mut keys, mut values, mut lengths) = ([7.0; 48], [7.0; 48], [6, 2]);
    let mut cache = PagedCache::new(
        TensorMut::new(&mut keys, [4, 2, 3, 2]).unwrap(),
        TensorMut::new(&mut values, [4, 2, 3, 2]).unwrap(),
        table,
        &mut lengths,
    )
    .unwrap();
    let step = view([2, 2, 2, 2]);
    let room = "`counts`: tokens: given 1, wanted at most 0";
    assert_error(cache.append(step, step, &[1, 1]), room);
    let none = "`table`: page: given 4294967295, wanted at most 3";
    assert_error(cache.append(step, step, &[0, 2]), none);
    assert_error(cache.append(step, step, &[0]), "`counts`: batch: given 1, wanted 2");
    assert_eq!(cache.kv().unwrap().lengths(), [6, 2]);
    assert_eq!((keys, values), ([7.0; 48], [7.0; 48]));

    let mut lengths = [1, 5];
    let cache = RaggedCache::new(
        TensorMut::new(&mut keys[..32], [2, 2, 4, 2]).unwrap(),
        TensorMut::new(&mut values[..32], [2, 2, 4, 2]).unwrap(),
        &mut lengths,
    );
    assert_error(cache.map(|_| ()), "`lengths`: length: given 5, wanted at most 4");
    let mut lengths = [1, 3];
    let mut cache = RaggedCache::new(
        TensorMut::new(&mut keys[..32], [2, 2, 4, 2]).unwrap(),
        TensorMut::new(&mut values[..32], [2, 2, 4, 2]).unwrap(),
        &mut lengths,
    )
    .unwrap();
    let most = "`counts`: tokens: given 3, wanted at most 2";
    assert_error(cache.append(step, step, &[3, 1]), most);
    let room = "`counts`: tokens: given 2, wanted at most 1";
    assert_error(cache.append(step, step, &[0, 2]), room);
    assert_eq!(cache.lengths(), [1, 3]);
    let q = view([2, 3, 1, 2]);
    let mut out = [7.0; 12];
    let attention = cache.attend(q).unwrap();
    let error =
        attention.run(&mut TensorMut::new(&mut out, [2, 3, 1, 2]).unwrap(), &mut Workspace::new());
    assert_error(error, "`q`: heads: given 3, wanted a multiple of 2");
    assert_eq!((keys, out), ([7.0; 48], [7.0; 12]));

    // Over pages one place for a run of keys is taken.
    let kv = PagedKv::new(pages, pages, table, &[6, 3]).unwrap();
    let masks = [Mask::from(Causal::top_left()); 4];
    let attention = Attention::paged(view([2, 2, 1, 2]), kv).mask(Mask::All(&masks));
    let mut out = TensorMut::new(&mut out[..8], [2, 2, 1, 2]).unwrap();
    let message = "`mask`: masks that keep a run of keys, composed over a paged cache: given 4, wanted at most 3";
    assert_error(attention.run(&mut out, &mut Workspace::new()), message);
    let cache = KvCache::new(
        TensorMut::new(&mut keys, [1, 2, 4, 6]).unwrap(),
        TensorMut::new(&mut values, [1, 2, 4, 6]).unwrap(),
    )
    .unwrap();
    assert!(cache.is_empty());
}

#[test]
fn sequences_that_go_on_keep_their_tokens() {
    const FIRST: usize = 20;
    let tokens = Tokens::new();
    let (k, v) = (tokens.k(), tokens.v());
    let room = TOKENS + 3;
    // Batch, head, token, dim: as they are named, keys dim by dim, and batches side by side.
    let layouts: [fn(usize, usize) -> [usize; 4]; 3] = [
        |room, dim| [KV_HEADS * room * dim, room * dim, dim, 1],
        |room, dim| [KV_HEADS * room * dim, room * dim, 1, room],
        |room, dim| [dim, BATCH * room * dim, BATCH * dim, 1],
    ];
    for strides in layouts {
        for kept in 0..1 << BATCH {
            let goes_on = |sequence: usize| kept >> sequence & 1 == 1;
            let mut memory = [DIM, WIDTH].map(|dim| vec![f32::NAN; BATCH * KV_HEADS * room * dim]);
            let [keys, values] = &mut memory;
            let view = |memory, dim| {
                let shape = [BATCH, KV_HEADS, room, dim];
                TensorMut::with_strides(memory, shape, strides(room, dim)).unwrap()
            };
            let mut cache = KvCache::new(view(keys, DIM), view(values, WIDTH)).unwrap();
            cache.append(k.narrow(2, 0, FIRST).unwrap(), v.narrow(2, 0, FIRST).unwrap()).unwrap();
            let mut asked = Vec::new();
            cache.retain(|sequence| {
                asked.push(sequence);
                goes_on(sequence)
            });
            assert_eq!(asked, [0, 1, 2]);
            let left: Vec<_> = (0..BATCH).filter(|sequence| goes_on(*sequence)).collect();
            assert_eq!((cache.batch(), cache.len()), (left.len(), FIRST));

            // A step of those that are left.
            let of_left = |x: TensorRef<'_>, first: usize, count: usize| -> Vec<f32> {
                let x = x.narrow(2, first, count).unwrap();
                left.iter().flat_map(|b| x.narrow(0, *b, 1).unwrap().as_owned()).collect()
            };
            let (key, value) = (of_left(k, FIRST, 1), of_left(v, FIRST, 1));
            let shape = |dim| [left.len(), KV_HEADS, 1, dim];
            cache
                .append(
                    TensorRef::new(&key, shape(DIM)).unwrap(),
                    TensorRef::new(&value, shape(WIDTH)).unwrap(),
                )
                .unwrap();
            assert_eq!(cache.keys().as_owned(), of_left(k, 0, FIRST + 1), "{kept:b}");
            assert_eq!(cache.values().as_owned(), of_left(v, 0, FIRST + 1), "{kept:b}");
        }
    }
}
