//! Quantised weights: formats against ggml's bytes and GPTQ's words, quantisers within the error that
//! they promise, and products with the bits of the f32 product of the dequantised weight.

mod common;

use common::{Effort, Numbers, assert_same_bits, vector_isas};
use masktile::matmul::{rounded_workspace_len, workspace_len};
use masktile::quantised::{Group, Q4_0, Q4Groups, Q8_0, Quantised};
use masktile::{Isa, MatMut, MatRef, Matmul, Number, PackedB, View, ViewMut, Workspace, bf16, f16};

const GROUPS: [Group; 3] = [Group::Of32, Group::Of64, Group::Of128];

/// Memory of a weight of each format, of random codes and scales: of both signs, subnormal, zero.
struct Random {
    q8_0: Vec<u8>,
    q4_0: Vec<u8>,
    codes: Vec<u8>,
    scales: Vec<f16>,
    zeros: Vec<u8>,
    shape: [usize; 2],
}

impl Random {
    /// The columns are rounded up to a multiple of every block.
    fn new(rows: usize, columns: usize) -> Self {
        let shape = [rows, columns.next_multiple_of(128)];
        let mut numbers = Numbers::new((rows * columns) as u64);
        let mut scale = || {
            let exponents = [0, 1, 2, 15, 16, 20];
            let bits = numbers.below(2) << 15 | exponents[numbers.below(6)] << 10;
            f16::from_bits((bits | numbers.below(1 << 10)) as u16)
        };
        let groups = rows * shape[1] / 32;
        let scales: Vec<f16> = (0..groups).map(|_| scale()).collect();
        let mut bytes =
            |n: usize| -> Vec<u8> { (0..n).map(|_| numbers.below(256) as u8).collect() };
        let blocks = |codes: usize, bytes: &mut dyn FnMut(usize) -> Vec<u8>| {
            scales.iter().flat_map(|d| [d.to_le_bytes().to_vec(), bytes(codes)].concat()).collect()
        };
        let (q8_0, q4_0) = (blocks(32, &mut bytes), blocks(16, &mut bytes));
        let (codes, zeros) = (bytes(groups * 16), bytes(groups));
        Random { q8_0, q4_0, codes, scales, zeros, shape }
    }

    fn all(&self) -> Vec<Quantised<'_>> {
        let shape = self.shape;
        let groups = |group| {
            Q4Groups::new(&self.codes, &self.scales, &self.zeros, shape, group).unwrap().into()
        };
        let [of_32, of_64, of_128] = GROUPS.map(groups);
        let q8_0 = Q8_0::new(&self.q8_0, shape).unwrap().into();
        let q4_0 = Q4_0::new(&self.q4_0, shape).unwrap().into();
        vec![q8_0, q4_0, of_32, of_64, of_128]
    }
}

fn dequantised(weight: &Quantised<'_>) -> Vec<f32> {
    let [rows, columns] = weight.shape();
    let mut out = vec![f32::NAN; rows * columns];
    weight.dequantise(&mut MatMut::new(&mut out, [rows, columns]).unwrap()).unwrap();
    out
}

fn halves<T: Number>(numbers: &[f32]) -> Vec<T> {
    numbers.iter().map(|x| T::from_f32(*x)).collect()
}

/// A product of A's type into C's, whole and in parts, against the product with dequantised weights.
fn product<A: Number, C: Number>(weight: &Quantised<'_>, m: usize) {
    let [n, k] = weight.shape();
    let mut numbers = Numbers::new((m + n + k) as u64);
    let a: Vec<A> = halves(&numbers.many(m * k));
    let widened: Vec<f32> = a.iter().map(|x| x.to_f32()).collect();
    let bias = numbers.many(n);
    let floats = dequantised(weight);
    let len = if size_of::<C>() == 4 { workspace_len } else { rounded_workspace_len };
    for isa in Isa::available() {
        let mut wanted = vec![0.0; m * n];
        let w = MatRef::new(&floats, [n, k]).unwrap().transposed();
        Matmul::new(MatRef::new(&widened, [m, k]).unwrap(), w)
            .alpha(0.5)
            .bias(&bias)
            .isa(isa)
            .run(&mut MatMut::new(&mut wanted, [m, n]).unwrap(), &mut Workspace::new())
            .unwrap();
        let wanted: Vec<f32> = wanted.into_iter().map(|x| C::from_f32(x).to_f32()).collect();
        for (parts, strides) in [(1, [n, 1]), (3, [n, 1]), (2, [1, m])] {
            let mut given = halves::<C>(&vec![f32::NAN; m * n]);
            let mut c = MatMut::with_strides(&mut given, [m, n], strides).unwrap();
            let matmul = Matmul::quantised(MatRef::new(&a, [m, k]).unwrap(), *weight);
            for part in matmul.alpha(0.5).bias(&bias).isa(isa).parts(&mut c, parts).unwrap() {
                part.run(&mut vec![f32::NAN; len(m, n, k)][..]).unwrap();
            }
            let c = MatRef::with_strides(&given, [m, n], strides).unwrap();
            let given: Vec<f32> =
                (0..m * n).map(|at| c.get([at / n, at % n]).unwrap().to_f32()).collect();
            let case = format_args!("{isa} {m}x{n}x{k} {weight:?} {parts} parts {strides:?}");
            assert_same_bits(&given, &wanted, case);
        }
    }
}

