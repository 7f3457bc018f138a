//! The promise: under fire for a few seconds the prefork server fails no request that a killed
//! worker did not have in hand, and has all its workers again after each phase.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use process_test::Test;
use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    let test = Test::new("no_request_fails_in_a_quick_run", no_request_fails_in_a_quick_run);
    process_test::main(vec![test.watchdog(Duration::from_secs(300))])
}

fn no_request_fails_in_a_quick_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_fire")).arg("--quick").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    assert!(output.status.success() && last.starts_with("fire: ok, "), "{said}");
    assert!(last.contains(" 0 failed, "), "{said}");
}
