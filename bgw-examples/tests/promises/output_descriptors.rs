//! The promise: the output of workers goes line by line to a descriptor that their registrant or
//! the launcher gives. No line is torn, and a reader that sleeps or is gone costs no worker more
//! than a second, and no SIGPIPE: what it has not taken is counted, and told.
//!
//! Would catch: a line cut where the reader has stopped, a worker that hangs with it, a pipe whose
//! end is never seen, a line that nobody counts.

use crate::output::{cluster, collector, script, with_folder};
use crate::support::{Cluster, PATIENCE, alive, kill, note_path, ready, stopped, worker};
use bgw_backend::{
    BackgroundWorker, EventKind, Events, EventsFrom, ExitCause, Handle, NotStarted,
    OutputDescriptor, RestartPolicy,
};
use bgw_postmaster::{Postmaster, StaticError};
use process_test::{Signal, Test, tests, wait_until};
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        lines_go_to_a_pipe_a_socket_and_a_file_that_are_given => [P62],
        the_lines_of_many_workers_come_whole_out_of_one_pipe => [P62],
        a_command_does_not_have_what_its_output_goes_to => [J08],
        a_reader_that_sleeps_holds_no_worker_up_and_learns_what_it_has_missed => [P62, P63, P65],
        lines_that_are_dropped_when_full_are_counted => [P63],
        a_reader_that_is_gone_costs_no_worker_sigpipe => [P65],
        a_killed_collector_costs_no_worker_its_descriptor => [P65],
        a_reader_that_sleeps_holds_no_shutdown_up => [P63],
        what_no_lines_can_be_written_to_is_told_with_the_lines,
        the_launcher_s_descriptors_take_output_too => [P62],
        an_output_to_a_descriptor_that_is_not_there_is_refused => [P01],
    ]
}

fn to(name: &str) -> OutputDescriptor {
    OutputDescriptor::new(name)
}

/// A command whose output goes to `descriptor`.
fn writes(text: &str, descriptor: impl Into<OwnedFd>) -> BackgroundWorker {
    let builder = BackgroundWorker::builder("writes").command("/bin/sh", ["-c", text]);
    builder.give("log", descriptor).output(to("log")).build().unwrap()
}

/// Prints so many lines, each with its number.
fn numbered(lines: u64) -> String {
    format!("seq -f 'line %08.0f of them, which is neither short nor long' {lines}")
}

/// What a reader has got of numbered lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    lines: u64,
    /// Lines that it was told it has missed.
    missed: u64,
}

/// Fails if a line is torn, comes twice, or out of order.
fn got(text: &str) -> Got {
    let (mut all, mut last) = (Got::default(), 0);
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(note) = line.strip_prefix('[') {
            let (count, why) = note.split_once(' ').unwrap();
            assert!(why.starts_with("lines of output were lost: "), "{line}");
            all.missed += count.parse::<u64>().unwrap();
            continue;
        }
        let (number, rest) =
            line.strip_prefix("line ").and_then(|line| line.split_once(' ')).unwrap();
        assert_eq!(rest, "of them, which is neither short nor long");
        let number = number.parse::<u64>().unwrap();
        assert!(number > last, "{line} after {last}");
        last = number;
        all.lines += 1;
    }
    all
}

