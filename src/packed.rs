//! A right-hand matrix packed once and used many times: a weight of a model.

use masktile_kernels::gemm;

use crate::Result;
use crate::error::{Error, ErrorKind, long_enough};
use crate::isa::{self, Isa};
use crate::number::Number;
use crate::quantised::Quantised;
use crate::view::MatRef;

/// Numbers before the panels, which say what they are.
const HEADER: usize = 16;
/// The first of them, as bits, with the version of the form.
const MAGIC: u32 = 0x6d74_5001;

/// A right-hand matrix of a product (k x n) in the form that the tiles of some instruction sets
/// read, in memory that somebody else owns. It may be written to a file or into flash as it is:
/// the memory says what it holds, and an instruction set that reads another form refuses it.
///
/// ```
/// use masktile::{MatMut, MatRef, Matmul, PackedB};
///
/// let w = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];                 // 3 out x 2 in
/// let mut memory = [0.0; PackedB::len(2, 3)];
/// let w = PackedB::pack(MatRef::new(&w, [3, 2])?.transposed(), &mut memory)?;
///
/// let x = [1.0, 2.0, 3.0, 4.0];                           // 2 tokens x 2
/// let mut y = [0.0; 6];
/// Matmul::packed(MatRef::new(&x, [2, 2])?, w)
///     .run(&mut MatMut::new(&mut y, [2, 3])?, &mut [0.0; masktile::matmul::workspace_len(2, 3, 2)])?;
/// assert_eq!(y, [1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
/// # Ok::<(), masktile::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PackedB<'a> {
    panels: &'a [f32],
    shape: [usize; 2],
    width: usize,
}

impl<'a> PackedB<'a> {
    /// Floats of memory for a k x n matrix, whatever the instruction set: it is padded to whole
    /// panels of 32 columns, and 16 numbers say what it is.
    #[allow(clippy::len_without_is_empty, reason = "a length to allocate, of no one's contents")]
    pub const fn len(k: usize, n: usize) -> usize {
        gemm::packed_len(k, n).saturating_add(HEADER)
    }

    /// Packs `b` into `memory` for the current instruction set (see [`isa`]). Halves are widened.
    ///
    /// # Errors
    /// If `memory` is shorter than [`PackedB::len`], or `MASKTILE_ISA` names no available
    /// instruction set.
    pub fn pack<B: Number>(b: MatRef<'_, B>, memory: &'a mut [f32]) -> Result<Self> {
        Self::pack_for(isa::or_current(None)?, b, memory)
    }

    /// Packs `b` into `memory` for this instruction set.
    ///
    /// # Errors
    /// If `memory` is shorter than [`PackedB::len`].
    pub fn pack_for<B: Number>(isa: Isa, b: MatRef<'_, B>, memory: &'a mut [f32]) -> Result<Self> {
        let (packed, panels) = Self::prepare(isa, b.shape(), memory)?;
        // SAFETY: the view holds every element that its sizes and strides name; the panels are as
        // long as `packed_len` says, and borrowed mutably.
        unsafe { gemm::pack_b(isa, packed.shape, b.as_ptr(), b.strides(), panels.as_mut_ptr()) };
        Ok(PackedB { panels, ..packed })
    }

    /// Packs a quantised weight, out x in, as the floats that it stands for: for many rows, where
    /// turning it into floats again for each product would cost more than the memory.
    ///
    /// # Errors
    /// As [`PackedB::pack_for`].
    pub fn pack_quantised<'w>(
        isa: Isa,
        weight: impl Into<Quantised<'w>>,
        memory: &'a mut [f32],
    ) -> Result<Self> {
        let weight = weight.into();
        let [n, k] = weight.shape();
        let (packed, panels) = Self::prepare(isa, [k, n], memory)?;
        // SAFETY: the weight was checked when it was made; the panels as above.
        unsafe { gemm::pack_b_quantised(isa, [k, n], weight.kernel(), panels.as_mut_ptr()) };
        Ok(PackedB { panels, ..packed })
    }

    /// Writes the header, and gives the memory for the panels behind it.
    fn prepare(
        isa: Isa,
        [k, n]: [usize; 2],
        memory: &'a mut [f32],
    ) -> Result<(Self, &'a mut [f32])> {
        long_enough("memory", memory.len(), Self::len(k, n))?;
        let width = gemm::panel_width(isa);
        let words = [
            MAGIC,
            width as u32,
            k as u32,
            (k as u64 >> 32) as u32,
            n as u32,
            (n as u64 >> 32) as u32,
        ];
        let Some((header, panels)) = memory.split_at_mut_checked(HEADER) else {
            return Err(Error::new("memory", ErrorKind::NotPacked));
        };
        header.fill(0.0);
        for (place, word) in header.iter_mut().zip(words) {
            *place = f32::from_bits(word);
        }
        Ok((PackedB { panels: &[], shape: [k, n], width }, panels))
    }

    /// The matrix that [`PackedB::pack`] once wrote into this memory.
    ///
    /// # Errors
    /// If the memory begins with no such matrix, or is cut short.
    pub fn from_memory(memory: &'a [f32]) -> Result<Self> {
        let not_packed = Error::new("memory", ErrorKind::NotPacked);
        let (header, panels) = memory.split_at_checked(HEADER).ok_or(not_packed)?;
        let word = |i: usize| header.get(i).map_or(0, |x: &f32| x.to_bits());
        let size = |i| usize::try_from(u64::from(word(i)) | u64::from(word(i + 1)) << 32);
        let width = word(1) as usize;
        if word(0) != MAGIC || !gemm::is_panel_width(width) {
            return Err(not_packed);
        }
        let (Ok(k), Ok(n)) = (size(2), size(4)) else {
            return Err(not_packed);
        };
        long_enough("memory", memory.len(), Self::len(k, n))?;
        Ok(PackedB { panels, shape: [k, n], width })
    }

    /// k x n
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The panels, if `isa` reads them.
    pub(crate) fn panels(&self, isa: Isa) -> Result<*const f32> {
        let wanted = gemm::panel_width(isa);
        if self.width != wanted {
            let kind = ErrorKind::PackedFor { given: self.width, wanted, isa };
            return Err(Error::new("b", kind));
        }
        Ok(self.panels.as_ptr())
    }
}
