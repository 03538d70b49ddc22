//! What C can get wrong and Rust cannot: each gives its status and its text, touches no output, and
//! no panic passes.

mod common;

use std::ffi::{CStr, c_void};

use common::{
    BEFORE, args, assert_done, last_error, numbers, slice, slice_mut, view, view_mut, view_of,
};
use masktile::cache::{KvCache, masktile_kv_cache_append};
use masktile::mask::{KeptWhere, Mask, MaskKind, MaskOf};
use masktile::matmul::{
    Each, Matmul, masktile_matmul, masktile_matmul_parts, masktile_matmul_workspace_len,
};
use masktile::memory::{Slice, SliceMut};
use masktile::softmax::{Softmax, masktile_softmax};
use masktile::status::{Status, masktile_status_message};

// Every call's memory is what it says or is found out before it is used: `// SAFETY: lent` stands
// for that below.

const WORKSPACE: usize = api::matmul::workspace_len(2, 4, 3);

/// Runs a good 2 x 3 by 3 x 4 product made bad by `spoil`, which may use the memory of all.
#[track_caller]
fn check_product(spoil: impl FnOnce(&mut Matmul), status: Status, message: &str) {
    assert_eq!(masktile_matmul_workspace_len(2, 4, 3), WORKSPACE);
    let memory = numbers(1, 64);
    let (mut c, mut workspace) = ([BEFORE; 8], vec![BEFORE; WORKSPACE]);
    let mut args = args(|matmul: &mut Matmul| {
        matmul.a = view(&memory[..6], [1, 1, 2, 3]);
        matmul.b = view(&memory[6..18], [1, 1, 3, 4]);
        matmul.c = view_mut(&mut c, [1, 1, 2, 4]);
        matmul.workspace = slice_mut(&mut workspace);
    });
    // SAFETY: lent
    assert_done(unsafe { masktile_matmul(&args) });
    c.fill(BEFORE);
    spoil(&mut args);
    // SAFETY: lent
    unsafe {
        assert_eq!(masktile_matmul(&args), status, "{message}");
        assert_eq!(last_error(), message);
        let mut parts = std::ptr::dangling_mut();
        // Which takes its workspace later.
        if !message.contains("workspace") {
            assert_eq!(masktile_matmul_parts(&args, 2, &mut parts), status, "{message}");
            assert_eq!(parts, std::ptr::dangling_mut(), "touched: {message}");
        }
    }
    assert_eq!(c, [BEFORE; 8], "touched: {message}");
}

#[test]
fn pointers() {
    use Status::*;
    let null = "given a null pointer, wanted";
    check_product(|x| x.a.data = std::ptr::null(), Null, &format!("`a`: {null} 6 elements"));
    check_product(|x| x.c.data = std::ptr::null_mut(), Null, &format!("`c`: {null} 8 elements"));
    check_product(
        |x| x.bias = Slice { data: std::ptr::null(), len: 4 },
        Null,
        &format!("`bias`: {null} 4 elements"),
    );
    check_product(
        |x| x.workspace.data = std::ptr::null_mut(),
        Null,
        &format!("`workspace`: {null} {WORKSPACE} elements"),
    );
    let odd = std::ptr::without_provenance(0x1002);
    check_product(
        |x| x.b.data = odd,
        Misaligned,
        "`b`: address: given 0x1002, wanted a multiple of 4",
    );
    check_product(
        |x| x.c.data = odd.cast_mut(),
        Misaligned,
        "`c`: address: given 0x1002, wanted a multiple of 4",
    );
    let far = std::ptr::without_provenance::<f32>(usize::MAX - 3);
    check_product(
        |x| x.bias = Slice { data: far, len: 4 },
        Overflow,
        "`bias`: length: given 4 elements, wanted what memory can hold",
    );
    // SAFETY: found out
    unsafe {
        assert_eq!(masktile_matmul(std::ptr::null()), Null);
        assert_eq!(last_error(), format!("`args`: {null} 1 elements"));
        assert_eq!(masktile_matmul(odd.cast()), Misaligned);
        assert_eq!(last_error(), "`args`: address: given 0x1002, wanted a multiple of 8");
    }
}

