//! Attention over parts of the keys, merged: whole key blocks in order with the bits of the whole,
//! outputs of any parts within the stated error.

mod common;

use common::{MaskData, Numbers, assert_same_bits};
use masktile::attention::{
    Copied, KEY_BLOCK, KeyBlocks, Merge, PartialOutput, key_blocks_len, workspace_len,
};
use masktile::{Attention, Causal, Error, Isa, Mask, TensorMut, TensorRef, Workspace};

const QUERIES: usize = 5;
const KEYS: usize = 1100;
const DIM: usize = 9;
const WIDTH: usize = 21;
const OUT: [usize; 4] = [2, 4, QUERIES, WIDTH];
const ROWS: usize = 2 * 4 * QUERIES;

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Inputs {
    fn new() -> Self {
        let mut numbers = Numbers::new(11);
        Inputs {
            q: numbers.many(ROWS * DIM).iter().map(|x| x * 3.0).collect(),
            k: numbers.many(2 * 2 * KEYS * DIM),
            v: numbers.many(2 * 2 * KEYS * WIDTH),
        }
    }

    /// Attention over `len` keys from `first` on.
    fn part(&self, first: usize, len: usize) -> Attention<'_> {
        let q = TensorRef::new(&self.q, [2, 4, QUERIES, DIM]).unwrap();
        let k = TensorRef::new(&self.k, [2, 2, KEYS, DIM]).unwrap().narrow(2, first, len).unwrap();
        let v = TensorRef::new(&self.v, [2, 2, KEYS, WIDTH]).unwrap();
        Attention::new(q, k, v.narrow(2, first, len).unwrap()).part_of(first, KEYS)
    }

    /// Output and log-sum-exp of a part.
    fn run(&self, isa: Isa, mask: Mask<'_>, sinks: &[f32], part: [usize; 2]) -> [Vec<f32>; 2] {
        let (mut out, mut lse) = (vec![f32::NAN; ROWS * WIDTH], vec![f32::NAN; ROWS]);
        let mut attention = self.part(part[0], part[1]).mask(mask).isa(isa).log_sum_exp(&mut lse);
        if !sinks.is_empty() {
            attention = attention.sinks(sinks);
        }
        let mut view = TensorMut::new(&mut out, OUT).unwrap();
        attention.run(&mut view, &mut Workspace::new()).unwrap();
        [out, lse]
    }

    fn key_blocks(&self, isa: Isa, mask: Mask<'_>, [first, len]: [usize; 2]) -> Vec<f32> {
        let mut blocks = vec![f32::NAN; key_blocks_len(ROWS, len, WIDTH)];
        let attention = self.part(first, len).mask(mask).isa(isa);
        attention.run_key_blocks(&mut blocks, &mut Workspace::new()).unwrap();
        assert!(blocks.iter().all(|x| !x.is_nan()), "a number was not written");
        blocks
    }
}

const SINKS: [f32; 4] = [1.0, 5.0, -2.0, 0.0];

#[test]
fn key_blocks_in_order_give_the_bits_of_the_whole() {
    let inputs = Inputs::new();
    let data = MaskData::new([2, 4, QUERIES, KEYS]);
    let splits: [&[usize]; 4] = [&[KEYS], &[256, 844], &[512, 256, 332], &[0, 1024, 76]];
    data.each_kind(|name, mask| {
        for (isa, sinks) in Isa::available().flat_map(|isa| [(isa, &[][..]), (isa, &SINKS[..])]) {
            let wanted = inputs.run(isa, mask, sinks, [0, KEYS]);
            for split in splits {
                let mut first = 0;
                let parts: Vec<(Vec<f32>, usize)> = split
                    .iter()
                    .map(|len| {
                        first += len;
                        (inputs.key_blocks(isa, mask, [first - len, *len]), *len)
                    })
                    .collect();
                let parts: Vec<KeyBlocks<'_>> =
                    parts.iter().map(|(blocks, keys)| KeyBlocks { blocks, keys: *keys }).collect();
                let (mut out, mut lse) = (vec![f32::NAN; ROWS * WIDTH], vec![f32::NAN; ROWS]);
                let merge = Merge::blocks(&parts).isa(isa).log_sum_exp(&mut lse);
                let merge = if sinks.is_empty() { merge } else { merge.sinks(sinks) };
                merge.run(&mut TensorMut::new(&mut out, OUT).unwrap()).unwrap();
                let case = format!("{isa} {name} {split:?}");
                assert_same_bits(&out, &wanted[0], &case);
                assert_same_bits(&lse, &wanted[1], &case);
            }
        }
    });
}

