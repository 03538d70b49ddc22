//! Calls made of garbage: sizes, strides, kinds, lengths and flags of any value, pointers that are
//! null, misaligned, or lead somewhere into one small piece of memory, so that operands overlap. Half
//! of all fields are what would be right, so that some calls come far. A test and a fuzz target share
//! this; whoever includes it names the library `c` at the root of the crate.

mod calls;
mod operands;

use crate::c::status::Status;

/// Words of the memory that operands lie in.
const WORDS: usize = 512;
/// Floats of the workspace that calls mostly get: enough for their usual sizes.
const WORKSPACE: usize = 32 << 10;

pub struct Garbage<'a> {
    choices: &'a [u8],
    memory: Vec<u64>,
    workspace: Vec<f32>,
    /// Batch, heads, rows or queries, columns or keys, depth or width.
    sizes: [usize; 5],
}

impl<'a> Garbage<'a> {
    pub fn new(choices: &'a [u8]) -> Self {
        // Floats in the first half, small sizes in the second.
        let float = |i: usize| u64::from((i as f32 / 99.0 - 1.0).to_bits()) * ((1 << 32) + 1);
        let word = |i| if i < WORDS / 2 { float(i) } else { i as u64 % 5 };
        let memory = (0..WORDS).map(word).collect();
        let mut garbage =
            Garbage { choices, memory, workspace: vec![0.0; WORKSPACE], sizes: [0; 5] };
        garbage.sizes = std::array::from_fn(|_| garbage.below(6));
        garbage
    }

    /// One call and what belongs to it. Panics if an error touched memory, or if a panic was caught.
    pub fn call(&mut self) -> Status {
        let before = self.memory.clone();
        let status = match self.below(10) {
            0 => self.matmul(),
            1 => self.parts(),
            2 => self.pack(),
            3 => self.softmax(),
            4 => self.attention(),
            5 => self.merge(),
            6 => self.kv_cache(),
            7 => self.ragged_cache(),
            8 => self.paged_cache(),
            _ => self.others(),
        };
        assert!(status != Status::Panic);
        assert!(status == Status::Ok || self.memory == before, "{status:?} touched memory");
        status
    }

    fn byte(&mut self) -> u8 {
        let [first, rest @ ..] = self.choices else { return 0 };
        self.choices = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    /// Once in a while.
    fn is_odd(&mut self) -> bool {
        self.byte() >= 240
    }

    fn word(&mut self) -> usize {
        usize::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Small, or anything.
    fn size(&mut self) -> usize {
        match self.below(3) {
            0 => self.word(),
            1 => self.word() >> 32,
            _ => self.below(12),
        }
    }

    fn number(&mut self) -> f32 {
        match self.below(4) {
            0 => f32::from_bits(self.word() as u32),
            _ => self.below(9) as f32 / 4.0 - 0.5,
        }
    }

    fn enumerator(&mut self, count: usize) -> u32 {
        if self.is_odd() { self.word() as u32 } else { self.below(count) as u32 }
    }

    /// The right size, or any.
    fn size_of<A>(&mut self) -> usize {
        if self.is_odd() { self.size() } else { size_of::<A>() }
    }

    /// The pointer itself, or null, or one that is misaligned.
    fn spoiled<T>(&mut self, pointer: *const T) -> *const T {
        match self.byte() {
            254 => std::ptr::null(),
            255 => pointer.cast::<u8>().wrapping_add(1).cast(),
            _ => pointer,
        }
    }
}
