//! Instruction sets: which the machine has, and how to force one.

use std::ffi::{CStr, c_char};

use crate::memory::call;
use crate::status::{Fault, Result, Status, caught};

/// An instruction set. Results have the same bits on each.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// The one forced by `masktile_isa_force`, else the one that the environment variable
    /// MASKTILE_ISA names, else the best that the machine has.
    Default = 0,
    /// Portable code, on every machine.
    Scalar = 1,
    /// WebAssembly's vectors.
    Wasm128 = 2,
    /// Arm's.
    Neon = 3,
    /// AVX2, FMA and F16C.
    Avx2 = 4,
    /// AVX-512 F, BW, DQ and VL.
    Avx512 = 5,
}

impl Isa {
    const ALL: [Isa; 6] =
        [Isa::Default, Isa::Scalar, Isa::Wasm128, Isa::Neon, Isa::Avx2, Isa::Avx512];

    const fn name(self) -> &'static CStr {
        match self {
            Isa::Default => c"default",
            Isa::Scalar => c"scalar",
            Isa::Wasm128 => c"wasm128",
            Isa::Neon => c"neon",
            Isa::Avx2 => c"avx2",
            Isa::Avx512 => c"avx512",
        }
    }

    fn of(isa: api::Isa) -> Isa {
        let is = |known: &Isa| known.name().to_str() == Ok(isa.name());
        Isa::ALL.into_iter().find(is).unwrap_or(Isa::Default)
    }
}

/// The instruction set that an argument asks for; none for the default.
pub(crate) fn asked_for(isa: u32) -> Result<Option<api::Isa>> {
    let known = usize::try_from(isa).ok().and_then(|isa| Isa::ALL.get(isa));
    match known {
        Some(Isa::Default) => Ok(None),
        Some(known) => Ok(Some(api::isa::named(&known.name().to_string_lossy())?)),
        None => {
            let what = format_args!("given {isa}, wanted one of MasktileIsa");
            Err(Fault::new(Status::UnknownIsa, "isa", what))
        }
    }
}

/// The name of an instruction set, as MASKTILE_ISA takes it; null for a number that is none of
/// `MasktileIsa`. Lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_isa_name(isa: u32) -> *const c_char {
    let known = usize::try_from(isa).ok().and_then(|isa| Isa::ALL.get(isa));
    known.map_or(std::ptr::null(), |isa| isa.name().as_ptr())
}

/// The best instruction set that the machine has.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_isa_best() -> Isa {
    Isa::of(api::Isa::detect())
}

/// Writes the instruction sets that the machine has, the plainest first, as many as `isas` has
/// room for. Gives how many there are. `isas` may be null if `room` is 0.
///
/// # Safety
/// `isas` has room for as many as `room` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_isa_available(isas: *mut Isa, room: usize) -> usize {
    let mut count = 0;
    for isa in api::Isa::available() {
        if count < room && !isas.is_null() && isas.is_aligned() {
            // SAFETY: the caller's: there is room for `room`.
            unsafe { isas.add(count).write(Isa::of(isa)) };
        }
        count += 1;
    }
    count
}

/// The instruction set of an operation that asks for the default, in `isa`. Fails if MASKTILE_ISA
/// names none that the machine has.
///
/// # Safety
/// `isa` is null or has room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_isa_current(isa: *mut Isa) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let isa = memory.write_one("isa", isa.cast::<u32>())?;
            *isa = Isa::of(api::isa::current()?) as u32;
            Ok(())
        })
    }
}

/// The instruction set called `name`, in any case, in `isa`. Fails, with a text that lists the
/// available ones, if the name is unknown or the machine lacks it.
///
/// # Safety
/// `name` is null or a string that ends with a zero; `isa` is null or has room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_isa_named(name: *const c_char, isa: *mut Isa) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let name = memory.text("name", name)?;
            let isa = memory.write_one("isa", isa.cast::<u32>())?;
            *isa = Isa::of(api::isa::named(&name)?) as u32;
            Ok(())
        })
    }
}

/// Makes every operation of the process that asks for the default use this instruction set;
/// `MASKTILE_ISA_DEFAULT` ends that.
#[unsafe(no_mangle)]
pub extern "C" fn masktile_isa_force(isa: u32) -> Status {
    caught(|| {
        api::isa::force(asked_for(isa)?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_number() {
        let named = |number: usize| Isa::ALL[number].name().to_str().unwrap();
        let known: Vec<&str> = api::Isa::known_names().collect();
        assert_eq!((1..Isa::ALL.len()).map(named).collect::<Vec<_>>(), known);
        for (number, isa) in Isa::ALL.into_iter().enumerate() {
            assert_eq!(isa as usize, number);
        }
        for isa in api::Isa::available() {
            assert_eq!(asked_for(Isa::of(isa) as u32).unwrap(), Some(isa));
        }
    }
}