#[test]
fn outputs_merge_within_their_bound() {
    let inputs = Inputs::new();
    let data = MaskData::new([2, 4, QUERIES, KEYS]);
    data.each_kind(|name, mask| {
        let mut scalar = None;
        for isa in Isa::available() {
            let wanted = inputs.run(isa, mask, &[], [0, KEYS]);
            // Parts of any length, the last first.
            let parts: Vec<[Vec<f32>; 2]> = [[701, 399], [0, 3], [3, 698]]
                .into_iter()
                .map(|part| inputs.run(isa, mask, &[], part))
                .collect();
            let parts: Vec<PartialOutput<'_>> = parts
                .iter()
                .map(|[out, lse]| PartialOutput { out: TensorRef::new(out, OUT).unwrap(), lse })
                .collect();
            let (mut out, mut lse) = (vec![f32::NAN; ROWS * WIDTH], vec![f32::NAN; ROWS]);
            Merge::outputs(&parts)
                .isa(isa)
                .log_sum_exp(&mut lse)
                .run(&mut TensorMut::new(&mut out, OUT).unwrap())
                .unwrap();
            for (i, (given, wanted_one)) in out.iter().zip(&wanted[0]).enumerate() {
                let sum = wanted[1][i / WIDTH];
                // Twice the bound: what is wanted is rounded too.
                let bound = 2.0 * (8.0 + sum.abs().min(100.0)) * 2f32.powi(-24);
                let error = (given - wanted_one).abs();
                assert!(error <= bound, "{isa} {name} [{i}]: {given} {wanted_one}");
            }
            for (given, wanted) in lse.iter().zip(&wanted[1]) {
                assert!(given == wanted || (given - wanted).abs() < 4e-6, "{given} {wanted}");
            }
            let (scalar_out, scalar_lse) = scalar.get_or_insert((out.clone(), lse.clone()));
            assert_same_bits(&out, scalar_out, format_args!("{isa} {name}"));
            assert_same_bits(&lse, scalar_lse, format_args!("{isa} {name}"));
        }
    });
}

#[test]
fn nothing_to_merge_gives_zeros() {
    for isa in Isa::available() {
        let (mut out, mut lse) = ([f32::NAN; 6], [f32::NAN; 3]);
        let mut view = TensorMut::new(&mut out, [1, 1, 3, 2]).unwrap();
        Merge::blocks(&[]).isa(isa).log_sum_exp(&mut lse).run(&mut view).unwrap();
        assert_eq!((out, lse), ([0.0; 6], [f32::NEG_INFINITY; 3]));
        out = [f32::NAN; 6];
        let part = PartialOutput {
            out: TensorRef::new(&[0.0; 6], [1, 1, 3, 2]).unwrap(),
            lse: &[f32::NEG_INFINITY; 3],
        };
        let mut view = TensorMut::new(&mut out, [1, 1, 3, 2]).unwrap();
        Merge::outputs(&[part, part]).isa(isa).run(&mut view).unwrap();
        assert_eq!(out, [0.0; 6]);
    }
}

#[track_caller]
fn assert_error(result: Result<(), Error>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn errors() {
    let inputs = Inputs::new();
    let mut blocks = vec![7.0; key_blocks_len(ROWS, KEYS, WIDTH)];
    let mut workspace = vec![0.0; workspace_len(4 * QUERIES, KEYS, DIM, WIDTH)];
    let part = || inputs.part(0, KEYS);
    let mut run = |attention: Attention<'_>, len: usize, message: &str| {
        assert_error(attention.run_key_blocks(&mut blocks[..len], &mut workspace[..]), message);
        assert!(blocks.iter().all(|x| *x == 7.0), "touched: {message}");
    };
    let all = key_blocks_len(ROWS, KEYS, WIDTH);
    run(
        part().part_of(3, KEYS),
        all,
        "`first_key`: first key + keys here: given 1103, wanted at most 1100",
    );
    run(inputs.part(100, 1000), all, "`first_key`: first key: given 100, wanted a multiple of 256");
    let elsewhere = "given here, wanted with the merge of the key blocks";
    run(part().sinks(&SINKS), all, &format!("`sinks`: {elsewhere}"));
    run(part().log_sum_exp(&mut [0.0; ROWS]), all, &format!("`lse`: {elsewhere}"));
    let mut copy = vec![0.0; ROWS * KEYS];
    let copy = TensorMut::new(&mut copy, [2, 4, QUERIES, KEYS]).unwrap();
    run(part().copy_scores(Copied::Probs, copy), all, &format!("`copy`: {elsewhere}"));
    run(part(), all - 1, &format!("`blocks`: length: given {}, wanted at least {all}", all - 1));

    let mut out = vec![7.0; ROWS * WIDTH];
    let mut check = |merge: Merge<'_>, message: &str| {
        assert_error(merge.run(&mut TensorMut::new(&mut out, OUT).unwrap()), message);
        assert!(out.iter().all(|x| *x == 7.0), "touched: {message}");
    };
    let whole = KeyBlocks { blocks: &blocks, keys: KEYS };
    let message = format!("`parts`: keys: given {KEYS}, wanted a multiple of {KEY_BLOCK}");
    check(Merge::blocks(&[whole, whole]), &message);
    let short = KeyBlocks { blocks: &blocks[1..], keys: KEYS };
    let message = format!("`parts`: length: given {}, wanted at least {all}", all - 1);
    check(Merge::blocks(&[short]), &message);
    check(Merge::blocks(&[whole]).sinks(&[0.0; 3]), "`sinks`: heads: given 3, wanted 4");
    let numbers = vec![0.0; ROWS * WIDTH];
    let view = TensorRef::new(&numbers, OUT).unwrap();
    let part = PartialOutput { out: view, lse: &numbers[..ROWS - 1] };
    check(Merge::outputs(&[part]), "`parts`: length: given 39, wanted at least 40");
    let part = PartialOutput { out: view.narrow(3, 0, 20).unwrap(), lse: &numbers };
    check(Merge::outputs(&[part]), "`parts`: dim: given 20, wanted 21");
    let mut lse = [0.0; 3];
    check(
        Merge::blocks(&[whole]).log_sum_exp(&mut lse),
        "`lse`: length: given 3, wanted at least 40",
    );
    // A mask speaks of all keys.
    let mask: Mask<'_> = Causal::bottom_right().into();
    let last = inputs.run(Isa::SCALAR, mask, &[], [KEYS - 1, 1]);
    assert_eq!(last[1].iter().filter(|lse| lse.is_finite()).count(), 8, "the last query alone");
}