#[test]
fn lengths_and_strides() {
    use Status::*;
    check_product(|x| x.a.len = 5, TooShort, "`a`: length: given 5, wanted at least 6");
    check_product(|x| x.c.len = 7, TooShort, "`c`: length: given 7, wanted at least 8");
    check_product(
        |x| (x.b.shape, x.b.strides) = ([1, 1, 4, 3], [0, 0, 3, 1]),
        Size,
        "`b`: rows: given 4, wanted 3",
    );
    let overflow = "extent: given sizes and strides over usize::MAX, wanted less";
    check_product(|x| x.a.strides[2] = usize::MAX, Overflow, &format!("`a`: {overflow}"));
    check_product(
        |x| x.c.strides = [0, 0, usize::MAX / 2 + 1, usize::MAX / 2 + 1],
        Overflow,
        &format!("`c`: {overflow}"),
    );
    check_product(|x| x.a.shape = [usize::MAX; 4], Overflow, &format!("`a`: {overflow}"));
    let most = isize::MAX as usize;
    check_product(
        |x| (x.b.len, x.b.strides[2]) = (usize::MAX, most / 4),
        Overflow,
        &format!("`b`: length: given {} elements, wanted what memory can hold", most / 4 * 2 + 4),
    );
    check_product(
        |x| x.workspace.len = most,
        Overflow,
        &format!("`workspace`: length: given {most} elements, wanted what memory can hold"),
    );
    check_product(
        |x| x.workspace.len = WORKSPACE - 1,
        TooShort,
        &format!("`workspace`: length: given {}, wanted at least {WORKSPACE}", WORKSPACE - 1),
    );
    check_product(
        |x| x.c.strides = [0, 0, 0, 1],
        Overlap,
        "in `c`: `strides`: strides: given ones by which elements overlap, wanted distinct elements",
    );
}

#[test]
fn operands_that_overlap() {
    use Status::*;
    check_product(
        |x| x.a.data = x.c.data,
        Overlap,
        "`a`: given memory of `c`, wanted memory of its own",
    );
    // By one number, at either end.
    for shift in [-5isize, 7] {
        check_product(
            |x| x.a.data = x.c.data.wrapping_offset(shift),
            Overlap,
            "`a`: given memory of `c`, wanted memory of its own",
        );
    }
    check_product(
        |x| x.bias = Slice { data: x.workspace.data, len: 4 },
        Overlap,
        "`bias`: given memory of `workspace`, wanted memory of its own",
    );
    check_product(
        |x| x.workspace = SliceMut { data: (&raw mut *x).cast(), len: 1 },
        Overlap,
        "`workspace`: given memory of `args`, wanted memory of its own",
    );
    check_product(
        |x| x.workspace.data = x.c.data,
        Overlap,
        "`workspace`: given memory of `c`, wanted memory of its own",
    );
}

/// A view's elements, not its memory, are what it spans: operands may share a buffer.
#[test]
fn operands_side_by_side_in_one_buffer() {
    let mut buffer = vec![0.5; 6 + 12 + 8];
    let mut workspace = vec![0.0; WORKSPACE];
    let len = buffer.len();
    let all = buffer.as_mut_ptr();
    let args = args(|matmul: &mut Matmul| {
        matmul.a = view(&[], [1, 1, 2, 3]);
        matmul.b = view(&[], [1, 1, 3, 4]);
        matmul.c = view_mut(&mut [], [1, 1, 2, 4]);
        (matmul.a.data, matmul.a.len) = (all, len);
        (matmul.c.data, matmul.c.len) = (all.wrapping_add(6), len - 6);
        (matmul.b.data, matmul.b.len) = (all.wrapping_add(14), len - 14);
        matmul.workspace = slice_mut(&mut workspace);
    });
    // SAFETY: lent
    assert_done(unsafe { masktile_matmul(&args) });
    assert_eq!(buffer[6..14], [0.75; 8]);
}

#[test]
fn structs_of_a_size_nobody_knows() {
    let least = std::mem::offset_of!(Matmul, packed_b);
    let most = size_of::<Matmul>();
    for size in [0, 1, least - 1, most + 1, usize::MAX] {
        check_product(
            |x| x.size = size,
            Status::StructSize,
            &format!("`args`: size: given {size}, wanted {least} to {most}"),
        );
    }
}

#[test]
fn enumerators() {
    check_product(
        |x| x.activation = 5,
        Status::Unknown,
        "`activation`: given 5, wanted one of MasktileActivation",
    );
    check_product(|x| x.isa = 6, Status::UnknownIsa, "`isa`: given 6, wanted one of MasktileIsa");
}

/// A cache's own struct is an output too.
#[test]
fn a_cache_whose_keys_lie_on_its_struct() {
    let mut cache = args(|_: &mut KvCache| {});
    cache.keys = view_mut(&mut [], [1, 1, 4, 1]);
    cache.keys.data = (&raw mut cache).cast::<f32>().wrapping_add(size_of::<KvCache>() / 4 - 1);
    cache.keys.len = 4;
    let mut values = [BEFORE; 4];
    cache.values = view_mut(&mut values, [1, 1, 4, 1]);
    let token = view(&[1.0], [1, 1, 1, 1]);
    // SAFETY: found out
    let status = unsafe { masktile_kv_cache_append(&mut cache, token, token) };
    assert_eq!(status, Status::Overlap);
    assert_eq!(last_error(), "`cache keys`: given memory of `cache`, wanted memory of its own");
    assert_eq!((cache.len, values), (0, [BEFORE; 4]));
}

