//! The promise: whatever a peer writes into shared memory or sends to the socket, the postmaster neither
//! ends nor hangs, starts nothing that fails validation, signals nobody else's process, and goes on
//! serving.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod memory;
mod owners;
mod socket;
mod targets;

#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    let tests = [memory::tests(), owners::tests(), socket::tests(), targets::tests()];
    process_test::main(tests.concat())
}
