//! Random garbage never crashes, and an error touches nothing. The fuzz target `capi` looks for
//! worse, with AddressSanitizer.

pub use masktile as c;

#[path = "common/garbage/mod.rs"]
mod garbage;

use c::status::Status;
use garbage::Garbage;

#[test]
fn random_structs() {
    let mut state = 1u64;
    let mut ended = std::collections::BTreeMap::<u32, usize>::new();
    for _ in 0..100_000 {
        let choices: [u8; 512] = std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        *ended.entry(Garbage::new(&choices).call() as u32).or_default() += 1;
    }
    println!("cases: {} calls, by status {ended:?}", ended.values().sum::<usize>());
    // The garbage is worth something: calls come far, and most kinds of error are met.
    assert!(ended[&(Status::Ok as u32)] > 10_000, "{ended:?}");
    assert!(ended.len() > 10, "{ended:?}");
}
