//! The table of speeds: text in, embeddings out, in turns.

use std::time::Instant;

use anyhow::{Result, ensure};
use masktile_candle::embed::{Encoder, Models, greatest_difference};

use crate::BOUND;

const SHORT: [&str; 8] = [
    "How do I bake bread?",
    "The cat sleeps on the sofa.",
    "Trains to the north are late today.",
    "What is the capital of Norway?",
    "She plays the violin very well.",
    "Please close the window tonight.",
    "Two parts water, one part rice.",
    "The old bridge was painted green.",
];
const CLAUSES: [&str; 6] = [
    "The harbour lay quiet while the fishermen mended their nets and spoke of the weather,",
    "a committee of engineers compared the drawings with what had been built over the winter,",
    "children counted the wagons of a goods train that crossed the plain towards the mountains,",
    "the recipe asks for flour, butter and three eggs, and for an hour of patience in the evening,",
    "in the library somebody had left a map of the city with every bakery marked in red ink,",
    "and the orchestra rehearsed the slow movement again because the horns had come in too early.",
];

/// A name, and sentences.
fn workloads() -> Vec<(&'static str, Vec<String>)> {
    let short: Vec<String> = SHORT.map(str::to_owned).to_vec();
    let long: Vec<String> = (0..CLAUSES.len())
        .map(|first| {
            let mut clauses = CLAUSES;
            clauses.rotate_left(first);
            clauses.join(" ")
        })
        .collect();
    let mixed = short.iter().take(6).chain(long.iter().take(2)).cloned().collect();
    vec![
        ("1 short", short[..1].to_vec()),
        ("8 short", short),
        ("1 long", long[..1].to_vec()),
        ("6 long", long),
        ("6 short, 2 long", mixed),
    ]
}

/// Times both on each workload and prints what came out.
pub fn table(models: &Models, rounds: u32) -> Result<()> {
    let threads = rayon::current_num_threads();
    println!();
    println!(
        "{threads} thread{}, {}",
        if threads == 1 { "" } else { "s" },
        masktile::isa::current()?
    );
    println!(
        "{:<16} {:>6} | {:>11} {:>11} | {:>11} {:>11} | {:>5} | {:>10}",
        "sentences",
        "tokens",
        "candle s/s",
        "tokens/s",
        "here s/s",
        "tokens/s",
        "ratio",
        "difference"
    );
    for (name, sentences) in workloads() {
        let tokens: usize = models.tokenize(&sentences)?.iter().map(Vec::len).sum();
        let encoders: [&dyn Encoder; 2] = [&models.candle, &models.masktile];
        let [own, ours] = encoders.map(|encoder| models.embed(encoder, &sentences));
        let difference = greatest_difference(&own?, &ours?)?;
        ensure!(difference <= BOUND, "{name}: the embeddings differ by {difference}");

        let [own, ours] = seconds(models, encoders, &sentences, rounds)?;
        let per = |count: usize, seconds: f64| count as f64 / seconds;
        let count = sentences.len();
        println!(
            "{name:<16} {tokens:>6} | {:>11.1} {:>11.0} | {:>11.1} {:>11.0} | {:>5.2} | {difference:>10.1e}",
            per(count, own),
            per(tokens, own),
            per(count, ours),
            per(tokens, ours),
            own / ours,
        );
    }
    Ok(())
}

/// The median time of each over rounds in which they take turns.
fn seconds(
    models: &Models,
    encoders: [&dyn Encoder; 2],
    sentences: &[String],
    rounds: u32,
) -> Result<[f64; 2]> {
    /// A round of less is mostly the clock's noise.
    const LEAST: f64 = 0.02;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (encoder, times) in encoders.iter().zip(&mut times) {
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < LEAST {
                models.embed(*encoder, sentences)?;
                runs += 1;
            }
            times.push(start.elapsed().as_secs_f64() / f64::from(runs));
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}
