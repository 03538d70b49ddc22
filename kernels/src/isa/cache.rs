//! How large this processor's caches are.

/// Bytes of the caches of one core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caches {
    /// First level, for data.
    pub l1: usize,
    /// Second level.
    pub l2: usize,
}

/// Where the processor does not say: what the smaller server and phone cores have.
const USUAL: Caches = Caches { l1: 32 * 1024, l2: 512 * 1024 };

impl Caches {
    /// x86 is asked by CPUID, once; elsewhere the usual sizes.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    pub(crate) fn detect() -> Caches {
        use core::sync::atomic::{AtomicU32, Ordering};
        // Both in KiB, in one word; 0 for not yet asked. Two threads that ask at once find the same.
        static KNOWN: AtomicU32 = AtomicU32::new(0);
        let mut known = KNOWN.load(Ordering::Relaxed);
        if known == 0 {
            let kib = |found: usize, usual| if found == 0 { usual } else { found } as u32 / 1024;
            let [l1, l2] = super::cpuid::cache_sizes();
            known = kib(l1, USUAL.l1).min(0xfff) | kib(l2, USUAL.l2).min(0xf_ffff) << 12;
            KNOWN.store(known, Ordering::Relaxed);
        }
        Caches { l1: (known & 0xfff) as usize * 1024, l2: (known >> 12) as usize * 1024 }
    }

    /// x86 is asked by CPUID, once; elsewhere the usual sizes.
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
    pub(crate) fn detect() -> Caches {
        USUAL
    }
}
