//! The promise: thirty seconds of chaos with a new seed each time find nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use process_test::{Test, tests};
use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    let mut tests = tests![];
    tests.push(
        Test::new("thirty_seconds_of_chaos_find_nothing", chaos).watchdog(Duration::from_secs(600)),
    );
    process_test::main(tests)
}

fn chaos() {
    let program = env!("CARGO_BIN_EXE_chaos");
    let output = Command::new(program).args(["--seconds", "30"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    assert!(output.status.success() && last.starts_with("chaos: ok"), "{said}");
}
