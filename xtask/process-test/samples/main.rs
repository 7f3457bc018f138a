//! A test binary that misbehaves in every way that the harness must notice. `tests/report.rs`
//! runs it and reads the report; run by hand it shows what a failure looks like.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use process_test::{Signal, Test, fork_child, skip, tests, wait_until};
use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    let mut all = tests![
        passes,
        skips,
        proves_two_rows => [B05, R26],
        panics,
        exits_with_seven,
        is_killed,
        leaves_a_process_behind,
        leaves_a_daemon_behind,
        leaves_a_process_that_ends_soon,
        panics_and_drops_its_child,
        waits_in_vain,
        sleeps_with_a_child,
        forks_with_threads,
        #[cfg(any())]
        is_not_compiled,
    ];
    all.push(Test::new("hangs", hangs).watchdog(Duration::from_secs(2)));
    all.push(Test::new("litters", litters).clean_tmp());
    all.push(Test::new("litters_unasked", litters));
    all.push(Test::new("runs_alone", passes).alone().clean_tmp());
    process_test::main(all)
}

fn passes() {
    println!("printed by passes");
    let mut child = fork_child(|| ());
    assert_eq!(child.wait().code(), Some(0));
}

fn skips() {
    skip("needs a moon");
}

fn proves_two_rows() {}

fn panics() {
    println!("printed by panics");
    assert_eq!(1, 2, "one is not two");
}

fn exits_with_seven() {
    std::process::exit(7);
}

fn is_killed() {
    nix::sys::signal::raise(Signal::SIGKILL).expect("raise");
}

fn hangs() {
    sleeps_with_a_child();
}

fn sleeps_with_a_child() {
    let _child = fork_child(|| std::thread::sleep(Duration::from_secs(1000)));
    std::thread::sleep(Duration::from_secs(1000));
}

fn leaves_a_process_behind() {
    std::mem::forget(Command::new("sleep").arg("1000").spawn().expect("sleep starts"));
}

/// Its parent ends at once and it has a session of its own: only a subreaper finds it.
fn leaves_a_daemon_behind() {
    let mut middle = fork_child(|| {
        std::mem::forget(fork_child(|| {
            nix::unistd::setsid().expect("setsid");
            std::thread::sleep(Duration::from_secs(1000));
        }));
    });
    assert_eq!(middle.wait().code(), Some(0));
}

fn leaves_a_process_that_ends_soon() {
    std::mem::forget(Command::new("sleep").arg("0.1").spawn().expect("sleep starts"));
}

fn panics_and_drops_its_child() {
    let _child = fork_child(|| std::thread::sleep(Duration::from_secs(1000)));
    panic!("with a child");
}

fn waits_in_vain() {
    wait_until("the moon rises", Duration::from_millis(20), || false);
}

fn forks_with_threads() {
    std::thread::scope(|scope| {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        let _child = fork_child(|| ());
        drop(done);
    });
}

fn litters() {
    std::fs::write(std::env::temp_dir().join("litter"), "x").expect("TMPDIR can be written");
}
