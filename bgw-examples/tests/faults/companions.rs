//! The promise: whoever waits for a slot gets one answer, and lines of output go on, whatever step
//! the postmaster or its output collector dies at.
//!
//! Would catch: a wait that outlasts the postmaster, a collector that is not replaced, a torn line.

use crate::support::fault::{a_new_postmaster_takes_over, cluster, cluster_with, in_postmaster};
use crate::support::{PATIENCE, alive, simple, stopped};
use bgw_backend::{BackgroundWorker, OutputFile, RegisterError, WorkerStatus};
use process_test::{Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_death_in_a_grant_is_noticed => [P58],
        an_output_collector_killed_at_any_step_is_replaced => [P62, P65],
    ]
}

/// Would time out if a ticket were waited for after the death, and fail if one that was granted
/// looked refused.
fn the_death_in_a_grant_is_noticed() {
    for point in in_postmaster(&["ticket:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        let answer = cluster.backend.register_timeout(&simple("sleep"), PATIENCE);
        match (point, answer) {
            ("ticket:granted", Ok(handle)) => {
                let end = handle.wait_for_end_timeout(PATIENCE).unwrap();
                assert_eq!(end, WorkerStatus::PostmasterDied, "{point}");
            }
            ("ticket:granted", refused) => panic!("{point}: {refused:?}"),
            (_, Err(RegisterError::PostmasterDied { .. } | RegisterError::Ask(_))) => {}
            (_, other) => panic!("{point}: {other:?}"),
        }
        let postmaster = cluster.launched.pid();
        wait_until(&format!("{point} is reached"), PATIENCE, || !alive(postmaster));
        cluster.launched.wait().unwrap();
        a_new_postmaster_takes_over(point);
    }
}

/// Would time out if no other collector took over, and fail if it left a line half written.
fn an_output_collector_killed_at_any_step_is_replaced() {
    for point in in_postmaster(&["collector:"]) {
        let folder = std::env::temp_dir().join(point.replace(':', "-"));
        let cluster = cluster_with(&format!("{point}=kill"), |builder| {
            builder.allow_commands(true).output_dir(&folder)
        });
        let says = |text: &str| {
            let worker = BackgroundWorker::builder("says").command("echo", [text]);
            let worker = worker.output(OutputFile::new("lines")).build().unwrap();
            stopped(&cluster.backend.register(&worker).unwrap());
        };
        says("first");
        says("second");
        let text = || std::fs::read_to_string(folder.join("lines")).unwrap_or_default();
        // Of the first, the collector may have taken the line along.
        wait_until(&format!("{point}: the second line"), PATIENCE, || text().ends_with("second\n"));
        let right = text().lines().all(|line| ["first", "second"].contains(&line));
        assert!(right, "{point}: {}", text());
        cluster.end();
    }
}
