//! The harness notices what it promises to notice. Each test runs one misbehaving sample and reads
//! the report; a harness that let one pass, or hung on it, fails here.

#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::process::{Command, Output, Stdio};

fn samples(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_process-test-samples"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the samples start");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[track_caller]
fn report(name: &str, ok: bool, parts: &[&str]) -> String {
    let (output, text) = samples(&["--exact", name]);
    assert_eq!(output.status.success(), ok, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    text
}

/// The number after `word` in `text`.
fn number_after(text: &str, word: &str) -> i32 {
    let rest = text.split_once(word).expect(word).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().expect(word).parse().expect(word)
}

fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_test_that_returns_passes_and_its_output_is_not_shown() {
    let text =
        report("passes", true, &["test passes ... ok", "test result: ok. 1 passed; 0 failed"]);
    assert!(!text.contains("printed by"), "{text}");
}

#[test]
fn nocapture_shows_the_output() {
    let (_, text) = samples(&["--exact", "passes", "--nocapture"]);
    assert!(text.contains("printed by passes"), "{text}");
}

#[test]
fn a_skip_is_reported_with_its_reason() {
    report("skips", true, &["test skips ... ignored (needs a moon)", "0 failed; 1 ignored"]);
}

#[test]
fn a_panic_is_reported_with_place_message_and_output() {
    let parts = ["FAILED", "samples/main.rs:", "one is not two", "printed by panics"];
    report("panics", false, &parts);
}

#[test]
fn an_exit_code_and_a_signal_are_named() {
    report("exits_with_seven", false, &["exited with code 7"]);
    report("is_killed", false, &["killed by SIGKILL"]);
}

#[test]
fn the_watchdog_ends_a_test_that_hangs_and_dumps_its_processes() {
    let text = report("hangs", false, &["watchdog: still running after 2s", "state S"]);
    let dumped = text.matches("  pid ").count();
    assert_eq!(dumped, 2, "the body and its child:\n{text}");
    assert!(!exists(number_after(&text, "  pid ")), "{text}");
}

#[test]
fn a_process_left_behind_fails_the_test_and_is_killed() {
    let text = report("leaves_a_process_behind", false, &["left behind: pid ", "sleep 1000"]);
    assert!(!exists(number_after(&text, "left behind: pid ")), "{text}");
}

#[test]
fn an_orphan_in_its_own_session_is_found_and_killed_too() {
    let text = report("leaves_a_daemon_behind", false, &["left behind: pid "]);
    assert!(!exists(number_after(&text, "left behind: pid ")), "{text}");
}

#[test]
fn a_process_that_ends_within_the_grace_time_is_no_failure() {
    report("leaves_a_process_that_ends_soon", true, &["1 passed"]);
}

#[test]
fn a_panicking_test_takes_its_children_with_it() {
    let text = report("panics_and_drops_its_child", false, &["with a child"]);
    assert!(!text.contains("left behind"), "{text}");
}

#[test]
fn a_condition_that_does_not_come_is_named() {
    report("waits_in_vain", false, &["in vain until the moon rises"]);
}

#[test]
fn forking_with_several_threads_is_refused() {
    report("forks_with_threads", false, &["the process has 2 threads"]);
}

#[test]
fn files_left_in_tmpdir_fail_only_the_test_that_asked() {
    report("litters", false, &["left in TMPDIR: litter"]);
    report("litters_unasked", true, &["1 passed"]);
    report("runs_alone", true, &["1 passed"]);
}

#[test]
fn the_list_names_every_test_once() {
    let (output, text) = samples(&["--list"]);
    assert!(output.status.success());
    assert_eq!(text.lines().filter(|line| line.ends_with(": test")).count(), 17, "{text}");
    assert!(text.contains("\nskips: test\n"), "{text}");
}

#[test]
fn what_a_test_proves_stands_before_its_name_and_selects_it() {
    let (_, text) = samples(&["--list"]);
    assert!(text.contains("\n[B05 R26] proves_two_rows: test\n"), "{text}");
    let (output, text) = samples(&["R26"]);
    assert!(output.status.success() && text.contains("1 passed; 0 failed"), "{text}");
    report("proves_two_rows", true, &["test [B05 R26] proves_two_rows ... ok"]);
}

#[test]
fn a_runner_that_dies_leaves_no_process_and_no_folder() {
    let tmp = std::env::temp_dir().join(format!("report-{}", std::process::id()));
    std::fs::create_dir_all(&tmp).expect("TMPDIR can be written");
    let mut runner = Command::new(env!("CARGO_BIN_EXE_process-test-samples"))
        .args(["--exact", "sleeps_with_a_child", "--nocapture"])
        .env("TMPDIR", &tmp)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the samples start");
    let folders = || std::fs::read_dir(&tmp).expect("TMPDIR can be read").count();
    // Guard, body, and the child of the body.
    let pid = process_test::Pid::from_raw(runner.id().cast_signed());
    until("the test runs", || process_test::descendants(pid).len() == 3);
    assert_eq!(folders(), 1);
    let all = process_test::descendants(pid);
    runner.kill().expect("the runner can be killed");
    runner.wait().expect("the runner can be waited for");
    until("the guard has removed the folder", || folders() == 0);
    until("all its processes are gone", || !all.iter().any(|pid| process_test::alive(*pid)));
    std::fs::remove_dir(&tmp).expect("TMPDIR is empty");
}

#[test]
fn a_guard_that_is_ended_takes_its_test_with_it() {
    let tmp = std::env::temp_dir().join(format!("guard-{}", std::process::id()));
    std::fs::create_dir_all(&tmp).expect("TMPDIR can be written");
    let mut runner = Command::new(env!("CARGO_BIN_EXE_process-test-samples"))
        .args(["--exact", "sleeps_with_a_child", "--nocapture"])
        .env("TMPDIR", &tmp)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the samples start");
    let pid = process_test::Pid::from_raw(runner.id().cast_signed());
    until("the test runs", || process_test::descendants(pid).len() == 3);
    // Guard, body, and the child of the body.
    let all = process_test::descendants(pid);
    nix::sys::signal::kill(all[0], process_test::Signal::SIGTERM).expect("the guard can be ended");
    until("all are gone", || !all.iter().any(|pid| process_test::alive(*pid)));
    assert!(!runner.wait().expect("the runner ends").success());
    std::fs::remove_dir_all(&tmp).expect("TMPDIR can be removed");
}

fn until(what: &str, condition: impl FnMut() -> bool) {
    process_test::wait_until(what, std::time::Duration::from_secs(30), condition);
}
