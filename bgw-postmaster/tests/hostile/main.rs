//! The promise: whatever a peer writes into shared memory or sends to the socket, the postmaster
//! neither ends nor hangs, starts nothing that fails validation, signals nobody else's process, and
//! goes on serving.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod gifts;
mod memory;
mod owners;
mod socket;
mod targets;
mod twice;

#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    let tests = [
        gifts::tests(),
        memory::tests(),
        owners::tests(),
        socket::tests(),
        targets::tests(),
        twice::tests(),
    ];
    process_test::main(tests.concat())
}
