//! Every fault point in every scenario: once the process that reaches it is killed there, once it
//! is stopped there and goes on later. Then the invariants.
//!
//! | file | what |
//! |---|---|
//! | `calls` | typed calls, each with one outcome |
//! | `fault` | the points, and in whom each is armed |
//! | `output` | commands whose output is collected |
//! | `pool` | a pool, whose jobs have one outcome each |
//! | `registrant` | a program that registers and asks; what it sees goes into the journal |
//! | `rolls` | workers whose next run starts beside the present one |
//! | `scenario` | what it does, and what the cluster is like |
//! | `stage` | one run: the postmaster, a registrant, a waiter, whoever is stopped, the verdict |
//!
//! The points are not chosen here: they are the lists of the crates. A point that no scenario
//! reaches is printed.

mod calls;
mod fault;
mod output;
mod pool;
mod registrant;
mod rolls;
mod scenario;
mod stage;

use crate::processes;
use fault::{Action, Fault, points};
use process_test::{Ended, fork_child};
use scenario::Scenario;
use stage::{Found, Stage};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A run that takes so many seconds is named: somebody waited for a deadline.
const SLOW: u64 = 4;
/// A run that takes longer hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Runs all, or those whose name contains `only`. The last line says what was found.
pub(crate) fn run(only: Option<&str>) -> Result<bool, String> {
    crate::sys::become_subreaper().map_err(|error| error.to_string())?;
    let of_scenario = |scenario: &Scenario| only.is_none_or(|only| scenario.name().contains(only));
    // A text that names no scenario names points, in all of them.
    let named = Scenario::ALL.iter().any(of_scenario);
    let wanted = |text: &str| named || only.is_none_or(|only| text.contains(only));
    let (mut runs, mut failed) = (0, 0);
    let mut reached = BTreeSet::new();
    let mut all = BTreeSet::new();
    let mut scenarios = 0;
    for scenario in Scenario::ALL.into_iter().filter(|scenario| !named || of_scenario(scenario)) {
        scenarios += 1;
        let began = Instant::now();
        let calm = one(Stage { scenario, fault: None, descriptors: None });
        let descriptors = match calm {
            Ok(Found { descriptors, .. }) => descriptors,
            Err(why) => {
                println!("BROKEN: {}, no fault: {why}", scenario.name());
                failed += 1;
                continue;
            }
        };
        let (mut here, mut met) = (0, 0);
        for (point, party) in points() {
            let name = Fault { point, party, action: Action::Kill }.name();
            if !wanted(&name) {
                continue;
            }
            all.insert(name.clone());
            let mut this = false;
            for action in [Action::StopAndGoOn, Action::Kill] {
                let fault = Fault { point, party, action };
                here += 1;
                let began = Instant::now();
                let outcome =
                    one(Stage { scenario, fault: Some(fault), descriptors: Some(descriptors) });
                let seconds = began.elapsed().as_secs();
                if seconds >= SLOW {
                    println!("slow: {}, {name}, {action:?}: {seconds} s", scenario.name());
                }
                match outcome {
                    Ok(found) => this |= found.reached,
                    Err(why) => {
                        println!("BROKEN: {}, {name}, {action:?}: {why}", scenario.name());
                        failed += 1;
                    }
                }
            }
            if this {
                met += 1;
                reached.insert(name);
            }
        }
        runs += here;
        let seconds = began.elapsed().as_secs();
        println!("{:<28} {here:>4} runs, {met:>3} points reached, {seconds} s", scenario.name());
    }
    let never: Vec<&String> = all.difference(&reached).collect();
    for name in &never {
        println!("never reached: {name}");
    }
    let (points, scenarios) = (all.len(), scenarios);
    let word = if failed == 0 { "ok" } else { "failed" };
    println!(
        "chaos: {word}, {points} points x {scenarios} scenarios, {runs} runs, {failed} broken, {} points never reached",
        never.len()
    );
    Ok(failed == 0)
}

/// One run in a process of its own, under the watchdog.
fn one(stage: Stage) -> Result<Found, String> {
    let results = crate::journal::Journal::new(1).map_err(|error| error.to_string())?;
    let mut child = fork_child(|| stage.run(results));
    let began = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Some(ended) => break Some(ended),
            None if began.elapsed() > WATCHDOG => break None,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let pid = child.pid().as_raw().unsigned_abs();
    let hang = if ended.is_none() { crate::report::hang(pid) } else { String::new() };
    drop(child);
    let left = processes::end_all_children();
    match ended {
        Some(Ended::Code(0)) if left == 0 => stage::found(results),
        Some(Ended::Code(0)) => Err(format!("{left} processes were left")),
        Some(Ended::Code(1)) => Err("see the line before".to_owned()),
        Some(ended) => Err(format!("the run ended by {ended:?}")),
        None => Err(format!("the run hangs\n{hang}")),
    }
}
