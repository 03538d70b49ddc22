//! Tables for a terminal: words to the left, numbers to the right.

use std::fmt;

/// Rows of cells under a heading.
pub struct Table {
    /// Columns of words.
    words: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose first `words` columns are words.
    pub fn new<S: Into<String>>(words: usize, heading: impl IntoIterator<Item = S>) -> Self {
        let mut table = Table { words, rows: Vec::new() };
        table.row(heading);
        table
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line += &if column < self.words {
                    format!("{gap}{cell:<width$}")
                } else {
                    format!("{gap}{cell:>width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Three digits, so that columns stay narrow: `0.0123`, `1.23`, `12.3`, `1234`.
pub fn digits(x: f64) -> String {
    match x.abs() {
        x if x >= 99.95 || x == 0.0 => format!("{x:.0}"),
        size if size >= 9.995 => format!("{x:.1}"),
        size if size >= 0.0995 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_blanks_behind_them() {
        let mut table = Table::new(1, ["shape", "GFLOP/s", ""]);
        table.row(["8x8x8", "1.23", "a"]);
        table.row(["1024x1024x1024", "123"]);
        let wanted =
            "shape           GFLOP/s\n8x8x8              1.23  a\n1024x1024x1024      123\n";
        assert_eq!(table.to_string(), wanted);
    }

    #[test]
    fn numbers_have_three_digits() {
        let of = [0.01234, 0.5, 1.234, 12.34, 123.4, 1234.5].map(digits);
        assert_eq!(of, ["0.0123", "0.50", "1.23", "12.3", "123", "1234"]);
    }
}
