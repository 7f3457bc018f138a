//! A checked model of a slot's life: claims, starts, ends that nobody has read, crash resets, and
//! the death of any party between any two of its steps.
//!
//! The loom models of shmem-slots run the real code and find wrong orderings, with two or three
//! threads and no deaths. This model takes each step as atomic, in program order, and goes through
//! every order in which the parties can take their steps and die. The words of the slots are
//! [`shmem_slots::Snapshot`], and those of spares are changed by `shmem_slots::taker`: their
//! transitions are called, not copied.
//!
//! What it leaves out: restarts, hints of free slots (a claim looks at the slots in any order),
//! half-written payloads and reports (loom has those), time.
//!
//! Prints `model: ok, N states, M properties` as its last line.
#![deny(unsafe_code)]

mod config;
mod holds;
mod job;
mod model;
mod postmaster;
mod progress;
mod properties;
mod publish;
mod registrant;
mod sizes;
mod spare;
mod spare_state;
mod state;
mod sweep;
mod takers;
#[cfg(test)]
mod tests;
mod waiter;
mod words;

use stateright::{Checker, Model};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let (mut states, mut failures) = (0, 0);
    let (mut properties, mut unreached) = (BTreeSet::new(), BTreeSet::new());
    // Sizes of this name alone, for whoever works on the model.
    let part = std::env::args().nth(1);
    let is_meant =
        |size: &&config::Config| part.as_ref().is_none_or(|part| size.name.contains(part));
    for size in sizes::ALL {
        unreached.extend(size.properties().iter().map(|property| property.name));
    }
    for size in sizes::ALL.iter().filter(is_meant) {
        let began = Instant::now();
        let checker = size.checker().threads(1).spawn_bfs().join();
        let count = checker.unique_state_count();
        println!("{:<32} {count:>9} states, {:.1} s", size.name, began.elapsed().as_secs_f64());
        states += count;
        for property in size.properties() {
            properties.insert(property.name);
            let found = checker.discovery(property.name);
            if !property.expectation.discovery_is_failure() {
                if found.is_some() {
                    unreached.remove(property.name);
                }
                continue;
            }
            unreached.remove(property.name);
            if let Some(path) = found {
                println!("BROKEN: {}. Shortest way there:\n{path}", property.name);
                failures += 1;
            }
        }
    }
    for name in unreached.iter().filter(|_| part.is_none()) {
        println!("NEVER REACHED: {name}");
    }
    failures += if part.is_none() { unreached.len() } else { 0 };
    if failures > 0 {
        println!("model: {failures} failures, {states} states, {} properties", properties.len());
        return ExitCode::FAILURE;
    }
    println!("model: ok, {states} states, {} properties", properties.len());
    ExitCode::SUCCESS
}
