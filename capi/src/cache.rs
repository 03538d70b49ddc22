//! Caches of keys and values, over memory of the caller's.
//!
//! Each has an append and an attention of its last tokens, whose mask, where none is given, is
//! causal with the last query of a batch at the last of its keys. Any number of threads may attend
//! to a cache at once while none appends.

use api::cache::PagedKv;

use crate::attention::{Attention, Source, attend, without_keys};
use crate::memory::{Args, Memory, Slice, SliceMut, View, ViewMut, call};
use crate::status::{Result, Status};

/// A cache all of whose batches hold as many tokens.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KvCache {
    /// `sizeof(MasktileKvCache)`.
    pub size: usize,
    /// Batch x kv_heads x capacity x dim.
    pub keys: ViewMut<f32>,
    /// Batch x kv_heads x capacity x value_dim.
    pub values: ViewMut<f32>,
    /// How many tokens it holds. Make it less to forget the last ones.
    pub len: usize,
}

/// A cache whose batches are filled differently.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RaggedCache {
    /// `sizeof(MasktileRaggedCache)`.
    pub size: usize,
    /// Batch x kv_heads x capacity x dim.
    pub keys: ViewMut<f32>,
    /// Batch x kv_heads x capacity x value_dim.
    pub values: ViewMut<f32>,
    /// How many tokens it holds of each batch.
    pub lengths: SliceMut<usize>,
}

/// A cache in pages: token t of batch b is token `t mod n` of page `table[b][t / n]`, with pages of n
/// tokens. Pages may be shared between batches to read. Which pages a sequence gets is yours: write
/// the table before you append.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PagedCache {
    /// `sizeof(MasktilePagedCache)`.
    pub size: usize,
    /// Pages x kv_heads x page length x dim.
    pub keys: ViewMut<f32>,
    /// Pages x kv_heads x page length x value_dim.
    pub values: ViewMut<f32>,
    /// 1 x 1 x batch x pages of a sequence. Of it only what the lengths need is read.
    pub table: View<u32>,
    /// How many tokens it holds of each batch.
    pub lengths: SliceMut<usize>,
}

// SAFETY: numbers and pointers.
unsafe impl Args for KvCache {
    const LEAST: usize = size_of::<KvCache>();
}
// SAFETY: numbers and pointers.
unsafe impl Args for RaggedCache {
    const LEAST: usize = size_of::<RaggedCache>();
}
// SAFETY: numbers and pointers.
unsafe impl Args for PagedCache {
    const LEAST: usize = size_of::<PagedCache>();
}

/// Appends one or more tokens, batch x kv_heads x tokens x dim of keys and x value_dim of values.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_kv_cache_append(
    cache: *mut KvCache,
    keys: View<f32>,
    values: View<f32>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let given = memory.copied("cache", cache)?;
            let len = std::mem::offset_of!(KvCache, len);
            let len = memory.write_one("cache", cache.cast::<u8>().wrapping_add(len).cast())?;
            // The room behind what it holds, as an empty cache.
            let mut room = |argument, view: ViewMut<f32>| {
                let left = view.shape[2].saturating_sub(given.len);
                Ok::<_, crate::status::Fault>(
                    memory.view_mut(argument, &view)?.narrow(2, given.len, left)?,
                )
            };
            let (room_keys, room_values) =
                (room("cache keys", given.keys)?, room("cache values", given.values)?);
            let mut cache = api::cache::KvCache::new(room_keys, room_values)?;
            cache.append(memory.view("keys", &keys)?, memory.view("values", &values)?)?;
            *len = given.len + cache.len();
            Ok(())
        })
    }
}

/// Attention of `args->q`, the last tokens of the cache, over all that it holds. Without masks it is
/// causal; masks take the place of that, so give it too where both are meant.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_kv_cache_attend(
    cache: *const KvCache,
    args: *const Attention,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        attend_to(cache, args, |memory, cache| {
            let source = first_tokens(memory, cache.keys, cache.values, cache.len)?;
            Ok((source, api::Causal::bottom_right().into()))
        })
    }
}

