//! A picture of one head's attention: queries down, keys across, darker is more; hatched is masked.

use std::error::Error;
use std::fmt::Write;

use masktile::{Causal, Mask, MatMut, MatRef, Matmul, Softmax, TensorMut, TensorRef, Workspace};

use crate::data::{DIM, Layer, SHAPE, TOKENS};

const CELL: usize = 22;
const MARGIN: usize = 100;
/// As wide as the title and its explanation.
const LEAST_WIDTH: usize = 420;

/// Causal self-attention of one head over one sentence, as SVG.
pub fn svg(layer: &Layer, sentence: usize, head: usize) -> Result<String, Box<dyn Error>> {
    let pieces = layer.pieces(sentence)?;
    let n = pieces.len();
    let probs = probabilities(layer, sentence, head, n)?;
    draw(&pieces, &probs, &format!("Sentence {sentence}, head {head}: causal self-attention"))
}

/// n x n probabilities by way of the two halves of attention, for here the matrix is wanted.
fn probabilities(
    layer: &Layer,
    sentence: usize,
    head: usize,
    n: usize,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let rows = |name: &str| -> Result<Vec<f32>, Box<dyn Error>> {
        TensorRef::new(layer.f32(name)?, SHAPE)?;
        let first = (sentence * SHAPE[1] + head) * TOKENS * DIM;
        Ok(layer.f32(name)?[first..first + n * DIM].to_vec())
    };
    let (q, k) = (rows("q")?, rows("k")?);
    let mut scores = vec![0.0; n * n];
    Matmul::new(MatRef::new(&q, [n, DIM])?, MatRef::new(&k, [n, DIM])?.transposed())
        .run(&mut MatMut::new(&mut scores, [n, n])?, &mut Workspace::new())?;
    Softmax::new()
        .scale(1.0 / (DIM as f32).sqrt())
        .mask(Mask::Causal(Causal::top_left()))
        .run_in_place(TensorMut::new(&mut scores, [1, 1, n, n])?)?;
    Ok(scores)
}

fn draw(pieces: &[&str], probs: &[f32], title: &str) -> Result<String, Box<dyn Error>> {
    let n = pieces.len();
    let side = MARGIN + n * CELL + 20;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <defs><pattern id=\"masked\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M0 6L6 0\" stroke=\"#ccc\"/></pattern></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">{title}</text>\n\
         <text x=\"10\" y=\"38\" fill=\"#555\">rows: queries, columns: keys; \
         darker: more; hatched: masked</text>\n",
        width = side.max(LEAST_WIDTH),
        height = side + 30,
    );
    let top = MARGIN + 30;
    for (i, piece) in pieces.iter().enumerate() {
        let word = escape(piece);
        let at = i * CELL + CELL / 2 + 4;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{word}</text>\n\
             <text transform=\"translate({} {}) rotate(-60)\">{word}</text>",
            MARGIN - 6,
            top + at,
            MARGIN + at,
            top - 6
        )?;
    }
    for (at, p) in probs.iter().enumerate() {
        let (i, j) = (at / n, at % n);
        let fill = if j > i { "url(#masked)".to_owned() } else { shade(*p) };
        writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{fill}\" \
             stroke=\"#eee\"><title>{} to {}: {p:.4}</title></rect>",
            MARGIN + j * CELL,
            top + i * CELL,
            escape(pieces[i]),
            escape(pieces[j])
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// White to dark blue; the root lets small probabilities show.
fn shade(p: f32) -> String {
    let dark = p.clamp(0.0, 1.0).sqrt();
    let mix = |light: f32, full: f32| (light + (full - light) * dark).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(255.0, 8.0), mix(255.0, 48.0), mix(255.0, 107.0))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
