//! What one call writes, so that nothing else is lent of it.

use std::ops::Range;

use crate::status::{Fault, Result};

/// An operand's name and its addresses.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    argument: &'static str,
    start: usize,
    end: usize,
}

impl Claim {
    pub const NONE: Claim = Claim { argument: "", start: 0, end: 0 };

    #[inline(always)]
    pub fn new(argument: &'static str, Range { start, end }: Range<usize>) -> Self {
        Claim { argument, start, end }
    }

    /// An error if some of the addresses are this operand's.
    #[inline(always)]
    pub fn apart(self, argument: &'static str, addresses: &Range<usize>) -> Result<()> {
        if self.has(addresses) { Err(Fault::overlap(argument, self.argument)) } else { Ok(()) }
    }

    #[inline(always)]
    fn has(self, addresses: &Range<usize>) -> bool {
        // Both are compared: cheaper than a jump between them.
        (self.start < addresses.end) & (addresses.start < self.end)
    }
}

/// The operands that are written, the latest first. Always as many, some of them empty, and never in
/// a loop: so the compiler knows each, and a small product's stay in registers.
pub(super) struct Claims([Claim; 4]);

impl Claims {
    pub const NONE: Claims = Claims([Claim::NONE; 4]);

    #[inline(always)]
    pub fn add(&mut self, claim: Claim) {
        let [a, b, c, oldest] = self.0;
        assert!(oldest.end == 0, "a call writes no more than four operands");
        self.0 = [claim, a, b, c];
    }

    /// An error if some of the addresses are one of theirs.
    #[inline(always)]
    pub fn apart(&self, argument: &'static str, addresses: &Range<usize>) -> Result<()> {
        let [a, b, c, d] = self.0;
        if a.has(addresses) | b.has(addresses) | c.has(addresses) | d.has(addresses) {
            // Copies, for what is referred to does not stay in registers.
            return Err(overlap(argument, addresses.clone(), [a, b, c, d]));
        }
        Ok(())
    }
}

/// Which of them it is.
#[cold]
#[inline(never)]
fn overlap(argument: &'static str, addresses: Range<usize>, claims: [Claim; 4]) -> Fault {
    let other = claims.into_iter().find(|claim| claim.has(&addresses));
    Fault::overlap(argument, other.map_or("", |claim| claim.argument))
}
