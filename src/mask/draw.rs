//! Masks as pictures: `.` for kept, `#` for masked.

use core::fmt;

use super::lower::{bounded, own_shape};
use super::{Mask, Shape};
use masktile_kernels::mask::Plan;

use crate::Result;

/// Rows and columns of the greatest picture; what lies behind them is left out, with `…` in its place.
const GREATEST: [usize; 2] = [64, 128];
/// Queries and keys where a mask states none.
const USUAL: usize = 8;

/// A picture of a mask, made by [`Mask::draw`]: a line for each query, `.` for a kept key and `#`
/// for a masked one. Where there is more than one batch or head, each has a heading.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    mask: Mask<'a>,
    shape: Shape,
}

impl<'a> Mask<'a> {
    /// The mask as it is for scores of `shape`: batch, heads, queries, keys.
    ///
    /// ```
    /// use masktile::{Causal, Mask};
    /// let mask = Mask::All(&[Causal::bottom_right().into(), Mask::KeyLengths(&[4])]);
    /// assert_eq!(mask.draw([1, 1, 3, 5])?.to_string(), "...##\n....#\n....#\n");
    /// # Ok::<(), masktile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the mask does not fit the shape.
    pub fn draw(&self, shape: Shape) -> Result<Drawing<'a>> {
        let mut plan = Plan::EMPTY;
        self.add_to_plan(shape, &mut plan)?;
        Ok(Drawing { mask: *self, shape })
    }
}

/// The mask for scores of the sizes that it states, 1 x 1 x 8 x 8 where it states none.
impl fmt::Display for Mask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Err(error) = bounded(self) {
            return error.fmt(f);
        }
        let [batch, heads, queries, keys] = own_shape(self);
        let shape = [
            batch.unwrap_or(1),
            heads.unwrap_or(1),
            queries.unwrap_or(USUAL),
            keys.unwrap_or(USUAL),
        ];
        match self.draw(shape) {
            Ok(drawing) => drawing.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Drawing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [batch, heads, queries, keys] = self.shape;
        let [rows, columns] = GREATEST;
        if heads == 0 {
            // The batches may be any then.
            return Ok(());
        }
        for b in 0..batch {
            for h in 0..heads {
                if batch > 1 || heads > 1 {
                    writeln!(f, "batch {b}, head {h}:")?;
                }
                for i in 0..queries.min(rows) {
                    for j in 0..keys.min(columns) {
                        let kept = self.mask.keeps(self.shape, [b, h, i, j]);
                        f.write_str(if kept { "." } else { "#" })?;
                    }
                    f.write_str(if keys > columns { "…\n" } else { "\n" })?;
                }
                if queries > rows {
                    f.write_str("…\n")?;
                }
            }
        }
        Ok(())
    }
}
