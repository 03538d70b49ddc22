//! The translator against held-out texts, against PyTorch, and against itself on every instruction
//! set, in every batch and in both forms of its weights.
#![cfg(feature = "std")]

use std::path::{Path, PathBuf};

use masktile::{Causal, Isa};
use safetensors::SafeTensors;
use translate_model::host::{Memory, Model};
use translate_model::layers::{Bf16, Form};
use translate_model::text::{
    SOURCE, SOURCES, STEPS, TARGET, TARGETS, Text, TextError, Translation,
};
use translate_model::translator::{PARAMETERS, Texts, Translator, memory_len};
use translate_model::{HEADS, LAYERS, flat};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn model(isa: Isa) -> Model {
    Model::load(&data("weights.safetensors"), isa).unwrap()
}

fn numbers() -> Box<[Bf16; PARAMETERS]> {
    flat::read(&data("weights.safetensors"), LAYERS).unwrap().try_into().unwrap()
}

/// The first held-out texts and their translations.
fn held_out(count: usize) -> (Vec<Text>, Vec<String>) {
    let file = std::fs::read_to_string(data("held-out.tsv")).unwrap();
    let pairs = file.lines().take(count).map(|line| line.split_once('\t').unwrap());
    let pairs: Vec<_> = pairs.map(|(text, iso)| (Text::new(text).unwrap(), iso.into())).collect();
    assert_eq!(pairs.len(), count);
    pairs.into_iter().unzip()
}

fn greedy(model: &Model, texts: &[Text], batch: usize) -> Vec<Translation> {
    let mut memory = Memory::default();
    texts.chunks(batch).flat_map(|texts| model.greedy(texts, &mut memory).unwrap()).collect()
}

fn right<'t>(translations: impl Iterator<Item = &'t Translation>, wanted: &[String]) -> usize {
    translations.zip(wanted).filter(|(given, wanted)| given.to_string() == **wanted).count()
}

#[test]
fn at_least_99_percent_of_1000_held_out_texts_are_right() {
    let (texts, wanted) = held_out(1000);
    let model = model(Isa::detect());
    let greedy = right(greedy(&model, &texts, 64).iter(), &wanted);
    let mut memory = Memory::default();
    let found = model.beam_search(&texts, 4, &mut memory).unwrap();
    let beams = right(found.iter().map(|(translation, _)| translation), &wanted);
    println!("greedy: {greedy} of 1,000; 4 beams: {beams}");
    assert!(greedy >= 990 && beams >= 990, "greedy: {greedy}; 4 beams: {beams}");
}

#[test]
fn every_instruction_set_and_every_batch_give_the_same_bits() {
    let (texts, _) = held_out(200);
    let scalar = greedy(&model(Isa::SCALAR), &texts, 64);
    for isa in Isa::available() {
        let model = model(isa);
        for batch in [64, 7, 1] {
            assert_eq!(greedy(&model, &texts, batch), scalar, "{isa}, batches of {batch}");
        }
    }
}

#[test]
fn weights_widened_piece_by_piece_give_the_same_bits() {
    let numbers = numbers();
    let translator = Translator::narrow(&numbers).unwrap();
    let (texts, _) = held_out(50);
    let isa = Isa::detect();
    let wanted = greedy(&model(isa), &texts, 64);
    for (text, wanted) in texts.iter().zip(wanted) {
        let (mut active, mut lengths) = ([0], [0]);
        let texts = Texts::new(std::slice::from_ref(text), &mut active, &mut lengths);
        // Exactly as much memory as it says.
        let mut memory = vec![0.0; memory_len(Form::Narrow, texts.shape(), 1)];
        let mut given = [Translation::default()];
        translator.greedy(texts, isa, &mut memory, None, &mut given).unwrap();
        assert_eq!(given, [wanted]);
    }
}

