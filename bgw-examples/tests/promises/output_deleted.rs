//! The promise: a file of output that somebody deletes is made anew, and lines that find no folder
//! are counted and told.
//!
//! Would catch: lines that go into a file that has no name any more, without a word.

use crate::output::{cluster, text, wait_for_text};
use crate::support::{PATIENCE, ready, stopped, worker};
use bgw_backend::{EventKind, EventsFrom, ExitCause, OutputFile};
use process_test::{Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_file_that_is_deleted_is_made_anew => [P65],
        lines_that_find_no_folder_are_counted_and_told => [P65],
    ]
}

/// Would fail if the collector wrote on into the file that it had open.
fn a_file_that_is_deleted_is_made_anew() {
    let cluster = cluster();
    let chatter = worker("chatter").output(OutputFile::new("c")).build().unwrap();
    let (chatter, _) = cluster.start(&chatter);
    ready(&chatter);
    for _ in 0..3 {
        wait_for_text("c", "line ");
        std::fs::remove_file(std::env::temp_dir().join("outputs/c")).unwrap();
    }
    wait_for_text("c", "line ");
    chatter.terminate().unwrap();
    assert_eq!(stopped(&chatter).cause, ExitCause::Exited(0));
    cluster.end();
    assert!(text("c").ends_with("the last\n"));
}

/// Would fail if the lines were lost without a word, or if the worker saw any of it.
fn lines_that_find_no_folder_are_counted_and_told() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let chatter = worker("chatter").output(OutputFile::new("c")).build().unwrap();
    let (chatter, _) = cluster.start(&chatter);
    ready(&chatter);
    wait_for_text("c", "line 0\n");
    let folder = std::env::temp_dir().join("outputs");
    // Between its two steps the collector may make the file anew.
    process_test::wait_until("the folder is gone", PATIENCE, || {
        std::fs::remove_dir_all(&folder).is_ok() || !folder.exists()
    });
    let lost = std::iter::from_fn(|| events.next_timeout(PATIENCE).unwrap())
        .find(|event| event.kind == EventKind::OutputLost);
    let lost = lost.unwrap();
    assert!(lost.handle == Some(chatter.id()) && lost.count > 0, "{lost:?}");
    chatter.terminate().unwrap();
    assert_eq!(stopped(&chatter).cause, ExitCause::Exited(0));
    cluster.end();
}
