//! The same promises at every named point: a process of the cluster dies, stops or fails there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod claims;
mod companions;
mod hand_overs;
mod pools;
mod postmaster;
mod reset;
mod results;
mod reuse;
mod spares;
mod start;
mod templates;

#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    let tests = [
        claims::tests(),
        companions::tests(),
        hand_overs::tests(),
        pools::tests(),
        postmaster::tests(),
        reset::tests(),
        results::tests(),
        reuse::tests(),
        spares::tests(),
        start::tests(),
        templates::tests(),
    ];
    process_test::main(process_test::watchdog(std::time::Duration::from_secs(240), tests.concat()))
}