/// Few rows and many, more columns than a panel and fewer, depths of several pieces and blocks.
#[test]
fn products_have_the_bits_of_the_dequantised_weight() {
    vector_isas();
    let shapes = [(1, 32), (3, 96), (16, 128), (33, 200), (70, 700), (21, 2300)];
    let shapes = &shapes[..Effort::current().pick(shapes.len(), 5, 4)];
    for (rows, columns) in shapes {
        let weight = Random::new(*rows, *columns);
        for weight in weight.all() {
            for m in [1, 2, 4, 7, 16, 17, 40] {
                product::<f32, f32>(&weight, m);
            }
            product::<bf16, f16>(&weight, 3);
            product::<f16, bf16>(&weight, 20);
        }
    }
    // More rows than a block has.
    for weight in Random::new(20, 600).all() {
        product::<f32, f32>(&weight, 175);
    }
}

#[test]
fn batches_share_a_quantised_weight() {
    let memory = Random::new(19, 128);
    let (batch, m, [n, k]) = (3, 2, memory.shape);
    let a = Numbers::new(4).many(batch * m * k);
    for weight in memory.all() {
        let mut wanted = vec![0.0; batch * m * n];
        Matmul::quantised(MatRef::new(&a, [batch * m, k]).unwrap(), weight)
            .run(&mut MatMut::new(&mut wanted, [batch * m, n]).unwrap(), &mut Workspace::new())
            .unwrap();
        let mut given = vec![0.0; batch * m * n];
        Matmul::quantised(View::new(&a, [batch, m, k]).unwrap(), weight)
            .run(&mut ViewMut::new(&mut given, [batch, m, n]).unwrap(), &mut Workspace::new())
            .unwrap();
        assert_same_bits(&given, &wanted, format_args!("{weight:?}"));
    }
}

