//! A picture of the cross-attention: a row for each character of the translation, a column for
//! each of the text.

use std::error::Error;
use std::fmt::Write;

use translate_model::HEADS;
use translate_model::host::Model;
use translate_model::text::Text;

/// Side of a cell, and of the space for characters before them, in pixels.
const CELL: usize = 18;
const MARGIN: usize = 40;
const TOP: usize = 70;

/// The mean over the heads of the decoder's last layer.
pub fn svg(model: &Model, line: &str, text: Text) -> Result<String, Box<dyn Error>> {
    let (translation, probs) = model.watched(text)?;
    let columns = text.tokens().len();
    let end = std::iter::once('⏎');
    let rows: Vec<char> = translation.characters().chain(end).collect();
    let means = probs.chunks(HEADS * columns).flat_map(|heads| {
        let column = |j| heads.iter().skip(j).step_by(columns).sum::<f32>() / HEADS as f32;
        (0..columns).map(column)
    });
    let mut svg = head(line, &translation.to_string(), MARGIN + columns * CELL, rows.len());
    for (i, character) in rows.iter().enumerate() {
        label(&mut svg, MARGIN - CELL / 2, TOP + i * CELL, *character)?;
    }
    for (j, character) in line.chars().enumerate() {
        label(&mut svg, MARGIN + j * CELL + CELL / 2, TOP - CELL, character)?;
    }
    for (at, p) in means.enumerate().take(rows.len() * columns) {
        let (x, y) = (MARGIN + at % columns * CELL, TOP + at / columns * CELL);
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{}\" \
             stroke=\"#eee\"><title>{p:.3}</title></rect>",
            shade(p)
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn head(line: &str, translation: &str, cells_end: usize, rows: usize) -> String {
    let (title, width) = (escape(line), (cells_end + 20).max(420));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">{title} = {translation}</text>\n\
         <text x=\"10\" y=\"38\" fill=\"#555\" font-size=\"12\">each character of the \
         translation attends to the text: darker, more</text>\n",
        TOP + rows * CELL + 20,
    )
}

/// A character in the middle of a cell whose upper edge is at `y`.
fn label(svg: &mut String, x: usize, y: usize, character: char) -> std::fmt::Result {
    let (y, character) = (y + CELL - 5, escape(&character.to_string()));
    writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{character}</text>")
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