#[test]
fn logits_are_within_1e_4_of_pytorch() {
    const TEXTS: usize = 100;
    let bytes = std::fs::read(data("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let reference = file.tensor("logits").unwrap();
    assert_eq!(reference.shape(), [TEXTS, STEPS, TARGETS]);
    let reference: Vec<f32> =
        reference.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let (texts, translations) = held_out(TEXTS);
    let argmax = |logits: &[f32]| (0..TARGETS).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    for isa in Isa::available() {
        let model = model(isa);
        let (mut greatest, mut memory) = (0f32, Memory::default());
        for (text, (wanted, reference)) in
            texts.iter().zip(translations.iter().zip(reference.chunks(STEPS * TARGETS)))
        {
            let given = model.forced(*text, wanted, &mut memory).unwrap();
            // The step behind the last character is the last that means something.
            assert_eq!(given.len(), (wanted.len() + 1) * TARGETS);
            for (given, reference) in given.chunks(TARGETS).zip(reference.chunks(TARGETS)) {
                assert_eq!(argmax(given), argmax(reference), "{isa}: {wanted}");
                for (x, y) in given.iter().zip(reference) {
                    assert!((x - y).abs() <= 1e-4, "{isa}: {wanted}: {x} for {y}");
                    greatest = greatest.max((x - y).abs());
                }
            }
        }
        println!("{isa}: greatest difference {greatest:.1e}");
    }
}

#[test]
fn beam_search_finds_what_is_likely() {
    let (texts, _) = held_out(64);
    let model = model(Isa::detect());
    let mut memory = Memory::default();
    let greedy = greedy(&model, &texts, 64);
    let one = model.beam_search(&texts, 1, &mut memory).unwrap();
    assert!(greedy.iter().zip(&one).all(|(a, (b, _))| a.tokens() == b.tokens()));
    let many = model.beam_search(&texts, 16, &mut memory).unwrap();
    for ((_, one), (translation, many)) in one.iter().zip(&many) {
        assert!(translation.ended() && many <= &0.0 && one <= &(many + 1e-4), "{one} over {many}");
        // A batch changes nothing.
    }
    let alone = model.beam_search(&texts[5..6], 16, &mut memory).unwrap();
    assert_eq!(alone[0], many[5]);
}

#[test]
fn attention_sums_to_one() {
    let text = Text::new("Dienstag, den 3. November 2026 um 16:15").unwrap();
    let (translation, probs) = model(Isa::detect()).watched(text).unwrap();
    assert_eq!(translation, greedy(&model(Isa::detect()), &[text], 1)[0]);
    assert_eq!(probs.len(), translation.tokens().len() * HEADS * 39);
    for row in probs.chunks(39) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn characters_are_those_of_training() {
    let bytes = std::fs::read(data("weights.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let texts = header.metadata().as_ref().unwrap();
    assert_eq!((texts["source"].as_str(), texts["target"].as_str()), (SOURCE, TARGET));
    assert_eq!(SOURCE.chars().count() + 1, SOURCES);
}

#[test]
fn texts_are_read_as_people_write_them() {
    let tokens = |text| Text::new(text).unwrap().tokens().to_vec();
    assert_eq!(tokens("L’APRÈS\u{a0}MIDI"), tokens("\tl'après midi\r"));
    assert_eq!(tokens("ÄÖÜẞÀÉÛ"), tokens("äöüßàéû"));
    let long = "1".repeat(65);
    for (text, error) in [
        ("", TextError::Empty),
        (" \t ", TextError::Empty),
        (&long, TextError::TooLong { given: 65 }),
        ("3 ×", TextError::Unknown { character: '×', place: 3 }),
        ("日", TextError::Unknown { character: '日', place: 1 }),
    ] {
        assert_eq!(Text::new(text).unwrap_err(), error);
    }
    assert_eq!(Text::new(&long[1..]).unwrap().tokens().len(), 64);
}

#[test]
fn errors_say_what_is_wrong() {
    let load = |path| Model::load(path, Isa::SCALAR).unwrap_err().to_string();
    assert!(load(Path::new("no-such-file")).starts_with("cannot read no-such-file: "));
    let other = load(&data("reference.safetensors"));
    assert!(other.ends_with("given 1 tensors, wanted 74"), "{other}");

    let numbers = numbers();
    let translator = Translator::narrow(&numbers).unwrap();
    let text = [Text::new("3.").unwrap()];
    let full = memory_len(Form::Narrow, [1, 2], 1);
    let mut memory = vec![0.0; full];
    let mut error = |len| {
        let mut run = || -> masktile::Result<()> {
            let (mut active, mut lengths) = ([0], [0]);
            let texts = Texts::new(&text, &mut active, &mut lengths);
            let mut decoding = translator.begin(texts, 1, Isa::SCALAR, &mut memory[..len])?;
            for _ in 0..=STEPS {
                decoding.step(|_, _| 0, Causal::bottom_right().into())?;
            }
            Ok(())
        };
        run().unwrap_err().to_string()
    };
    let no_room = "tokens: given 1, wanted at most 0";
    assert!(error(full).contains(no_room));
    // Memory that is missing is reported, wherever it ends. (The last of it is for longer texts.)
    for len in (0..full).step_by(97) {
        let error = error(len);
        let short = error.contains("wanted at least");
        assert!(short || len > full / 2 && error.contains(no_room), "{len} of {full}: {error}");
    }
}

#[test]
fn the_page_is_the_decoder_and_the_decoder_is_under_150_lines() {
    let source = include_str!("../src/decoder.rs");
    let page = include_str!("../../../../docs/decoder.md");
    let blocks = page.split("```rust,ignore\n").skip(1).map(|rest| {
        // A block ends with a fence at the beginning of a line; the source has one in a comment.
        rest.split_once("\n```\n").unwrap().0
    });
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let shown: Vec<_> = blocks.flat_map(lines).collect();
    assert_eq!(
        shown,
        lines(source),
        "docs/decoder.md is not examples/translate/model/src/decoder.rs"
    );
    assert!(source.lines().count() < 150);
}
