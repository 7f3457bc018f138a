//! The promise: a reload reaches a command once it has attached, and never before.
//!
//! Would catch: a SIGHUP that ends a program which has no handler yet, or never has one.

use crate::attached::{Done, command, register};
use crate::support::{Cluster, read_note, ready, started, the_end, write_note};
use bgw_backend::{BackgroundWorker, ExitCause, Ready, Worker};
use process_test::{Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![a_reload_reaches_a_command_once_it_has_attached => [D09]]
}

/// Attaches late, and notes how often it is to reload.
pub(crate) fn client(ignores: bool) -> Done {
    write_note("begun", "")?;
    read_note("go");
    let mut worker = Worker::from_env()?;
    worker.handle_terminate();
    if !ignores {
        worker.handle_reload()?;
    }
    worker.ready();
    let mut reloads = 0;
    while !worker.should_stop() {
        if worker.reload_requested() {
            reloads += 1;
            write_note(&format!("reload-{reloads}"), "")?;
        }
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would fail if a program that has no handler yet got SIGHUP, which ends it, or if one that has
/// attached got none.
fn a_reload_reaches_a_command_once_it_has_attached() {
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| builder.max_workers(64).run_atfork_handlers(fork));
        // It never attaches, though it may.
        let sleeps = BackgroundWorker::builder("sleeps").command("sleep", ["1000"]).attach();
        let plain = BackgroundWorker::builder("plain").command("sleep", ["1000"]);
        let [sleeps, plain] = [sleeps, plain].map(|builder| register(&cluster, builder));
        let pids = [started(&sleeps), started(&plain)];
        let late = register(&cluster, command("reloads").ready(Ready::Call));
        read_note("begun");
        cluster.backend.reload().unwrap();
        let ignores = register(&cluster, command("ignores").ready(Ready::Call));
        write_note("go", "").unwrap();
        let late_pid = ready(&late);
        let ignores_pid = ready(&ignores);
        for reload in 1..=2 {
            // Of those that come within a tenth of a second the last ones are one.
            cluster.backend.reload().unwrap();
            read_note(&format!("reload-{reload}"));
        }
        assert!(!crate::support::note_path("reload-3").exists());
        assert_eq!([started(&sleeps), started(&plain)], pids);
        assert_eq!([started(&late), started(&ignores)], [late_pid, ignores_pid]);
        late.terminate().unwrap();
        assert_eq!(the_end(&late).cause, ExitCause::Exited(0));
        for note in ["begun", "go", "reload-1", "reload-2"] {
            std::fs::remove_file(crate::support::note_path(note)).unwrap();
        }
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}