/// All that comes until nobody has the other end.
fn all_of(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn register(cluster: &Cluster, worker: BackgroundWorker) -> Handle {
    let handle = cluster.backend.register(&worker).unwrap();
    drop(worker);
    handle
}

/// How many lines the worker has lost, by the next event that says so.
fn wait_for_loss(events: &mut Events, handle: &Handle) -> u64 {
    loop {
        let event = events.next_timeout(PATIENCE).unwrap().expect("lines are lost");
        if event.kind == EventKind::OutputLost {
            assert_eq!(event.handle, Some(handle.id()));
            return event.count.into();
        }
    }
}

/// Would fail if lines were lost or mixed up, or if somebody kept the descriptor: then the reader
/// would never see its end.
fn lines_go_to_a_pipe_a_socket_and_a_file_that_are_given() {
    let cluster = Cluster::with(|builder| {
        with_folder(builder).warm_spares(1).function(
            "speaks",
            bgw_backend::entry(|_: &mut bgw_backend::Worker| {
                println!("out");
                eprintln!("error");
                print!("end");
                Ok::<(), bgw_backend::WorkerError>(())
            }),
        )
    });
    let function = |descriptor: OwnedFd| {
        worker("speaks").give("log", descriptor).output(to("log")).build().unwrap()
    };
    let command = |descriptor: OwnedFd| writes("echo out; echo error >&2; printf end", descriptor);
    for make in [&function as &dyn Fn(OwnedFd) -> BackgroundWorker, &command] {
        let (reader, writer) = pipe().unwrap();
        let handle = register(&cluster, make(writer.into()));
        assert_eq!(all_of(reader), "out\nerror\nend\n");
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let handle = register(&cluster, make(theirs.into()));
        assert_eq!(all_of(ours), "out\nerror\nend\n");
        stopped(&handle);
        let path = note_path("file");
        let handle = register(&cluster, make(std::fs::File::create(&path).unwrap().into()));
        stopped(&handle);
        let text = || std::fs::read_to_string(&path).unwrap();
        wait_until("the file has its last line", PATIENCE, || text().ends_with("end\n"));
        assert_eq!(text(), "out\nerror\nend\n");
    }
    // Each run goes on where the last one has ended.
    let (reader, writer) = pipe().unwrap();
    let path = note_path("runs").display().to_string();
    let text = format!("echo run; echo x >> {path}; [ $(wc -l < {path}) -ge 3 ] || exit 1");
    let again = BackgroundWorker::builder("again").command("/bin/sh", ["-c", &text]);
    let again = again.restart(RestartPolicy::after_secs(0)).unbraked();
    let again = again.give("log", writer).output(to("log")).last_lines(2).build().unwrap();
    let handle = register(&cluster, again);
    assert_eq!(all_of(reader), "run\nrun\nrun\n");
    stopped(&handle);
    assert_eq!(handle.last_lines().unwrap(), ["run", "run"]);
    cluster.end();
}

/// Would fail if what one worker writes got into a line of another one's, though both were given
/// descriptors of one pipe.
fn the_lines_of_many_workers_come_whole_out_of_one_pipe() {
    // All of it fits into the pipe: nobody depends on how fast this is read.
    const LINES: u64 = 60;
    let cluster = cluster();
    let (reader, writer) = pipe().unwrap();
    let handles: Vec<Handle> = (0..8)
        .map(|_| register(&cluster, writes(&numbered(LINES), writer.try_clone().unwrap())))
        .collect();
    drop(writer);
    let text = all_of(reader);
    let mut numbers: Vec<&str> = text.lines().collect();
    numbers.sort_unstable();
    let expected = (1..=LINES).flat_map(|number| {
        let line = format!("line {number:08} of them, which is neither short nor long");
        std::iter::repeat_n(line, 8)
    });
    assert!(numbers.iter().copied().eq(expected.collect::<Vec<_>>().iter()));
    handles.iter().for_each(|handle| drop(stopped(handle)));
    cluster.end();
}

/// Would fail if the command had a duplicate, or other descriptors under wrong names.
fn a_command_does_not_have_what_its_output_goes_to() {
    let cluster = cluster();
    let (reader, writer) = pipe().unwrap();
    let [first, second] = [(); 2].map(|()| UnixStream::pair().unwrap().0);
    let text = "echo $LISTEN_FDS $LISTEN_FDNAMES; ls /proc/self/fd | grep -c '^[345]$'";
    let builder = BackgroundWorker::builder("lists").command("/bin/sh", ["-c", text]);
    let builder = builder.give("a", first).give("log", writer).give("b", second);
    let worker = builder.output(to("log")).build().unwrap();
    assert!(worker.given().eq(["a", "log", "b"]));
    let handle = register(&cluster, worker);
    // 5 is the folder that ls has open.
    assert_eq!(all_of(reader), "2 a:b\n3\n");
    stopped(&handle);
    cluster.end();
}

/// Would fail if a worker hung in its write, if a line were cut where the reader had stopped, or
/// if the numbers that the reader, the events and the worker tell did not add up.
fn a_reader_that_sleeps_holds_no_worker_up_and_learns_what_it_has_missed() {
    const LINES: u64 = 50_000;
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (reader, writer) = pipe().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ends: [(Box<dyn Read>, OwnedFd); 2] =
        [(Box::new(reader), writer.into()), (Box::new(ours), theirs.into())];
    for (mut reader, writer) in ends {
        let done = note_path("done");
        let go = note_path("go");
        let (done, go) = (done.display().to_string(), go.display().to_string());
        let lines = numbered(LINES);
        let text = format!("{lines}; : > {done}; until [ -e {go} ]; do sleep 0.02; done");
        let handle = register(&cluster, writes(&text, writer));
        // Nobody reads.
        let exists = || std::path::Path::new(&done).exists();
        wait_until("the worker has written all", PATIENCE, exists);
        let first = wait_for_loss(&mut events, &handle);
        std::fs::write(&go, "").unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let got = got(&text);
        assert_eq!(got.lines + got.missed, LINES, "{got:?}");
        assert!(got.lines > 500 && got.missed > 10_000, "{got:?}");
        std::fs::remove_file(done).unwrap();
        std::fs::remove_file(go).unwrap();
        let told = first
            + std::iter::from_fn(|| events.try_next().unwrap())
                .filter(|event| event.kind == EventKind::OutputLost)
                .map(|event| u64::from(event.count))
                .sum::<u64>();
        assert!(told <= got.missed, "{told} of {got:?}");
    }
    cluster.end();
}

/// Would fail if the worker waited for its reader, or if the numbers did not add up.
fn lines_that_are_dropped_when_full_are_counted() {
    const LINES: u64 = 20_000;
    let cluster = cluster();
    let (reader, writer) = pipe().unwrap();
    let lines = numbered(LINES);
    let builder = BackgroundWorker::builder("writes").command("/bin/sh", ["-c", &lines]);
    let builder = builder.give("log", writer).output(to("log").drop_when_full());
    let handle = register(&cluster, builder.build().unwrap());
    // Nobody reads.
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let got = got(&all_of(reader));
    assert_eq!(got.lines + got.missed, LINES, "{got:?}");
    assert!(got.lines > 500 && got.missed > 0, "{got:?}");
    cluster.end();
}

/// Would fail if the worker were killed by SIGPIPE, saw an error, or if lines went uncounted.
fn a_reader_that_is_gone_costs_no_worker_sigpipe() {
    const LINES: u64 = 5000;
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (reader, writer) = pipe().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.shutdown(Shutdown::Both).unwrap();
    drop((reader, ours));
    for writer in [OwnedFd::from(writer), theirs.into()] {
        let go = note_path("go");
        let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
        let handle = register(&cluster, writes(&format!("{} && {wait}", numbered(LINES)), writer));
        let mut lost = 0;
        while lost < LINES {
            lost += wait_for_loss(&mut events, &handle);
        }
        assert_eq!(lost, LINES);
        std::fs::write(&go, "").unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        std::fs::remove_file(go).unwrap();
    }
    cluster.end();
}

/// Would fail if the reader or the worker saw the death of the collector.
fn a_killed_collector_costs_no_worker_its_descriptor() {
    // What this process may have read ahead.
    const BUFFERED: u64 = 8 << 10;
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (reader, writer) = pipe().unwrap();
    let chatter = worker("chatter").give("log", writer).output(to("log")).build().unwrap();
    let handle = register(&cluster, chatter);
    ready(&handle);
    let same = reader.try_clone().unwrap();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let mut next = || lines.next().expect("the pipe has no end");
    assert_eq!(next(), "line 0");
    for _ in 0..3 {
        let collector = collector(cluster.launched.pid());
        kill(collector, Signal::SIGKILL);
        wait_until("it is gone", PATIENCE, || !alive(collector));
        // Nobody knows how many; before that, some may have been lost while nobody read.
        while wait_for_loss(&mut events, &handle) > 0 {}
        // More than was there at its death: the next one writes.
        let mut left = rustix::io::ioctl_fionread(&same).unwrap() + BUFFERED;
        while left > 0 {
            let line = next();
            assert!(line.starts_with("line "), "{line}");
            left = left.saturating_sub(line.len() as u64);
        }
    }
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(lines.last().unwrap(), "the last");
    cluster.end();
}

/// Would fail if the cluster's end waited for a reader, or wrote a part of a line.
fn a_reader_that_sleeps_holds_no_shutdown_up() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (reader, writer) = pipe().unwrap();
    let handle =
        register(&cluster, writes(&format!("{}; exec sleep 1000", numbered(5000)), writer));
    // Its reader has taken nothing for a second.
    wait_for_loss(&mut events, &handle);
    cluster.end();
    drop(handle);
    let got = got(&all_of(reader));
    assert!(got.lines > 500, "{got:?}");
}

