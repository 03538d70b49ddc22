//! Lines of text without `core::fmt`, which is larger than all kernels.

use crate::gauge::Cost;

/// A line: a name, then `key=value` words.
pub struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Line {
    pub fn new(name: &str) -> Self {
        let mut line = Line { bytes: [0; 128], len: 0 };
        line.push(name.as_bytes());
        line
    }

    pub fn word(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.push(value.as_bytes());
        self
    }

    /// With two places behind the point for each unit of `work`, where there is one.
    pub fn cost(mut self, cost: &Cost, work: Option<usize>) -> Self {
        self = self.number("instructions", cost.instructions).number("stack", cost.stack);
        if let Some(work) = work {
            let hundredths = (u64::from(cost.instructions) * 100).checked_div(work as u64);
            let hundredths = hundredths.unwrap_or(0) as u32;
            self = self.number("each", hundredths / 100);
            let places =
                [b'.', b'0' + (hundredths / 10 % 10) as u8, b'0' + (hundredths % 10) as u8];
            self.push(&places);
        }
        self
    }

    pub fn print(mut self) {
        // The last byte of the array stays 0, which ends the text.
        self.push(b"\n");
        // SAFETY: the operation reads the bytes up to a 0, which is there.
        unsafe {
            cortex_m_semihosting::syscall1!(WRITE0, self.bytes.as_ptr());
        }
    }

    fn number(mut self, key: &str, mut value: u32) -> Self {
        self.key(key);
        let mut digits = [b'0'; 10];
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
            used += 1;
            if value == 0 {
                break;
            }
        }
        self.push(digits.get(10 - used..).unwrap_or(&[]));
        self
    }

    fn key(&mut self, key: &str) {
        self.push(b" ");
        self.push(key.as_bytes());
        self.push(b"=");
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.bytes.len() - 1;
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len).filter(|_| self.len < end) {
                *place = *byte;
                self.len += 1;
            }
        }
    }
}
