//! A right-hand matrix of bytes packed once and used many times.

use masktile_kernels::int8 as kernel;

use crate::Result;
use crate::error::{Error, ErrorKind, long_enough};
use crate::isa::{self, Isa};
use crate::view::MatRef;

/// Words before the panels, which say what they are.
const HEADER: usize = 16;
/// The first of them, with the version of the form.
const MAGIC: u32 = 0x6d74_8001;

/// A right-hand matrix of i8 (k x n) in the form that the tiles of some instruction sets read, with
/// the sums of its columns, in memory that somebody else owns. As [`crate::PackedB`], it may be
/// written to a file or into flash as it is.
///
/// ```
/// use masktile::{MatMut, MatRef, MatmulInt8, PackedInt8};
///
/// let w = [1i8, 0, 0, 1, 1, -1];                          // 3 out x 2 in
/// let mut memory = [0; PackedInt8::len(2, 3)];
/// let w = PackedInt8::pack(MatRef::new(&w, [3, 2])?.transposed(), &mut memory)?;
///
/// let x = [1i8, 2, 3, 4];                                 // 2 tokens x 2
/// let mut y = [0i32; 6];
/// MatmulInt8::packed(MatRef::new(&x, [2, 2])?, w)
///     .run(&mut MatMut::new(&mut y, [2, 3])?, &mut masktile::Workspace::new())?;
/// assert_eq!(y, [1, 2, -1, 3, 4, -1]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PackedInt8<'a> {
    panels: &'a [u32],
    column_sums: &'a [u32],
    shape: [usize; 2],
    width: usize,
}

impl<'a> PackedInt8<'a> {
    /// Words of memory for a k x n matrix, whatever the instruction set: it is padded to fours of k
    /// and to whole panels of 32 columns, each of which has a sum, and 16 words say what it is.
    #[allow(clippy::len_without_is_empty, reason = "a length to allocate, of no one's contents")]
    pub const fn len(k: usize, n: usize) -> usize {
        let [panels, sums] = kernel::packed_len(k, n);
        panels.saturating_add(sums).saturating_add(HEADER)
    }

    /// Packs `b` into `memory` for the current instruction set (see [`isa`]).
    ///
    /// # Errors
    /// If `memory` is shorter than [`PackedInt8::len`], or `MASKTILE_ISA` names no available
    /// instruction set.
    pub fn pack(b: MatRef<'_, i8>, memory: &'a mut [u32]) -> Result<Self> {
        Self::pack_for(isa::or_current(None)?, b, memory)
    }

    /// Packs `b` into `memory` for this instruction set.
    ///
    /// # Errors
    /// If `memory` is shorter than [`PackedInt8::len`].
    pub fn pack_for(isa: Isa, b: MatRef<'_, i8>, memory: &'a mut [u32]) -> Result<Self> {
        let [k, n] = b.shape();
        long_enough("memory", memory.len(), Self::len(k, n))?;
        let width = kernel::panel_width(isa);
        let not_packed = Error::new("memory", ErrorKind::NotPacked);
        let (header, rest) = memory.split_at_mut_checked(HEADER).ok_or(not_packed)?;
        let (panels, column_sums) =
            rest.split_at_mut_checked(kernel::packed_len(k, n)[0]).ok_or(not_packed)?;
        let halves = |size: usize| [size as u32, (size as u64 >> 32) as u32];
        let ([k_low, k_high], [n_low, n_high]) = (halves(k), halves(n));
        let words = [MAGIC, width as u32, k_low, k_high, n_low, n_high];
        for (i, place) in header.iter_mut().enumerate() {
            *place = words.get(i).copied().unwrap_or(0);
        }
        let (to, sums) = (panels.as_mut_ptr(), column_sums.as_mut_ptr().cast());
        // SAFETY: the view holds every element that its sizes and strides name; both parts of the
        // memory are as long as `packed_len` says, and borrowed mutably.
        unsafe { kernel::pack(isa, [k, n], b.as_ptr(), b.strides(), to, sums) };
        Ok(PackedInt8 { panels, column_sums, shape: [k, n], width })
    }

    /// The matrix that [`PackedInt8::pack`] once wrote into this memory.
    ///
    /// # Errors
    /// If the memory begins with no such matrix, or is cut short.
    pub fn from_memory(memory: &'a [u32]) -> Result<Self> {
        let not_packed = Error::new("memory", ErrorKind::NotPacked);
        let (header, rest) = memory.split_at_checked(HEADER).ok_or(not_packed)?;
        let word = |i: usize| header.get(i).copied().unwrap_or(0);
        let size = |i| usize::try_from(u64::from(word(i)) | u64::from(word(i + 1)) << 32);
        let width = word(1) as usize;
        if word(0) != MAGIC || !kernel::is_panel_width(width) {
            return Err(not_packed);
        }
        let (Ok(k), Ok(n)) = (size(2), size(4)) else {
            return Err(not_packed);
        };
        long_enough("memory", memory.len(), Self::len(k, n))?;
        let (panels, column_sums) =
            rest.split_at_checked(kernel::packed_len(k, n)[0]).ok_or(not_packed)?;
        Ok(PackedInt8 { panels, column_sums, shape: [k, n], width })
    }

    /// k x n
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The panels, if `isa` reads them.
    pub(super) fn panels(&self, isa: Isa) -> Result<kernel::Right> {
        let wanted = kernel::panel_width(isa);
        if self.width != wanted {
            let kind = ErrorKind::PackedFor { given: self.width, wanted, isa };
            return Err(Error::new("b", kind));
        }
        let (panels, column_sums) = (self.panels.as_ptr(), self.column_sums.as_ptr().cast());
        Ok(kernel::Right::Packed { panels, column_sums })
    }
}
