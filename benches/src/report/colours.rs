//! Which class, and so which colour, a thing has: the same in every chart. `style.css` has the
//! colours, for light and for dark.

use crate::ops::{self, OPERATIONS};
use crate::order::unique;

/// Classes `c0` to `c9` of the style sheet.
const COLOURS: usize = 10;

/// Instruction sets, each with a colour of its own; peers have those that are left.
const ISAS: [&str; 4] = ["scalar", "avx2", "avx512", "neon"];

/// The class of an instruction set or peer, `others` being all peers of the page.
pub fn of_who(who: &str, others: &[&str]) -> String {
    let index = ISAS.iter().position(|isa| *isa == who).unwrap_or_else(|| {
        let peer =
            others.iter().filter(|other| !ISAS.contains(other)).position(|other| *other == who);
        ISAS.len() + peer.unwrap_or(0) % (COLOURS - ISAS.len())
    });
    nth(index)
}

/// The class of an operation; those of the family of activation functions share one.
pub fn of_operation(op: &str) -> String {
    nth(1 + operations().iter().position(|(name, _)| *name == name_of(op)).unwrap_or(COLOURS - 2))
}

/// The names that operations have in a legend, with the class of each.
pub fn operations() -> Vec<(&'static str, String)> {
    let names = unique(OPERATIONS.iter().map(|op| name_of(op.name)));
    names.into_iter().enumerate().map(|(index, name)| (name, nth(1 + index))).collect()
}

/// An operation's own name, or its family's where that has many of them.
pub fn name_of(op: &str) -> &'static str {
    let Some(known) = ops::known(op) else { return "other" };
    let own = known.name.starts_with(known.family);
    if own { known.name } else { known.family }
}

/// The class of the thing in this place of a list.
pub fn nth(index: usize) -> String {
    format!("c{}", index % COLOURS)
}
