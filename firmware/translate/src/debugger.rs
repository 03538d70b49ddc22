//! Files and lines of the machine that debugs this one, by semihosting, without `core::fmt`; and how
//! much stack was used.

use cortex_m_semihosting::{syscall, syscall1};

/// Opens to read bytes as they are.
const READ_BINARY: usize = 1;

/// The content of the file that the command line names behind the program, as far as `memory` holds
/// it.
pub fn read_argument(memory: &mut [u8]) -> Option<&[u8]> {
    let mut name = [0u8; 256];
    let mut command = [name.as_mut_ptr() as usize, name.len()];
    // SAFETY: the operation writes at most as many bytes as it is told, behind them a 0 among these,
    // and how many to the second word.
    if unsafe { syscall1(cortex_m_semihosting::nr::GET_CMDLINE, command.as_mut_ptr() as usize) }
        != 0
    {
        return None;
    }
    let [_, len] = command;
    let argument = name.get(..len)?.split(|byte| *byte == b' ').next_back()?;
    let start = len.checked_sub(argument.len())?;
    let path = name.get(start..)?.as_ptr();
    // SAFETY: the operation reads as many bytes as it is told, and the 0 behind them, which is in
    // the array for the operation above wrote it.
    let file = unsafe { syscall!(OPEN, path, READ_BINARY, len - start) };
    if file == usize::MAX {
        return None;
    }
    // SAFETY: the operation writes at most as many bytes as it is told.
    let missing = unsafe { syscall!(READ, file, memory.as_mut_ptr(), memory.len()) };
    memory.get(..memory.len().checked_sub(missing)?)
}

/// A line of text.
pub struct Line {
    bytes: [u8; 64],
    len: usize,
}

impl Line {
    pub fn new(text: &[u8]) -> Self {
        Line { bytes: [0; 64], len: 0 }.push(text)
    }

    pub fn push(mut self, text: &[u8]) -> Self {
        // The last byte of the array stays 0, which ends the text.
        let [room @ .., _] = &mut self.bytes;
        for (place, byte) in room.iter_mut().skip(self.len).zip(text) {
            *place = *byte;
            self.len += 1;
        }
        self
    }

    /// In eight digits.
    pub fn hexadecimal(mut self, number: u32) -> Self {
        for shift in (0..32).step_by(4).rev() {
            let digit = (number >> shift & 15) as u8;
            self = self.push(&[if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }]);
        }
        self
    }

    /// A blank and the number, in five digits.
    pub fn number(self, mut number: u32) -> Self {
        let mut digits = [b' '; 6];
        for digit in digits.iter_mut().skip(1).rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.push(&digits)
    }

    pub fn print(self) {
        let line = self.push(b"\n");
        // SAFETY: the operation reads the bytes up to a 0, which is there.
        unsafe { syscall1(cortex_m_semihosting::nr::WRITE0, line.bytes.as_ptr() as usize) };
    }
}

/// Bytes of stack that were ever used: cortex-m-rt paints all of it at the start.
pub fn stack_used() -> u32 {
    const PAINT: u32 = 0xcccc_cccc;
    unsafe extern "C" {
        static _stack_end: u32;
        static _stack_start: u32;
    }
    let (mut at, top) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: words between the end of the statics and the top of the stack; they are only read.
    while at < top && unsafe { at.read_volatile() } == PAINT {
        at = at.wrapping_add(1);
    }
    (top as usize - at as usize) as u32
}
