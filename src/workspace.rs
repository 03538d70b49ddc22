//! Scratch memory. The core allocates nothing: an operation says how many floats it needs, and
//! takes a slice at least as long. With feature `alloc`, [`Workspace`] is such memory that grows
//! by itself and is used again.

use crate::Result;
use crate::error::long_enough;

/// Scratch memory for an operation: a slice or array of f32 or, with feature `alloc`, a
/// `Workspace`. Its content means nothing before or after.
pub trait Scratch {
    /// At least `len` floats.
    ///
    /// # Errors
    /// If it has fewer and cannot grow.
    fn floats(&mut self, len: usize) -> Result<&mut [f32]>;
}

impl Scratch for [f32] {
    fn floats(&mut self, len: usize) -> Result<&mut [f32]> {
        long_enough("workspace", self.len(), len)?;
        Ok(self)
    }
}

impl<const N: usize> Scratch for [f32; N] {
    fn floats(&mut self, len: usize) -> Result<&mut [f32]> {
        self.as_mut_slice().floats(len)
    }
}

/// Scratch memory that grows to the largest size it was asked for and is used again. It starts at a
/// cache line: where an allocator puts it else, every load of a 64-byte vector touches two.
#[cfg(feature = "alloc")]
#[derive(Debug, Default)]
pub struct Workspace(alloc::vec::Vec<f32>);

/// Floats of a cache line.
#[cfg(feature = "alloc")]
const LINE: usize = 16;

#[cfg(feature = "alloc")]
impl Workspace {
    /// Empty; it grows with the first operation.
    pub const fn new() -> Self {
        Workspace(alloc::vec::Vec::new())
    }
}

#[cfg(feature = "alloc")]
impl Scratch for Workspace {
    fn floats(&mut self, len: usize) -> Result<&mut [f32]> {
        let with_start = len.saturating_add(LINE);
        if self.0.len() < with_start {
            // What it held means nothing: no copy.
            self.0.clear();
            if self.0.try_reserve_exact(with_start).is_err() {
                return long_enough("workspace", 0, len).map(|()| &mut [][..]);
            }
            self.0.resize(with_start, 0.0);
        }
        let start = self.0.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Ok(self.0.get_mut(start..).unwrap_or_default())
    }
}

/// Multiply-adds of floats that are worth another thread: under about 50 microseconds of one core a
/// second one is not worth waking.
#[cfg(feature = "rayon")]
pub(crate) const WORTH_A_THREAD: usize = 2 << 20;

/// Lends the workspace that the thread keeps from one time to the next.
#[cfg(feature = "rayon")]
pub(crate) fn with_kept<R>(f: impl FnOnce(&mut Workspace) -> R) -> R {
    use core::cell::Cell;

    std::thread_local! {
        static KEPT: Cell<Workspace> = const { Cell::new(Workspace::new()) };
    }
    // Taken, not borrowed: a part may find itself running another in its midst.
    let mut workspace = KEPT.take();
    let result = f(&mut workspace);
    KEPT.set(workspace);
    result
}

/// Runs the parts on the current rayon pool, each with a workspace of `len` floats that its
/// thread keeps for the next time.
#[cfg(feature = "rayon")]
pub(crate) fn run_parts(
    parts: usize,
    len: usize,
    part: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<()> {
    use rayon::prelude::*;

    let run =
        |index| with_kept(|workspace| workspace.floats(len).map(|floats| part(index, floats)));
    if parts == 1 { run(0) } else { (0..parts).into_par_iter().try_for_each(run) }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_starts_at_a_cache_line_and_grows() {
        let mut workspace = Workspace::new();
        for len in [0, 1, 17, 1 << 20, 5] {
            let floats = workspace.floats(len).unwrap();
            assert!(floats.len() >= len, "{} of {len}", floats.len());
            assert_eq!(floats.as_ptr().addr() % 64, 0);
        }
        assert!(workspace.floats(usize::MAX).is_err());
        assert!(workspace.floats(1).is_ok());
    }
}
