#![no_std]
#![no_main]

use cortex_m_rt::entry;
use masktile::{Mask, MatMut, MatRef, Matmul, Result, Softmax, TensorMut, TensorRef};
use masktile::{attention, decoder::KvCache, matmul};

const CACHE: [usize; 4] = [1, 1, 8, 32]; // batch, heads, tokens, dim
const SCRATCH: usize = attention::workspace_len(1, 8, 32, 32) + matmul::workspace_len(1, 32, 32);
static WORDS: [f32; 32 * 32] = [0.02; 32 * 32]; // out x in, stays in flash

fn step(x: &[f32; 32], cache: &mut KvCache, p: &mut [f32; 32], scratch: &mut [f32]) -> Result<()> {
    let (token, mut value) = (TensorRef::new(x, [1, 1, 1, 32])?, [0.0; 32]);
    cache.append(token, token)?; // its key and its value
    cache.attend(token).run(&mut TensorMut::new(&mut value, [1, 1, 1, 32])?, scratch)?;
    Matmul::new(MatRef::new(&value, [1, 32])?, MatRef::new(&WORDS, [32, 32])?.transposed())
        .run(&mut MatMut::new(p, [1, 32])?, scratch)?;
    Softmax::new().mask(Mask::KeyLengths(&[30])).run_in_place(MatMut::new(p, [1, 32])?)
}

#[entry]
fn main() -> ! {
    static mut MEMORY: [[f32; 8 * 32]; 2] = [[0.0; 8 * 32]; 2];
    static mut FLOATS: ([f32; 32], [f32; SCRATCH]) = ([0.0; 32], [0.0; SCRATCH]);
    let [keys, values] = MEMORY;
    if let (Ok(keys), Ok(values)) = (TensorMut::new(keys, CACHE), TensorMut::new(values, CACHE))
        && let Ok(mut cache) = KvCache::new(keys, values)
    {
        while step(&[1.0; 32], &mut cache, &mut FLOATS.0, &mut FLOATS.1).is_ok() {} // until full
    }
    cortex_m::asm::udf()
}

#[panic_handler]
fn never_linked(_: &core::panic::PanicInfo) -> ! {
    cortex_m::asm::udf()
}
