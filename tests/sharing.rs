//! Shared use: every operation from 32 threads at once on the same inputs, with instruction sets
//! forced one way and another meanwhile, gives the bits of one thread alone.

mod common;
#[path = "common/operations.rs"]
mod operations;

use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{is_small, same_bits};
use masktile::{Isa, isa};
use operations::{COPIES, Inputs, OPERATIONS};

const THREADS: usize = 32;

/// Each thread runs all operations on each instruction set, beginning with another one than its
/// neighbour, while one thread forces instruction sets for the process.
#[test]
fn threads_at_once_give_the_bits_of_one_alone() {
    let inputs = Inputs::new(1.0);
    let isas: Vec<Isa> = Isa::available().collect();
    let all = || OPERATIONS.into_iter().chain(COPIES);
    let alone: Vec<Vec<f32>> = all().map(|(_, run)| run(&inputs, Isa::SCALAR)).collect();
    let (start, cases, done) = (Barrier::new(THREADS), AtomicUsize::new(0), AtomicBool::new(false));
    let work = |thread: usize| {
        start.wait();
        for round in 0..if is_small() { 1 } else { 4 } {
            for (i, (name, run)) in all().enumerate() {
                let isa = isas[(thread + round + i) % isas.len()];
                let given = run(&inputs, isa);
                assert!(same_bits(&given, &alone[i]), "{name}, {isa}, thread {thread}");
                // Whichever is forced at this moment.
                let current = isa::current().unwrap();
                assert!(same_bits(&run(&inputs, current), &alone[i]), "{name}, current {current}");
                cases.fetch_add(2, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let forcing = scope.spawn(|| {
            for isa in isas.iter().cycle() {
                isa::force(Some(*isa));
                std::thread::yield_now();
                if done.load(Ordering::Relaxed) {
                    return isa::force(None);
                }
            }
        });
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        forcing.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });
    println!("cases: {} operations on {THREADS} threads", cases.into_inner());
}

/// The first question for the instruction sets, asked by all threads of a new process at once,
/// has one answer.
#[test]
fn a_race_to_detect_is_harmless() {
    if is_small() {
        println!("left out: under emulation a process cannot start itself again");
        return;
    }
    let processes = 20;
    for _ in 0..processes {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "all_threads_detect", "--ignored", "--nocapture"])
            .env_remove(isa::VARIABLE)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("32 threads agree"), "{text}");
    }
    println!("cases: {} detections", processes * THREADS);
}

#[test]
#[ignore = "a process of its own, which a_race_to_detect_is_harmless starts"]
fn all_threads_detect() {
    let start = Barrier::new(THREADS);
    let answers: Vec<(Isa, Vec<Isa>)> = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            (isa::current().unwrap(), Isa::available().collect())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    println!("{THREADS} threads agree");
}