unsafe extern "C-unwind" fn panics_each(_: *mut c_void, _: usize, _: usize, _: *mut f32, _: usize) {
    panic!("in each");
}

unsafe extern "C-unwind" fn panics_keeps(
    _: *mut c_void,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
) -> i32 {
    panic!("in kept_where");
}

#[test]
fn a_panic_in_a_function_of_the_callers_becomes_a_status() {
    let (a, b) = (numbers(1, 6), numbers(2, 12));
    let (mut c, mut workspace) = ([BEFORE; 8], vec![BEFORE; WORKSPACE]);
    let args_product = args(|matmul: &mut Matmul| {
        matmul.a = view(&a, [1, 1, 2, 3]);
        matmul.b = view(&b, [1, 1, 3, 4]);
        matmul.c = view_mut(&mut c, [1, 1, 2, 4]);
        matmul.workspace = slice_mut(&mut workspace);
        matmul.each = Each { function: Some(panics_each), user: std::ptr::null_mut() };
    });
    // SAFETY: lent
    assert_eq!(unsafe { masktile_matmul(&args_product) }, Status::Panic);
    assert_eq!(last_error(), "panic: in each");

    let kept_where = KeptWhere { function: Some(panics_keeps), user: std::ptr::null_mut() };
    let mask = args(|mask: &mut Mask| {
        (mask.kind, mask.of) = (MaskKind::KeptWhere as u32, MaskOf { kept_where });
    });
    let mut probs = [BEFORE; 6];
    let softmax = args(|softmax: &mut Softmax| {
        softmax.scores = view(&a, [1, 1, 2, 3]);
        softmax.probs = view_mut(&mut probs, [1, 1, 2, 3]);
        (softmax.masks, softmax.mask_count) = (&mask, 1);
    });
    // SAFETY: lent
    assert_eq!(unsafe { masktile_softmax(&softmax) }, Status::Panic);
    assert_eq!(last_error(), "panic: in kept_where");
}

#[test]
fn each_thread_has_its_own_last_error() {
    // SAFETY: found out
    assert_eq!(unsafe { masktile_matmul(std::ptr::null()) }, Status::Null);
    std::thread::scope(|scope| {
        let text = scope.spawn(last_error).join().unwrap();
        assert_eq!(text, "", "nothing failed there");
        let other = scope.spawn(|| {
            // SAFETY: found out
            unsafe { masktile_softmax(std::ptr::without_provenance(2)) };
            last_error()
        });
        assert!(other.join().unwrap().contains("0x2"));
    });
    assert!(last_error().contains("null"));
}

#[test]
fn messages() {
    let message = |status| {
        // SAFETY: lives as long as the program.
        unsafe { CStr::from_ptr(masktile_status_message(status)) }.to_str().unwrap()
    };
    let all: std::collections::BTreeSet<_> = (0..=21).map(message).collect();
    assert_eq!(all.len(), 22, "each its own");
    assert_eq!(message(0), "done");
    assert_eq!(message(u32::MAX), "an unknown status");
}

#[test]
fn half_precision_must_be_aligned() {
    let bias = [0u16; 5];
    let odd = bias.as_ptr().cast::<u8>().wrapping_add(1).cast::<u16>();
    let mut half_bias = view_of(&bias[..4], [1, 1, 2, 2]);
    half_bias.data = odd;
    let mask = args(|mask: &mut Mask| {
        (mask.kind, mask.of) = (MaskKind::BiasF16 as u32, MaskOf { half_bias });
    });
    let (scores, mut probs) = ([0.0; 4], [BEFORE; 4]);
    let softmax = args(|softmax: &mut Softmax| {
        softmax.scores = view(&scores, [1, 1, 2, 2]);
        softmax.probs = view_mut(&mut probs, [1, 1, 2, 2]);
        (softmax.masks, softmax.mask_count) = (&mask, 1);
        softmax.lse = SliceMut { data: std::ptr::null_mut(), len: 0 };
        softmax.sinks = slice(&[0.0]);
    });
    // SAFETY: found out
    assert_eq!(unsafe { masktile_softmax(&softmax) }, Status::Misaligned);
    assert_eq!(probs, [BEFORE; 4]);
}