#[test]
fn a_packed_form_for_many_rows() {
    let memory = Random::new(37, 256);
    let (m, [n, k]) = (21, memory.shape);
    let a = Numbers::new(4).many(m * k);
    let a = MatRef::new(&a, [m, k]).unwrap();
    for weight in memory.all() {
        for isa in Isa::available() {
            let (mut wanted, mut given) = (vec![0.0; m * n], vec![0.0; m * n]);
            Matmul::quantised(a, weight)
                .isa(isa)
                .run(&mut MatMut::new(&mut wanted, [m, n]).unwrap(), &mut Workspace::new())
                .unwrap();
            let mut memory = vec![f32::NAN; PackedB::len(k, n)];
            let packed = PackedB::pack_quantised(isa, weight, &mut memory).unwrap();
            Matmul::packed(a, packed)
                .isa(isa)
                .run(&mut MatMut::new(&mut given, [m, n]).unwrap(), &mut Workspace::new())
                .unwrap();
            assert_same_bits(&given, &wanted, format_args!("{isa} {weight:?}"));
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// What the reference of ggml's Python package (gguf 0.19) writes for two blocks.
#[test]
fn blocks_are_those_of_ggml() {
    let weight: [f32; 64] = std::array::from_fn(|i| {
        let x = (((i * 37) % 64) as f64 - 31.0) / 16.0;
        (if i < 32 { x } else { x * -0.013 }) as f32
    });
    let weight = MatRef::new(&weight, [1, 64]).unwrap();
    let mut memory = [0; Q8_0::len([1, 64])];
    Q8_0::quantise(weight, &mut memory).unwrap();
    let wanted = "08248518ad40d467fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f\
        800afc6bd342aa1981f05ec7359e0c7be352ba2991006fd746ae1d85f462cb39a210";
    assert_eq!(memory[..], bytes_of(wanted));
    let mut memory = [0; Q4_0::len([1, 64])];
    let quantised = Q4_0::quantise(weight, &mut memory).unwrap();
    assert_eq!([0, 1, 2, 3].map(|i| quantised.get([0, i]).unwrap()), [-1.75, 0.25, -1.25, 1.0]);
    let wanted = "00b4cf379d047be248bf269df36ad148ae15\
        731a48bf158cf35ac037ae047be259cf269d";
    assert_eq!(memory[..], bytes_of(wanted));
}

/// Rows of numbers of many scales, some all zero, some of one sign.
fn weights(rows: usize, columns: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(6);
    (0..rows * columns)
        .map(|at| {
            let row = at / columns;
            let scale = [1.0, 0.02, 300.0, 0.0][row % 4];
            let x = numbers.one();
            scale * if row.is_multiple_of(3) { x.abs() } else { x }
        })
        .collect()
}

#[test]
fn quantisers_keep_their_bounds() {
    let shape = [96, 256];
    let weight = weights(shape[0], shape[1]);
    let view = MatRef::new(&weight, shape).unwrap();
    let errors = |quantised: Quantised<'_>| -> Vec<f64> {
        let pairs = dequantised(&quantised).into_iter().zip(&weight);
        pairs.map(|(given, wanted)| (f64::from(given) - f64::from(*wanted)).abs()).collect()
    };
    let mut memory = vec![0; Q8_0::len(shape)];
    let q8_0 = errors(Q8_0::quantise(view, &mut memory).unwrap().into());
    let mut memory = vec![0; Q4_0::len(shape)];
    let q4_0 = errors(Q4_0::quantise(view, &mut memory).unwrap().into());
    let (mut worst, mut far) = ([0f64; 2], 0);
    for (block, weights) in weight.chunks(32).enumerate() {
        let greatest = f64::from(weights.iter().fold(0f32, |most, x| most.max(x.abs())));
        let of = |errors: &[f64]| errors[32 * block..][..32].to_vec();
        for (q8, q4) in of(&q8_0).into_iter().zip(of(&q4_0)) {
            assert!(q8 <= greatest / 226.0 && q4 <= greatest / 7.9, "{q8} {q4} of {greatest}");
            far += usize::from(q4 > greatest / 15.8);
            if greatest > 0.0 {
                worst = [worst[0].max(q8 / greatest), worst[1].max(q4 / greatest)];
            }
        }
    }
    println!(
        "worst of a block's greatest: Q8_0 1/{:.1}, Q4_0 1/{:.2}",
        1.0 / worst[0],
        1.0 / worst[1]
    );
    assert!(worst[0] > 1.0 / 260.0 && worst[1] > 1.0 / 16.0, "the bounds are near what is seen");
    assert!(far > 0 && far < weight.len() / 20, "{far} near the opposite end");

    for group in GROUPS {
        let groups = weight.len() / group.size();
        let (mut codes, mut scales, mut zeros) =
            (vec![0; weight.len() / 2], vec![f16::ZERO; groups], vec![0; groups]);
        let quantised =
            Q4Groups::quantise(view, &mut codes, &mut scales, &mut zeros, group).unwrap();
        let errors = errors(quantised.into());
        for (at, error) in errors.iter().enumerate() {
            let scale = f64::from(scales[at / group.size()].to_f32());
            let (code, zero) = (codes[at / 2] >> (4 * (at % 2)) & 15, zeros[at / group.size()]);
            let limit = if code == 0 || code == 15 { 1.0 } else { 0.501 };
            assert!(*error <= limit * scale, "{group:?} {at}: {error} of {scale}, zero {zero}");
        }
    }
}

/// Words as GPTQ and AWQ pack them, taken apart as the page of `Q4Groups` says, are its parts.
#[test]
fn files_of_gptq_and_awq_map_onto_groups() {
    let (out, inputs, group) = (16, 128, Group::Of64);
    let mut numbers = Numbers::new(7);
    let code: Vec<u32> = (0..out * inputs).map(|_| numbers.below(16) as u32).collect();
    let code = |o: usize, i: usize| code[o * inputs + i];
    // GPTQ: in / 8 x out words, eight weights along in each.
    let word = |row: usize, o: usize| (0..8).fold(0, |w, b| w | code(o, 8 * row + b) << (4 * b));
    let qweight: Vec<u32> = (0..inputs / 8 * out).map(|at| word(at / out, at % out)).collect();
    let transposed = (0..out).flat_map(|o| (0..inputs / 8).map(move |row| (row, o)));
    let codes: Vec<u8> =
        transposed.flat_map(|(row, o)| qweight[row * out + o].to_le_bytes()).collect();
    let scales = vec![f16::ONE; out * inputs / group.size()];
    let zeros = vec![0; scales.len()];
    let gptq = Q4Groups::new(&codes, &scales, &zeros, [out, inputs], group).unwrap();
    for o in 0..out {
        for i in 0..inputs {
            assert_eq!(gptq.get([o, i]), Some(code(o, i) as f32));
        }
    }
    // AWQ: in x out / 8 words, eight outputs in each.
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let word =
        |i: usize, at: usize| (0..8).fold(0, |w, b| w | code(8 * at + ORDER[b], i) << (4 * b));
    let mut codes = vec![0u8; out * inputs / 2];
    for i in 0..inputs {
        for (b, output) in (0..out).map(|o| (o % 8, o / 8 * 8 + ORDER[o % 8])) {
            let from = word(i, output / 8) >> (4 * b) & 15;
            codes[(output * inputs + i) / 2] |= (from as u8) << (4 * (i % 2));
        }
    }
    assert_eq!(dequantised(&gptq.into()), {
        let awq = Q4Groups::new(&codes, &scales, &zeros, [out, inputs], group).unwrap();
        dequantised(&awq.into())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |result: masktile::Result<()>| result.unwrap_err().to_string();
    let bytes = [0; 100];
    let columns = "`shape`: columns: given 40, wanted a multiple of 32";
    assert_eq!(text(Q8_0::new(&bytes, [1, 40]).map(drop)), columns);
    let short = "`data`: length: given 100, wanted at least 102";
    assert_eq!(text(Q8_0::new(&bytes, [3, 32]).map(drop)), short);
    let short = "`data`: length: given 100, wanted at least 108";
    assert_eq!(text(Q4_0::new(&bytes, [2, 96]).map(drop)), short);
    let overflow = "`shape`: extent: given sizes and strides over usize::MAX, wanted less";
    assert_eq!(text(Q4_0::new(&bytes, [usize::MAX / 16, 32]).map(drop)), overflow);
    let scales = [f16::ONE; 2];
    let groups = |codes, scales, zeros, shape, group| {
        text(Q4Groups::new(codes, scales, zeros, shape, group).map(drop))
    };
    let columns = "`shape`: columns: given 96, wanted a multiple of 64";
    assert_eq!(groups(&bytes, &scales, &bytes, [1, 96], Group::Of64), columns);
    let short = "`codes`: length: given 100, wanted at least 128";
    assert_eq!(groups(&bytes, &scales, &bytes, [2, 128], Group::Of128), short);
    let short = "`scales`: length: given 2, wanted at least 3";
    assert_eq!(groups(&bytes, &scales, &bytes, [3, 32], Group::Of32), short);
    let short = "`zeros`: length: given 1, wanted at least 2";
    assert_eq!(groups(&bytes, &scales, &bytes[..1], [2, 32], Group::Of32), short);

    let weight = Q8_0::new(&bytes, [2, 32]).unwrap();
    let (a, mut c) = ([1.0; 64], [7.0; 4]);
    let mut run = |a: MatRef<'_>, shape| {
        let mut view = MatMut::new(&mut c, shape).unwrap();
        text(Matmul::quantised(a, weight).run(&mut view, &mut Workspace::new()))
    };
    let wide = MatRef::new(&a, [1, 64]).unwrap();
    assert_eq!(run(wide, [1, 2]), "`b`: rows: given 32, wanted 64");
    let a = MatRef::new(&a, [1, 32]).unwrap();
    assert_eq!(run(a, [1, 3]), "`c`: columns: given 3, wanted 2");
    assert_eq!(c, [7.0; 4]);
    let error = Quantised::from(weight).dequantise(&mut MatMut::new(&mut c, [2, 2]).unwrap());
    assert_eq!(text(error), "`out`: columns: given 2, wanted 32");
}
