//! The promise: thirty seconds of chaos, with another seed each time, find nothing; neither do the
//! fault points, in the scenario that passes through most of a worker's life.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use process_test::Test;
use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    let long = Duration::from_secs(600);
    // Each set of features runs one of the two.
    let test = if cfg!(feature = "fault") {
        Test::new("every_fault_point_of_a_restarted_worker_leaves_the_cluster_whole", exhaustive)
    } else {
        Test::new("thirty_seconds_of_chaos_find_nothing", random)
    };
    process_test::main(vec![test.watchdog(long)])
}

fn random() {
    finds_nothing(&["--seconds", "30"]);
}

fn exhaustive() {
    finds_nothing(&["--exhaustive", "--only", "restarted"]);
}

#[track_caller]
fn finds_nothing(flags: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos")).args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    assert!(output.status.success() && last.starts_with("chaos: ok"), "{said}");
}
