//! Floats that start at a cache line, as tensor libraries allocate them: where an allocator puts
//! them else is chance, and decides whether each vector load touches one line or two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A fixed number of floats.
pub struct Buffer {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` times `value`.
    pub fn filled(value: f32, len: usize) -> Self {
        let memory = vec![value; len + LINE / size_of::<f32>()];
        let start = memory.as_ptr().align_offset(LINE);
        Buffer { memory, start, len }
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
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
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