/// Would fail if such a worker were not started, or its lines went nowhere without a word.
fn what_no_lines_can_be_written_to_is_told_with_the_lines() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (reader, _writer): (PipeReader, _) = pipe().unwrap();
    let folder = std::fs::File::open("/").unwrap();
    let datagrams = std::os::unix::net::UnixDatagram::pair().unwrap().0;
    for wrong in [OwnedFd::from(reader), folder.into(), datagrams.into()] {
        let handle = register(&cluster, writes("seq 10; exec sleep 1000", wrong));
        assert_eq!(wait_for_loss(&mut events, &handle), 10);
        handle.terminate().unwrap();
        stopped(&handle);
    }
    cluster.end();
}

/// Would fail if only registrants could give one, or only to their own workers.
fn the_launcher_s_descriptors_take_output_too() {
    let (reader, writer) = pipe().unwrap();
    let cluster = Cluster::with(|builder| with_folder(builder).descriptor("journal", writer));
    for _ in 0..3 {
        let worker = script("echo one; echo two >&2", to("journal"));
        assert_eq!(stopped(&register(&cluster, worker)).cause, ExitCause::Exited(0));
    }
    cluster.end();
    // This process has the other end, too, as long as it has the launched postmaster.
    let mut text = [0; 24];
    (&reader).read_exact(&mut text).unwrap();
    assert_eq!(std::str::from_utf8(&text).unwrap(), "one\ntwo\n".repeat(3));
}

fn an_output_to_a_descriptor_that_is_not_there_is_refused() {
    let cluster = cluster();
    let handle = register(&cluster, worker("sleep").output(to("nothing")).build().unwrap());
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
    let words = report.returned.last_words().map(ToString::to_string).unwrap_or_default();
    assert!(words.contains("\"nothing\""), "{words}");
    cluster.end();
    let mut postmaster = crate::support::functions(Postmaster::builder()).build().unwrap();
    let worker_to = |name: &str| worker("sleep").output(to(name)).build();
    let error = postmaster.register(worker_to("nothing").unwrap()).unwrap_err();
    assert!(matches!(error, StaticError::UnknownDescriptor { .. }), "{error}");
    for name in ["", "a\nb", &"x".repeat(32)] {
        assert_eq!(worker_to(name).unwrap_err().field(), "output");
    }
    let (_reader, writer) = pipe().unwrap();
    let error = BackgroundWorker::builder("c")
        .command("/bin/true", [""; 0])
        .give_at(5, "log", writer)
        .output(to("log"))
        .build()
        .unwrap_err();
    assert_eq!(error.field(), "give");
}
