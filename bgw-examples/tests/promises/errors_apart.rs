//! The promise: where it is asked for, the standard error goes into a file of its own, rotated as
//! the other one, and both streams are remembered.
//!
//! Would catch: a line in the wrong file, a stream that nobody reads, a file without rotation.
//!
//! Of two streams nobody promises which one is read first. So each test looks at one stream, or at
//! lines of both without their order.

use crate::output::{cluster, script, text, wait_for_text, with_folder};
use crate::support::{Cluster, stopped, worker};
use bgw_backend::{
    Backend, BackgroundWorker, EventKind, EventsFrom, ExitCause, Output, OutputFile, Worker,
    WorkerError, entry,
};
use process_test::{Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        errors_go_into_a_file_of_their_own_where_that_is_asked_for => [P62],
        the_file_for_errors_is_rotated_as_the_other_one => [P62],
        the_last_lines_are_those_of_both_streams => [P64],
        a_name_that_leaves_no_room_for_its_errors_is_refused => [P01],
    ]
}

fn speaks(_: &mut Worker) -> Result<(), WorkerError> {
    println!("out");
    eprintln!("error");
    Ok(())
}

/// Would fail if one stream went into the other's file, in a function, in a command of either way
/// to start one, or with spares.
fn errors_go_into_a_file_of_their_own_where_that_is_asked_for() {
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| {
            let builder = with_folder(builder).warm_spares(1).run_atfork_handlers(fork);
            builder.function("speaks", entry(speaks))
        });
        let file = |kind| OutputFile::new(format!("{kind}-{fork}"));
        let function = |file| worker("speaks").output(file).build().unwrap();
        let apart = function(file("function").errors_apart());
        let command = script("echo out; echo error >&2", file("command").errors_apart());
        for worker in [apart, command, function(file("both"))] {
            let handle = cluster.backend.register(&worker).unwrap();
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        }
        // The collector has written everything when the cluster has ended.
        cluster.end();
        for kind in ["function", "command"] {
            assert_eq!(text(&format!("{kind}-{fork}")), "out\n");
            assert_eq!(text(&format!("{kind}-{fork}.err")), "error\n");
        }
        // One pipe for both: their lines are in order.
        assert_eq!(text(&format!("both-{fork}")), "out\nerror\n");
        assert_eq!(text(&format!("both-{fork}.err")), "");
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Would fail if the file for errors grew without a limit, or took the other one along.
fn the_file_for_errors_is_rotated_as_the_other_one() {
    let cluster = cluster();
    let files = OutputFile::new("web").rotate(4096, 1).errors_apart();
    let lines = "i=0; while [ $i -lt 300 ]; do echo \"a line of errors, number $i\" >&2; \
                 i=$((i + 1)); done; echo out; exec sleep 1000";
    let (chatty, _) = cluster.start(&script(lines, files));
    // Each wait is for one stream.
    wait_for_text("web.err", "number 299\n");
    wait_for_text("web", "out\n");
    let len = |name: &str| text(name).len();
    assert!(len("web.err") <= 4096 && (1..=4096).contains(&len("web.err.1")));
    assert_eq!((text("web").as_str(), len("web.1"), len("web.err.2")), ("out\n", 0, 0));
    chatty.terminate().unwrap();
    stopped(&chatty);
    assert!(lost_nothing(&cluster.backend));
    cluster.end();
}

/// Would fail if one stream were forgotten, or a line of it that has no end yet.
fn the_last_lines_are_those_of_both_streams() {
    let cluster = cluster();
    let text = "echo o1; echo e1 >&2; echo o2; echo e2 >&2; printf o3; printf e3 >&2";
    for output in [OutputFile::new("apart").errors_apart().into(), Output::Null] {
        let talks = BackgroundWorker::builder("talks").command("/bin/sh", ["-c", text]);
        let talks = talks.output(output.clone()).last_lines(6).build().unwrap();
        let handle = cluster.backend.register(&talks).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        let last = handle.last_lines().unwrap();
        if output == Output::Null {
            assert_eq!(last, ["o1", "e1", "o2", "e2", "o3e3"]);
            continue;
        }
        let of = |stream| -> Vec<&str> {
            last.iter().map(String::as_str).filter(|line| line.starts_with(stream)).collect()
        };
        assert_eq!((of('o'), of('e')), (vec!["o1", "o2", "o3"], vec!["e1", "e2", "e3"]));
    }
    cluster.end();
}

fn lost_nothing(backend: &Backend) -> bool {
    let mut events = backend.events(EventsFrom::Oldest).unwrap();
    let mut all = std::iter::from_fn(|| events.try_next().unwrap());
    all.all(|event| event.kind != EventKind::OutputLost)
}

fn a_name_that_leaves_no_room_for_its_errors_is_refused() {
    let built = |len: usize| {
        let file = OutputFile::new("x".repeat(len)).errors_apart();
        worker("speaks").output(file).build()
    };
    built(27).unwrap();
    let error = built(28).unwrap_err();
    assert_eq!(error.field(), "output");
    assert!(error.to_string().contains("27 bytes"), "{error}");
}
