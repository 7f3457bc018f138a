//! What is printed when something is broken: the events of the handle concerned, and where
//! processes wait.

use crate::job::Job;
use crate::journal::{Event, Kind};
use crate::oracle::Verdict;
use crate::processes;
use crate::seen::Seen;
use bgw_backend::WorkerHandle;
use std::collections::BTreeSet;

/// How many violations are printed with their history.
const SHOWN: usize = 3;

/// How many lives of the slots the events tell of, but for the first.
pub(crate) fn resets(events: &[Event]) -> usize {
    let registered = events.iter().filter(|event| event.kind == Kind::Registered);
    let lives: BTreeSet<u32> = registered.map(|event| event.handle.incarnation()).collect();
    lives.len().saturating_sub(1)
}

/// Prints each violation and the history of its handle.
pub(crate) fn print(events: &[Event], verdict: &Verdict) {
    for violation in verdict.violations.iter().take(SHOWN) {
        println!("BROKEN: {}: {}", violation.handle, violation.what);
        print_history(events, violation.handle);
    }
    if verdict.violations.len() > SHOWN {
        println!("and {} more violations", verdict.violations.len() - SHOWN);
    }
    let broken = events.iter().filter(|event| event.kind == Kind::Broken);
    let handles: BTreeSet<WorkerHandle> = broken.map(|event| event.handle).collect();
    for handle in handles.into_iter().filter(|handle| *handle != crate::journal::NOBODY).take(SHOWN)
    {
        print_history(events, handle);
    }
}

fn print_history(events: &[Event], handle: WorkerHandle) {
    println!("  history of {handle} (milliseconds, tickets of begin and end, who, what):");
    let mut last = (String::new(), 0);
    for event in events.iter().filter(|event| event.handle == handle) {
        let what = format!("{:>8x} {}", event.who, line(event));
        if what == last.0 {
            last.1 += 1;
            continue;
        }
        if last.1 > 0 {
            println!("           and {} times more", last.1);
        }
        println!("  {:>6} {:>8}..{:<8} {what}", event.at, event.begin, event.end);
        last = (what, 0);
    }
    if last.1 > 0 {
        println!("           and {} times more", last.1);
    }
}

fn line(event: &Event) -> String {
    match event.kind {
        Kind::Registered => format!("registers {:?}", Job::decode(event.a)),
        Kind::Saw => format!("sees {:?} ({})", Seen::decode(event.a, event.b), how(event.c)),
        Kind::TimedOut => "waits in vain".to_owned(),
        Kind::Terminated => "requests its end".to_owned(),
        Kind::Signalled => format!("sends signal {} to process {}", event.b, event.a),
        Kind::Began => format!("process {} has begun", event.a),
        Kind::Left => format!("process {} leaves its function", event.a),
        Kind::Dropped => "drops the handle".to_owned(),
        Kind::Broken => "finds it broken".to_owned(),
        Kind::Did => format!("deed {}", event.a),
    }
}

fn how(bits: u64) -> String {
    let names =
        ["the registrant", "by a wait", "its first look after the end", "for the end for good"];
    let said: Vec<&str> =
        (0..4).filter(|bit| bits >> bit & 1 == 1).map(|bit| names[bit as usize]).collect();
    if said.is_empty() { "somebody".to_owned() } else { said.join(", ") }
}

/// Where `root` and all its descendants wait.
pub(crate) fn hang(root: u32) -> String {
    let mut text = String::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        text.push_str(&processes::describe(pid));
        next.extend(processes::children(pid).iter().map(|child| child.pid));
    }
    text
}
