//! Instruction sets: which the machine has, and how to force one.
//!
//! An operation takes, in this order: the one given to it by its builder (`.isa(..)`), the one
//! forced for the process ([`force`]), the one that the environment variable `MASKTILE_ISA` names
//! (with feature `std`), the best that the machine has. A name that is unknown or unavailable is
//! an error of the operation, never another instruction set in silence.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

#[doc(inline)]
pub use masktile_kernels::Isa;

use crate::Result;
use crate::error::{Error, ErrorKind};

/// The environment variable that names an instruction set.
pub const VARIABLE: &str = "MASKTILE_ISA";

/// A name as somebody gave it, cut after 23 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 23],
    len: u8,
}

impl Name {
    fn new(name: &str) -> Self {
        let mut cut = Name { bytes: [0; 23], len: 0 };
        for c in name.chars() {
            let from = usize::from(cut.len);
            let end = from + c.len_utf8();
            let Some(place) = cut.bytes.get_mut(from..end) else { break };
            c.encode_utf8(place);
            cut.len = end as u8;
        }
        cut
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The instruction set called `name` (`scalar`, `neon`, `avx2`, `avx512`, in any case).
///
/// # Errors
/// [`ErrorKind::UnknownIsa`] or [`ErrorKind::UnavailableIsa`]; the message lists the available.
///
/// ```
/// assert_eq!(masktile::isa::named("scalar")?.name(), "scalar");
/// let error = masktile::isa::named("avx1024").unwrap_err().to_string();
/// assert!(error.starts_with("`isa`: given \"avx1024\", which is no instruction set, wanted one of scalar"));
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn named(name: &str) -> Result<Isa> {
    find("isa", name)
}

fn find(argument: &'static str, name: &str) -> Result<Isa> {
    let is = |known: &str| known.eq_ignore_ascii_case(name.trim());
    if let Some(isa) = Isa::available().find(|isa| is(isa.name())) {
        return Ok(isa);
    }
    let kind =
        if Isa::known_names().any(is) { ErrorKind::UnavailableIsa } else { ErrorKind::UnknownIsa };
    Err(Error::new(argument, kind(Name::new(name))))
}

/// The forced one's place in `Isa::available()` plus one; 0 for none.
static FORCED: AtomicU8 = AtomicU8::new(0);

/// Makes every operation of the process that is not given an instruction set use `isa`;
/// `None` ends that.
///
/// ```
/// use masktile::isa;
/// isa::force(Some(isa::Isa::SCALAR));
/// assert_eq!(isa::current()?, isa::Isa::SCALAR);
/// isa::force(None);
/// # Ok::<(), masktile::Error>(())
/// ```
pub fn force(isa: Option<Isa>) {
    let place = isa.and_then(|isa| Isa::available().position(|other| other == isa));
    FORCED.store(place.map_or(0, |place| place as u8 + 1), Ordering::Relaxed);
}

/// The instruction set of an operation that is not given one.
///
/// # Errors
/// If `MASKTILE_ISA` names none that the machine has. The variable is read once.
pub fn current() -> Result<Isa> {
    let forced = usize::from(FORCED.load(Ordering::Relaxed));
    if let Some(isa) = forced.checked_sub(1).and_then(|place| Isa::available().nth(place)) {
        return Ok(isa);
    }
    default()
}

#[cfg(feature = "std")]
fn default() -> Result<Isa> {
    static DEFAULT: std::sync::OnceLock<Result<Isa>> = std::sync::OnceLock::new();
    let default = DEFAULT.get_or_init(|| match std::env::var_os(VARIABLE) {
        Some(name) if !name.is_empty() => find(VARIABLE, &name.to_string_lossy()),
        _ => Ok(Isa::detect()),
    });
    // No copy of what is nearly never there.
    default.as_ref().copied().map_err(|error| *error)
}

#[cfg(not(feature = "std"))]
fn default() -> Result<Isa> {
    Ok(Isa::detect())
}

/// The given one or [`current`].
#[inline]
pub(crate) fn or_current(given: Option<Isa>) -> Result<Isa> {
    given.map_or_else(current, Ok)
}
