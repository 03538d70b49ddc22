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
