//! The promise: whoever dies, stops or fails at whatever step of a load or of a fork by a template,
//! a worker starts, or is told why not, and nothing is left over.
//!
//! The tests arm every point in the lists, and one that is never reached fails them.

use crate::support::fault::descriptors;
use crate::support::fault::{
    a_new_postmaster_takes_over, cluster_with, in_postmaster, in_templates, nothing_leaked,
};
use crate::support::template::{
    failure, of_template, sleepers, templates, the_template, used, with_templates, write_model,
};
use crate::support::{Cluster, PATIENCE, alive, children, kill, stopped, wait_for_state};
use bgw_backend::{ExitCause, Pid, WorkerStatus};
use bgw_postmaster::Template;
use process_test::{Signal, Test, tests, wait_until, zombies_of};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_template_killed_at_each_step_loses_no_worker => [J45],
        a_template_stopped_at_each_step_holds_nobody_up => [J45],
        a_step_that_fails_is_told_or_tried_again => [J41],
        the_postmasters_death_at_each_step_of_an_order_leaves_nobody => [J45],
    ]
}

fn cluster(faults: &str) -> Cluster {
    write_model("x");
    let soon = Duration::from_millis(300);
    let settings = Template::new().on_first_use().load_timeout(soon).fork_timeout(soon);
    cluster_with(faults, with_templates(settings))
}

/// In these a template has not loaded yet.
fn loads(point: &str) -> bool {
    matches!(point, "template:forked" | "template:before_loaded")
}

/// A worker of the template starts, from its successor if need be; and nothing is left over.
#[track_caller]
fn serves(cluster: &Cluster, point: &str) {
    if loads(point) {
        let why = failure(cluster);
        assert!(why.starts_with("template \"models\": "), "{point}: {why}");
        wait_until(&format!("it is loaded again: {point}"), PATIENCE, || {
            let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
            stopped(&handle).cause == ExitCause::Exited(0)
        });
    }
    assert_eq!(used(cluster).0, "x", "{point}");
    the_template(cluster);
    nobody_is_left(cluster, point);
}

#[track_caller]
fn nobody_is_left(cluster: &Cluster, point: &str) {
    let postmaster = nix::unistd::Pid::from_raw(cluster.launched.pid().as_raw());
    wait_until(&format!("nobody is left: {point}"), PATIENCE, || {
        sleepers(cluster).is_empty() && zombies_of(postmaster).is_empty()
    });
    // The guardian, and the template.
    let all = children(cluster.launched.pid());
    assert!(all.len() <= 2, "{point}: {all:?}");
}

/// Would fail if a child that nobody has reported were left, or were taken for a stranger.
fn a_template_killed_at_each_step_loses_no_worker() {
    for point in in_templates() {
        let cluster = cluster(&format!("{point}=kill"));
        let descriptors = descriptors(cluster.launched.pid());
        serves(&cluster, point);
        // The template has two: its end, and its socket.
        nothing_leaked(&cluster, descriptors + 2, point);
        cluster.end();
    }
}

/// Would hang if the postmaster or a worker waited for the template longer than it may take.
fn a_template_stopped_at_each_step_holds_nobody_up() {
    for point in in_templates() {
        let cluster = cluster(&format!("{point}=stop"));
        if point.starts_with("sleeper:") {
            // It is the worker's process already, or about to be: it goes on where it was.
            let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
            let pid = match handle.wait_for_startup_timeout(PATIENCE).unwrap() {
                WorkerStatus::Started(pid) => pid,
                other => panic!("{point}: {other}"),
            };
            wait_for_state(pid, 'T', point);
            kill(pid, Signal::SIGCONT);
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{point}");
        }
        if !matches!(point, "template:loaded" | "template:reported") {
            serves(&cluster, point);
        } else {
            // It has nothing to say until it is asked.
            assert_eq!(used(&cluster).0, "x", "{point}");
            assert_eq!(used(&cluster).0, "x", "{point}");
        }
        cluster.end();
    }
}

/// Would fail if a worker waited for a child that will never be.
fn a_step_that_fails_is_told_or_tried_again() {
    for point in ["template:forked", "template:before_fork", "sleeper:forked", "order:before"] {
        let cluster = cluster(&format!("{point}=error"));
        if point == "template:before_fork" {
            let why = failure(&cluster);
            assert!(why.contains("\"models\": it could not fork: Resource temp"), "{why}");
        }
        serves(&cluster, point);
        cluster.end();
    }
}

/// Would fail if a template, or what it has forked, outlived the postmaster.
fn the_postmasters_death_at_each_step_of_an_order_leaves_nobody() {
    for point in in_postmaster(&["order:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        let seen = || -> Vec<Pid> {
            let mut all = templates(&cluster);
            all.extend(sleepers(&cluster));
            all
        };
        let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
        let mut all = Vec::new();
        wait_until(&format!("{point} is reached"), PATIENCE, || {
            all.extend(seen());
            !alive(cluster.launched.pid())
        });
        let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
        assert_eq!(status, WorkerStatus::PostmasterDied, "{point}");
        wait_until(&format!("all have ended: {point}"), PATIENCE, || {
            !all.iter().any(|&pid| alive(pid))
        });
        a_new_postmaster_takes_over(point);
    }
}
