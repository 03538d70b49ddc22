//! The allocator: each block has pages of its own between two that may not be touched.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// Where in its pages a block lies.
#[derive(Clone, Copy, Debug)]
pub enum Against {
    Begin,
    End,
}

thread_local! {
    static PLACE: Cell<Against> = const { Cell::new(Against::End) };
}

/// Where this thread's next blocks lie.
pub fn place(against: Against) {
    PLACE.set(against);
}

/// The allocator of the whole binary: whatever a test holds, masks of kinds that are yet to come
/// included, is guarded without a word in the test.
pub struct Guarded;

/// Bytes of a page; a multiple of the machine's would do as well.
fn page() -> usize {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Bytes of the pages that may be touched.
fn inner(size: usize) -> usize {
    size.next_multiple_of(page()).max(page())
}

// SAFETY: a block lies in a map of its own, `size` bytes of which may be touched from an address
// that is a multiple of `align`, which no layout here sets over a page. It begins in the first of
// the inner pages either way, so `dealloc` finds the map.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (page, inner) = (page(), inner(layout.size()));
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory of the system's choice; `first` and `inner` are inside it.
        unsafe {
            let bytes = inner + 2 * page;
            let map = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            if map == libc::MAP_FAILED || layout.align() > page {
                return std::ptr::null_mut();
            }
            let first = map.cast::<u8>().add(page);
            if libc::mprotect(first.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                return std::ptr::null_mut();
            }
            match PLACE.get() {
                Against::Begin => first,
                Against::End => {
                    first.add((inner - layout.size()) / layout.align() * layout.align())
                }
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let page = page();
        let map = block.wrapping_sub(block.addr() % page + page);
        // SAFETY: `alloc` made this map, and nobody uses the block any more.
        unsafe { libc::munmap(map.cast(), inner(layout.size()) + 2 * page) };
    }
}

/// The test itself: a read or a write one byte too far must fault, or the others prove nothing.
#[test]
fn the_guard_guards() {
    for (against, offset) in [(Against::Begin, -1), (Against::End, 13)] {
        place(against);
        let mut memory = vec![1u8; 13];
        let stray = memory.as_mut_ptr().wrapping_offset(offset);
        // SAFETY: the child only touches one byte, faults or leaves; it needs no lock and no memory.
        unsafe {
            for write in [false, true] {
                let child = libc::fork();
                if child == 0 {
                    match write {
                        true => stray.write_volatile(0),
                        false => {
                            stray.read_volatile();
                        }
                    }
                    libc::_exit(0);
                }
                let mut status = 0;
                libc::waitpid(child, &mut status, 0);
                // By a signal, or by a sanitizer that took the signal.
                assert_ne!(status, 0, "{against:?}, write {write}: not stopped");
            }
        }
    }
}
