//! Translates dates and times, as people write them in English, German and French, into ISO 8601,
//! with an encoder-decoder transformer of this library's operations (`model/`).
//!
//! ```sh
//! cargo run --release --example translate -- "Dienstag, den 3. November 2026 um 16:15"
//! cargo run --release --example translate -- --attention picture.svg "3. Nov. 26, Viertel nach vier"
//! cargo run --release --example translate -- --file texts.txt --beam 4
//! ```

mod picture;

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use masktile::isa;
use translate_model::host::{Memory, Model};
use translate_model::text::{Text, Translation};

const WEIGHTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/translate/model/data/weights.safetensors");

/// Translates dates and times in English, German and French into ISO 8601.
#[derive(Parser)]
struct Options {
    /// What to translate. Without a text, the lines of standard input.
    texts: Vec<String>,
    /// Translate the lines of this file; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// How many beginnings beam search keeps. Without it, the most likely character is taken.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    beam: Option<u8>,
    /// How many texts are translated together.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// The instruction set, of those this machine has.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Draw how the translation of the first text attends to it, as SVG.
    #[arg(long, value_name = "FILE")]
    attention: Option<PathBuf>,
    /// Write behind each translation a hash of all logits' bits, which no machine changes.
    #[arg(long, conflicts_with = "beam")]
    hash: bool,
}

/// What nobody can translate: exit status 2, as for wrong options.
#[derive(Debug)]
struct WrongInput(String);

impl std::fmt::Display for WrongInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for WrongInput {}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("translate: {error}");
            ExitCode::from(if error.is::<WrongInput>() { 2 } else { 1 })
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let isa = match &options.isa {
        Some(name) => isa::named(name).map_err(|error| WrongInput(error.to_string()))?,
        None => isa::current()?,
    };
    let lines = lines(options)?;
    let texts = texts(&lines)?;
    let model = Model::load(Path::new(WEIGHTS), isa)?;
    let (mut memory, mut tokens, mut time) = (Memory::default(), 0, Duration::ZERO);
    for batch in texts.chunks(options.batch.into()) {
        let start = Instant::now();
        let translations = translate(&model, batch, options.beam, &mut memory)?;
        time += start.elapsed();
        for translation in &translations {
            tokens += translation.tokens().len();
            match options.hash {
                true => println!("{translation}\t{:08x}", translation.hash),
                false => println!("{translation}"),
            }
        }
    }
    let rate = tokens as f64 / time.as_secs_f64();
    eprintln!("{tokens} tokens, {rate:.0} a second with {isa}");
    if let (Some(file), Some(line), Some(text)) = (&options.attention, lines.first(), texts.first())
    {
        std::fs::write(file, picture::svg(&model, line.trim(), *text)?)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}

fn translate(
    model: &Model,
    texts: &[Text],
    beam: Option<u8>,
    memory: &mut Memory,
) -> masktile::Result<Vec<Translation>> {
    let Some(beams) = beam else { return model.greedy(texts, memory) };
    let found = model.beam_search(texts, beams.into(), memory)?;
    Ok(found.into_iter().map(|(translation, _)| translation).collect())
}

/// The texts to translate, from wherever they come.
fn lines(options: &Options) -> Result<Vec<String>, Box<dyn Error>> {
    if !options.texts.is_empty() {
        return Ok(options.texts.clone());
    }
    let mut content = String::new();
    match &options.file {
        Some(path) if path.as_os_str() != "-" => std::fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut content))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        _ => std::io::stdin().read_to_string(&mut content)?,
    };
    Ok(content.lines().map(str::to_owned).collect())
}

/// The lines as the model takes them, or a message for each that it cannot.
fn texts(lines: &[String]) -> Result<Vec<Text>, WrongInput> {
    let mut wrong = Vec::new();
    let mut texts = Vec::new();
    for (line, number) in lines.iter().zip(1..) {
        match Text::new(line) {
            Ok(text) => texts.push(text),
            Err(error) => wrong.push(format!("text {number}: {error}")),
        }
    }
    if lines.is_empty() {
        wrong.push("given no text, wanted a date or a time".to_owned());
    }
    if wrong.is_empty() { Ok(texts) } else { Err(WrongInput(wrong.join("\ntranslate: "))) }
}
