//! The program: everything it needs is in statics, and nothing panics.

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use masktile::{Isa, Result};
use translate_model::layers::{Bf16, Form};
use translate_model::text::{LONGEST, Text, Translation};
use translate_model::translator::{PARAMETERS, Texts, Translator, memory_len};

use crate::debugger::{self, Line};

/// In flash.
static WEIGHTS: &[Bf16; PARAMETERS] =
    match include_bytes!(concat!(env!("OUT_DIR"), "/weights.bin")).as_chunks().0.first_chunk() {
        Some(weights) => weights,
        None => panic!("the file is of another model"),
    };
/// Floats that a text of any length takes.
const FLOATS: usize = memory_len(Form::Narrow, [1, LONGEST], 1);
/// Bytes of a file.
const FILE_LEN: usize = 4096;

#[entry]
fn main() -> ! {
    static mut MEMORY: [f32; FLOATS] = [0.0; FLOATS];
    static mut FILE: [u8; FILE_LEN] = [0; FILE_LEN];
    let translated = debugger::read_argument(FILE).is_some_and(|file| {
        let mut lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.all(|line| translate(line, MEMORY).is_some())
    });
    Line::new(b"stack").number(debugger::stack_used()).print();
    debug::exit(if translated { EXIT_SUCCESS } else { EXIT_FAILURE });
    fail()
}

/// Prints the translation of a line; nothing if it cannot be read.
fn translate(line: &[u8], memory: &mut [f32]) -> Option<()> {
    let text = Text::new(core::str::from_utf8(line).ok()?).ok()?;
    let translation = greedy(&text, memory).ok()?;
    let mut line = Line::new(&[]);
    for character in translation.characters() {
        line = line.push(&[character as u8]);
    }
    line.push(b"\t").hexadecimal(translation.hash).print();
    Some(())
}

fn greedy(text: &Text, memory: &mut [f32]) -> Result<Translation> {
    let translator = Translator::narrow(WEIGHTS)?;
    let (mut active, mut lengths) = ([0], [0]);
    let texts = Texts::new(core::slice::from_ref(text), &mut active, &mut lengths);
    let mut translation = [Translation::default()];
    translator.greedy(texts, Isa::detect(), memory, None, &mut translation)?;
    let [translation] = translation;
    Ok(translation)
}

fn fail() -> ! {
    debug::exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::bkpt();
    }
}

/// Nothing panics, so this is not linked.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail()
}
