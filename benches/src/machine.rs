//! What the operating system says of this machine: processor, caches, and what disturbs a
//! measurement. Linux says it under `/proc` and `/sys`; where a file is missing, so is the fact.

use std::fs::read_to_string;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use core_affinity::CoreId;

/// What `/proc/cpuinfo` says of the first processor behind one of `names`.
fn cpuinfo(names: &[&str]) -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        names.contains(&name.trim()).then(|| value.trim().to_owned())
    })
}

/// The processor's name, or the architecture's where it has none.
pub fn cpu_name() -> String {
    cpuinfo(&["model name", "Model", "Hardware"]).unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// Features as Linux names them.
pub fn features() -> Vec<String> {
    let flags = cpuinfo(&["flags", "Features"]).unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Processors that this process might use when it was first asked, before it pinned itself.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// Starts this program once more, with addresses that are the same in every process, where the system
/// lets it: chance else decides which lines of stack, scratch memory and operands push one another out
/// of a cache, and a process keeps its luck for all of its rounds.
#[cfg(target_os = "linux")]
pub fn fix_addresses() {
    use std::os::unix::process::CommandExt;

    use nix::sys::personality::{self, Persona};

    let Ok(now) = personality::get() else { return };
    let fixed = now | Persona::ADDR_NO_RANDOMIZE;
    if fixed != now && personality::set(fixed).is_ok() {
        // Returns only if it fails, and then this process measures as it is.
        let _ =
            std::process::Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    }
}

/// Starts this program once more, with addresses that are the same in every process, where the system
/// lets it.
#[cfg(not(target_os = "linux"))]
pub fn fix_addresses() {}

/// Where operands may lie.
#[derive(Clone, Debug)]
pub struct Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: String,
    /// Bytes that it holds; of memory, all there may be.
    pub bytes: usize,
}

/// The levels from the first cache to memory.
pub fn levels() -> Vec<Level> {
    let mut levels: Vec<Level> = (0..).map_while(cache).flatten().collect();
    levels.sort_by_key(|level| level.bytes);
    levels.push(Level { name: "DRAM".into(), bytes: usize::MAX });
    levels
}

/// The first core's cache of this index; nothing inside where it holds no data.
fn cache(index: usize) -> Option<Option<Level>> {
    let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
    let read = |name| read_to_string(Path::new(&path).join(name)).ok();
    let kind = read("type")?;
    let level = Level { name: format!("L{}", read("level")?.trim()), bytes: size(&read("size")?)? };
    Some((kind.trim() != "Instruction").then_some(level))
}

/// Bytes of `512K`.
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => 1,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// `32 KiB`
pub fn bytes(bytes: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4) as usize;
    let amount = bytes as f64 / (1u64 << (10 * unit)) as f64;
    format!("{} {}", (amount * 10.0).round() / 10.0, units[unit])
}

/// What makes measurements on this machine doubtful now, a line each.
pub fn warnings() -> Vec<String> {
    [frequency(), boost(), load(), neighbours(), virtual_machine()].into_iter().flatten().collect()
}

fn frequency() -> Option<String> {
    let path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let governor = read_to_string(path).ok()?;
    let governor = governor.trim();
    (governor != "performance")
        .then(|| format!("the clock is scaled by the governor `{governor}`, not `performance`"))
}

fn boost() -> Option<String> {
    let is = |path, wanted| read_to_string(path).is_ok_and(|text| text.trim() == wanted);
    let boosts = is("/sys/devices/system/cpu/cpufreq/boost", "1")
        || is("/sys/devices/system/cpu/intel_pstate/no_turbo", "0");
    boosts
        .then(|| "the clock boosts while few cores work: threads scale worse than they are".into())
}

fn load() -> Option<String> {
    let text = read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load > 0.5).then(|| format!("other programs run: load {load} on {} cores", cores()))
}

fn neighbours() -> Option<String> {
    let text = read_to_string("/sys/devices/system/cpu/smt/active").ok()?;
    (text.trim() == "1").then(|| "two threads share a core: each may slow the other".into())
}

fn virtual_machine() -> Option<String> {
    features().iter().any(|feature| feature == "hypervisor").then(|| {
        "a virtual machine: its host may move it, and neighbours share caches and memory".into()
    })
}

/// Pins this thread, and so those that it starts, to the last core that it may use, which has the
/// fewest interrupts; returns its number.
///
/// # Errors
/// If the operating system refuses.
pub fn pin() -> Result<usize> {
    cores();
    let core = allowed().into_iter().next_back().context("cannot tell which cores there are")?;
    ensure!(core_affinity::set_for_current(core), "cannot pin to core {}", core.id);
    Ok(core.id)
}

/// The cores that this thread may use.
pub fn allowed() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("32K\n"), Some(32 << 10));
        assert_eq!(size("16M"), Some(16 << 20));
        assert_eq!(size("100"), Some(100));
        assert_eq!(size("large"), None);
    }

    #[test]
    fn bytes_are_written_with_their_units() {
        assert_eq!(bytes(1000), "1000 B");
        assert_eq!(bytes(32 << 10), "32 KiB");
        assert_eq!(bytes((16 << 20) + (1 << 19)), "16.5 MiB");
    }
}
