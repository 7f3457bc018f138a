//! What postmaster, backends and workers promise together: one module a promise.
//!
//! One program, so that the crates are linked once; each test runs in a process of its own all the
//! same. `cargo test -p bgw-examples --test promises waits::` runs one module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cancel;
mod child;
mod child_barrier;
mod churn;
mod commands;
mod database;
mod descriptors;
mod ends;
mod examples;
mod groups;
mod guardian;
mod handles;
mod hostile_peers;
mod latch;
mod leader;
mod libraries;
mod log;
mod notify;
mod observers;
mod parallel;
mod peers;
mod postmaster_death;
mod privileges;
mod register;
mod reports;
mod reset;
mod restart;
mod ring;
mod shutdown;
mod signals;
mod spares;
mod start_failures;
mod terminate;
mod views;
mod waits;
mod worker_spi;

#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    let tests = [
        cancel::tests(),
        child::tests(),
        child_barrier::tests(),
        churn::tests(),
        commands::tests(),
        database::tests(),
        ends::tests(),
        descriptors::tests(),
        examples::tests(),
        groups::tests(),
        guardian::tests(),
        handles::tests(),
        hostile_peers::tests(),
        latch::tests(),
        leader::tests(),
        libraries::tests(),
        log::tests(),
        signals::tests(),
        notify::tests(),
        observers::tests(),
        parallel::tests(),
        peers::tests(),
        postmaster_death::tests(),
        privileges::tests(),
        register::tests(),
        reports::tests(),
        reset::tests(),
        restart::tests(),
        ring::tests(),
        shutdown::tests(),
        spares::tests(),
        start_failures::tests(),
        terminate::tests(),
        views::tests(),
        waits::tests(),
        worker_spi::tests(),
    ];
    process_test::main(tests.concat())
}
