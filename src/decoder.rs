//! The join of a decoder's inputs. Its cache of keys and values is in [`crate::cache`].

use crate::Result;
use crate::error::same;
use crate::view::{MatMut, MatRef, copy};

#[doc(inline)]
pub use crate::cache::KvCache;

/// The encoder's output, n x d, with the previous decoder output, d numbers, as one more row:
/// `joined` is (n + 1) x d.
///
/// # Errors
/// If the sizes do not fit; `joined` is untouched then.
///
/// ```
/// use masktile::{MatMut, MatRef, decoder};
/// let (encoder, previous, mut joined) = ([1.0, 2.0, 3.0, 4.0], [9.0, 8.0], [0.0; 6]);
/// decoder::join_as_row(MatRef::new(&encoder, [2, 2])?, &previous, &mut MatMut::new(&mut joined, [3, 2])?)?;
/// assert_eq!(joined, [1.0, 2.0, 3.0, 4.0, 9.0, 8.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn join_as_row(encoder: MatRef<'_>, previous: &[f32], joined: &mut MatMut<'_>) -> Result<()> {
    let [n, d] = encoder.shape();
    same("previous", "length", previous.len(), d)?;
    same("joined", "rows", joined.rows(), n.saturating_add(1))?;
    same("joined", "columns", joined.columns(), d)?;
    let previous = MatRef::new(previous, [1, d])?;
    copy(encoder, joined.reborrow().narrow(0, 0, n)?);
    copy(previous, joined.reborrow().narrow(0, n, 1)?);
    Ok(())
}

/// The encoder's output, n x d, with the previous decoder output, d_o numbers, as more columns of
/// every row: `joined` is n x (d + d_o).
///
/// # Errors
/// If the sizes do not fit; `joined` is untouched then.
///
/// ```
/// use masktile::{MatMut, MatRef, decoder};
/// let (encoder, previous, mut joined) = ([1.0, 2.0, 3.0, 4.0], [9.0], [0.0; 6]);
/// decoder::join_as_columns(MatRef::new(&encoder, [2, 2])?, &previous, &mut MatMut::new(&mut joined, [2, 3])?)?;
/// assert_eq!(joined, [1.0, 2.0, 9.0, 3.0, 4.0, 9.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn join_as_columns(
    encoder: MatRef<'_>,
    previous: &[f32],
    joined: &mut MatMut<'_>,
) -> Result<()> {
    let [n, d] = encoder.shape();
    same("joined", "rows", joined.rows(), n)?;
    same("joined", "columns", joined.columns(), d.saturating_add(previous.len()))?;
    let every_row = MatRef::with_strides(previous, [n, previous.len()], [0, 1])?;
    copy(encoder, joined.reborrow().narrow(1, 0, d)?);
    copy(every_row, joined.reborrow().narrow(1, d, previous.len())?);
    Ok(())
}
