//! Floats that start at a cache line, as tensor libraries allocate them: where an allocator puts
//! them else is chance, and decides whether each vector load touches one line or two.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Bytes from which on a buffer asks for huge pages: which small pages it got, and so which lines
/// push one another out of a cache, would be chance, the same for all of a process's rounds.
const LARGE: usize = 64 << 10;

/// A fixed number of floats.
pub struct Buffer {
    memory: Memory,
    start: usize,
    len: usize,
}

enum Memory {
    Small(Vec<f32>),
    Large(MmapMut),
}

impl Buffer {
    /// `len` times `value`.
    pub fn filled(value: f32, len: usize) -> Self {
        let bytes = len * size_of::<f32>();
        let large = if bytes >= LARGE { map(bytes.next_multiple_of(HUGE) + HUGE) } else { None };
        let mut buffer = match large {
            Some(map) => {
                let start = map.as_ptr().align_offset(HUGE) / size_of::<f32>();
                Buffer { memory: Memory::Large(map), start, len }
            }
            None => {
                let memory = vec![0.0; len + LINE / size_of::<f32>()];
                let start = memory.as_ptr().align_offset(LINE);
                Buffer { memory: Memory::Small(memory), start, len }
            }
        };
        buffer.fill(value);
        buffer
    }

    /// Scratch memory for any operation: more than one asks for.
    pub fn workspace() -> Self {
        Buffer::filled(0.0, 4 << 20)
    }

    /// A copy of `values`.
    pub fn copied(values: &[f32]) -> Self {
        let mut buffer = Buffer::filled(0.0, values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// The first `len` of [`numbers`].
    pub fn random(len: usize, seed: u64) -> Self {
        Buffer::copied(&numbers(len, seed))
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let floats = match &self.memory {
            Memory::Small(floats) => floats,
            Memory::Large(map) => bytemuck::cast_slice(map),
        };
        &floats[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let floats = match &mut self.memory {
            Memory::Small(floats) => floats,
            Memory::Large(map) => bytemuck::cast_slice_mut(map),
        };
        &mut floats[self.start..][..self.len]
    }
}

/// Memory of whole pages, huge ones where the system has them; none if it has no way to map.
fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::HugePage).ok();
    Some(map)
}

/// Numbers in -1 .. 1, none zero (xorshift): processors may treat zeros specially.
pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 + 0.5) / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
