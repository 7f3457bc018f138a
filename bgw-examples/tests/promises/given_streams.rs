//! The promise: a command reads from and writes to what its registrant gives it as its standard
//! streams, at each start.
//!
//! Would catch: a stream under another number, two that are mixed, an end that somebody keeps open.

use crate::gifts::{all_of, script, with_functions};
use crate::support::{Cluster, note_path, stopped, the_end};
use bgw_backend::{ExitCause, RestartPolicy};
use process_test::{Test, tests};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![a_command_has_its_standard_streams_from_its_registrant => [J08]]
}

/// Fails if a stream is another one, if two are mixed, or if somebody else keeps one open.
fn a_command_has_its_standard_streams_from_its_registrant() {
    for atfork_handlers in [false, true] {
        let cluster =
            Cluster::with(|builder| with_functions(builder).run_atfork_handlers(atfork_handlers));
        let [input, out, err, other] = [(); 4].map(|()| UnixStream::pair().unwrap());
        let text = "read line; echo \"out $line\"; echo \"err $line\" >&2; \
                    echo \"$LISTEN_FDNAMES\" >&3; read line || echo end";
        let command = script(text)
            .give_at(2, "err", err.1)
            .give("other", other.1)
            .give_at(0, "in", input.1)
            .give_at(1, "out", out.1)
            .build()
            .unwrap();
        let handle = cluster.backend.register(&command).unwrap();
        drop(command);
        (&input.0).write_all(b"hello\n").unwrap();
        input.0.shutdown(std::net::Shutdown::Write).unwrap();
        let said = [out.0, err.0, other.0].map(all_of);
        assert_eq!(said, ["out hello\nend\n", "err hello\n", "other\n"]);
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        // One file for two streams: the lines stay in order. The others are as always.
        let path = note_path("both");
        let file = std::fs::File::create(&path).unwrap();
        let command = script("echo one; echo two >&2; echo three; [ -e /dev/stdin ]; exit 5");
        let command = command.give_at(1, "out", file.try_clone().unwrap()).give_at(2, "err", file);
        let handle = cluster.backend.register(&command.build().unwrap()).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(5));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        // With an environment and a folder of its own, and again in each run.
        let (out, theirs) = UnixStream::pair().unwrap();
        let command = script("echo $A; pwd; [ -e $A ] || { : > $A; exit 1; }");
        let path = note_path(&format!("ran-{atfork_handlers}")).display().to_string();
        let command = command.env("A", &path).current_dir("/").give_at(1, "out", theirs);
        let command = command.restart(RestartPolicy::Fixed(Duration::ZERO)).build().unwrap();
        let handle = cluster.backend.register(&command).unwrap();
        drop(command);
        assert_eq!(all_of(out), format!("{path}\n/\n{path}\n/\n"));
        assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}