/// Attention over keys and values from `source`, with its mask where none is given.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
unsafe fn attend_to<C: Args>(
    cache: *const C,
    args: *const Attention,
    source: impl for<'a> FnOnce(&Memory<'a>, &C) -> Result<(Source<'a>, api::Mask<'a>)>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let (cache, args) = (memory.copied("cache", cache)?, memory.copied("args", args)?);
            without_keys(&args)?;
            attend(&mut memory, &args, |memory| source(memory, &cache))
        })
    }
}

/// The first `len` tokens of every batch.
fn first_tokens<'a>(
    memory: &Memory<'a>,
    keys: ViewMut<f32>,
    values: ViewMut<f32>,
    len: usize,
) -> Result<Source<'a>> {
    let k = memory.view("cache keys", &keys.to_read())?.narrow(2, 0, len)?;
    let v = memory.view("cache values", &values.to_read())?.narrow(2, 0, len)?;
    Ok(Source::Tensors { k, v })
}

/// Appends the first `counts[b]` tokens of each batch b of keys, batch x kv_heads x tokens x dim, and
/// values.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_ragged_cache_append(
    cache: *const RaggedCache,
    keys: View<f32>,
    values: View<f32>,
    counts: Slice<usize>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let cache = memory.copied("cache", cache)?;
            let mut cache = api::cache::RaggedCache::new(
                memory.view_mut("cache keys", &cache.keys)?,
                memory.view_mut("cache values", &cache.values)?,
                memory.write("lengths", cache.lengths)?,
            )?;
            let (keys, values) = (memory.view("keys", &keys)?, memory.view("values", &values)?);
            Ok(cache.append(keys, values, memory.read("counts", counts)?)?)
        })
    }
}

/// Attention of `args->q`, the last tokens of each batch, over all that it holds; as
/// `masktile_kv_cache_attend`. The masks speak of as many keys as the longest batch has.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_ragged_cache_attend(
    cache: *const RaggedCache,
    args: *const Attention,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        attend_to(cache, args, |memory, cache| {
            let lengths = memory.read("lengths", cache.lengths.to_read())?;
            let longest = lengths.iter().max().copied().unwrap_or(0);
            let source = first_tokens(memory, cache.keys, cache.values, longest)?;
            Ok((source, api::Causal::ending_at(lengths).into()))
        })
    }
}

/// Appends the first `counts[b]` tokens of each batch b of keys, batch x kv_heads x tokens x dim, and
/// values, to the pages that the table names.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_paged_cache_append(
    cache: *const PagedCache,
    keys: View<f32>,
    values: View<f32>,
    counts: Slice<usize>,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        call(|mut memory| {
            let given = memory.copied("cache", cache)?;
            let cache_keys = memory.view_mut("cache keys", &given.keys)?;
            let cache_values = memory.view_mut("cache values", &given.values)?;
            let lengths = memory.write("lengths", given.lengths)?;
            let table = memory.view("table", &given.table)?;
            let (keys, values) = (memory.view("keys", &keys)?, memory.view("values", &values)?);
            let counts = memory.read("counts", counts)?;
            let cache = api::cache::PagedCache::new(cache_keys, cache_values, table, lengths);
            Ok(cache?.append(keys, values, counts)?)
        })
    }
}

/// Attention of `args->q`, the last tokens of each batch, over all that it holds; as
/// `masktile_kv_cache_attend`. The masks speak of as many keys as the longest batch has; those
/// behind a batch's length are masked whatever they say.
///
/// # Safety
/// Every pointer leads to as many elements as are said to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn masktile_paged_cache_attend(
    cache: *const PagedCache,
    args: *const Attention,
) -> Status {
    // SAFETY: the caller's.
    unsafe {
        attend_to(cache, args, |memory, cache| {
            let kv = PagedKv::new(
                memory.view("cache keys", &cache.keys.to_read())?,
                memory.view("cache values", &cache.values.to_read())?,
                memory.view("table", &cache.table)?,
                memory.read("lengths", cache.lengths.to_read())?,
            )?;
            Ok((Source::Paged(kv), api::Causal::ending_at(kv.lengths()).into()))
        })
    }
}
