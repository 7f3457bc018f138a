//! The promise: whoever reads events learns what the postmaster has done, in the order in which it
//! did it, or exactly how much it has missed; and nobody but the postmaster can write them.
//!
//! Would catch: an event before its fact, a gap or a repeated number, a reset that begins to count
//! anew, a reader that holds up the postmaster, a worker that makes up events.

use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, shared, simple, stopped, write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, ConnectOptions, Event, EventKind, Events, EventsError, EventsFrom,
    ExitCause, Handle, RestartPolicy, ShutdownMode, Worker, WorkerError, WorkerHandle,
    WorkerStatus, entry,
};
use bgw_postmaster::{BuildError, Postmaster};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_events_of_a_handle_come_in_the_order_of_its_life => [P59],
        an_event_follows_its_fact => [P59],
        who_is_woken_by_a_fact_finds_its_event => [P59],
        a_reader_that_sleeps_learns_exactly_how_much_it_has_missed => [P60],
        the_numbers_go_on_over_a_crash_reset => [P61],
        no_worker_can_write_the_events => [P61],
        a_worker_and_an_observer_read_what_the_launcher_reads => [P59],
        the_rest_can_be_read_after_the_postmaster_s_death => [P59],
        a_postmaster_may_keep_none => [P60],
    ]
}

/// Reads until `last` says so.
#[track_caller]
fn read_until(events: &mut Events, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let event = events.next_timeout(PATIENCE).unwrap();
        let event = event.unwrap_or_else(|| panic!("nothing comes after {all:#?}"));
        let over = last(&event);
        all.push(event);
        if over {
            return all;
        }
    }
}

fn is(event: &Event, kind: EventKind, handle: WorkerHandle) -> bool {
    event.kind == kind && event.handle == Some(handle)
}

fn life_of(events: &[Event], handle: &Handle) -> Vec<EventKind> {
    let of = events.iter().filter(|event| event.handle == Some(handle.id()));
    of.map(|event| event.kind).collect()
}

/// Would fail if an event were missing, came twice or out of order, or said something else than the
/// handle does.
fn the_events_of_a_handle_come_in_the_order_of_its_life() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (ended, pid) = cluster.start(&simple("sleep"));
    ready(&ended);
    // Until the postmaster has seen it.
    cluster.backend.ping().unwrap();
    ended.terminate().unwrap();
    stopped(&ended);
    let failing = BackgroundWorker::builder("a name that is longer than an event has room for")
        .function("fail")
        .restart(RestartPolicy::after_secs(0))
        .give_up(1, PATIENCE);
    let given_up = cluster.backend.register(&failing.build().unwrap()).unwrap();
    let all = read_until(&mut events, |e| is(e, EventKind::Unregistered, given_up.id()));
    let numbers: Vec<u64> = all.iter().map(|event| event.seq).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + all.len() as u64).collect::<Vec<_>>());
    assert!(all.is_sorted_by_key(|event| event.monotonic));
    use EventKind as K;
    assert_eq!(
        life_of(&all, &ended),
        [K::Registered, K::Started, K::Ready, K::Told, K::Exited, K::Unregistered]
    );
    let life = life_of(&all, &given_up);
    let life: Vec<K> = life.into_iter().filter(|&kind| kind != K::Ready).collect();
    let once = [K::Started, K::Exited];
    let expected = [&[K::Registered], &once[..], &[K::Restarting], &once, &[K::GivenUp]].concat();
    assert_eq!(life, [&expected[..], &[K::Unregistered]].concat());
    let exited = all.iter().find(|e| is(e, K::Exited, ended.id())).unwrap();
    assert_eq!((exited.pid, exited.cause), (Some(pid), Some(ExitCause::Exited(0))));
    assert_eq!(exited.name, "sleep");
    let last = all.last().unwrap();
    assert_eq!((last.count, last.name.as_str()), (1, "a name that is longer than an e"));
    assert_eq!(events.missed(), 0);
    cluster.end();
}

/// Would fail if an event were told before its fact.
fn an_event_follows_its_fact() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    for _ in 0..20 {
        let handle = cluster.backend.register(&simple("quick")).unwrap();
        read_until(&mut events, |e| is(e, EventKind::Started, handle.id()));
        assert!(!matches!(handle.status(), WorkerStatus::NotYetStarted));
        read_until(&mut events, |e| is(e, EventKind::Unregistered, handle.id()));
        assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))));
    }
    cluster.end();
}

/// Would fail if the waiters for an end were woken before its event could be read.
fn who_is_woken_by_a_fact_finds_its_event() {
    let cluster = Cluster::new();
    for _ in 0..5 {
        let (handle, pid) = cluster.start(&simple("sleep"));
        ready(&handle);
        cluster.backend.ping().unwrap();
        let (folder, id) = (cluster.folder.clone(), handle.id());
        let mut waiter = fork_child(move || {
            let backend = connect(&folder);
            let mut events = backend.events(EventsFrom::Oldest).unwrap();
            backend.handle(id).wait_for_end().unwrap();
            let mut found = false;
            while let Some(event) = events.try_next().unwrap() {
                found |= is(&event, EventKind::Unregistered, id);
            }
            assert!(found);
        });
        process_test::wait_until_asleep(waiter.pid());
        kill(pid, Signal::SIGKILL);
        assert_eq!(waiter.wait().code(), Some(0));
    }
    cluster.end();
}

/// Would fail if the postmaster waited for a reader, or if the count were an estimate.
fn a_reader_that_sleeps_learns_exactly_how_much_it_has_missed() {
    const KEPT: u64 = 64;
    let cluster = Cluster::with(|builder| builder.max_workers(8).events(64));
    let mut slow = cluster.backend.events(EventsFrom::Now).unwrap();
    let mut awake = cluster.backend.events(EventsFrom::Now).unwrap();
    let mut told = Vec::new();
    for _ in 0..40 {
        let handle = cluster.backend.register(&simple("quick")).unwrap();
        told.extend(read_until(&mut awake, |e| is(e, EventKind::Unregistered, handle.id())));
    }
    assert_eq!(awake.missed(), 0);
    assert!(told.len() as u64 > 2 * KEPT, "{}", told.len());
    let last = told.last().unwrap().seq;
    let rest = read_until(&mut slow, |event| event.seq == last);
    assert_eq!(rest.len() as u64, KEPT);
    assert_eq!(slow.missed(), told.len() as u64 - KEPT);
    assert_eq!(rest[..], told[told.len() - rest.len()..]);
    let mut oldest = cluster.backend.events(EventsFrom::Oldest).unwrap();
    assert_eq!(read_until(&mut oldest, |event| event.seq == last), rest);
    assert_eq!(oldest.missed(), 0);
    let mut from = cluster.backend.events(EventsFrom::Seq(told[0].seq)).unwrap();
    assert_eq!(read_until(&mut from, |event| event.seq == last), rest);
    assert_eq!(from.missed(), told.len() as u64 - KEPT);
    let none = cluster.backend.events(EventsFrom::Seq(last + 2)).unwrap_err();
    assert!(matches!(none, EventsError::Number(_)), "{none}");
    cluster.end();
}

/// Would fail if a reset began to count anew, or told of a handle after it was over.
fn the_numbers_go_on_over_a_crash_reset() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (crashing, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (isolated, _) = cluster.start(&simple("sleep"));
    ready(&crashing);
    ready(&isolated);
    kill(pid, Signal::SIGABRT);
    let reset = read_until(&mut events, |event| event.kind == EventKind::Reset);
    let crash = reset.last().unwrap();
    assert_eq!((crash.handle, crash.pid), (Some(crashing.id()), Some(pid)));
    assert_eq!(crash.name, "sleep", "{crash}");
    assert!(matches!(crash.cause, Some(ExitCause::Signaled { signal: 6, .. })), "{crash:?}");
    let after = read_until(&mut events, |event| event.kind == EventKind::Started);
    for handle in [&crashing, &isolated] {
        let life = life_of(&reset, handle);
        assert_eq!(life.first(), Some(&EventKind::Registered));
        assert_eq!(life.iter().filter(|&&kind| kind == EventKind::Unregistered).count(), 1);
        let before: Vec<&Event> = reset.iter().filter(|e| e.kind != EventKind::Reset).collect();
        let last = before.iter().rfind(|event| event.handle == Some(handle.id()));
        assert_eq!(last.map(|event| event.kind), Some(EventKind::Unregistered));
        assert!(life_of(&after, handle).is_empty());
    }
    assert_eq!(after[0].kind, EventKind::Registered);
    assert_eq!(after[0].handle, after.last().unwrap().handle);
    let all = [reset, after].concat();
    assert!(all.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "{all:#?}");
    assert_eq!(events.missed(), 0);
    cluster.end();
}

/// Tries to write every descriptor of a memfd that nobody but its creator may write.
fn scribble(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.ready();
    let mut tried = 0;
    for number in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let path = number.path();
        let is_memfd = std::fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().contains("memfd"));
        if !is_memfd {
            continue;
        }
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let size = NonZeroUsize::new(file.metadata()?.len() as usize).ok_or("it is empty")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, which nobody uses.
        let mapped = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, file.as_fd(), 0) };
        // The slots can be mapped for writing: they are the workers' own.
        let Err(refused) = mapped else { continue };
        tried += 1;
        assert_eq!(refused, Errno::EPERM);
        assert_eq!(nix::unistd::write(&file, b"scribble"), Err(Errno::EPERM));
        assert!(file.set_len(0).is_err());
    }
    assert!(tried > 0, "no ring");
    let inside = worker.backend().events(EventsFrom::Oldest)?.try_next()?;
    write_note("scribbled", &format!("{tried} {}", inside.is_some()))?;
    Ok(())
}

/// Would fail if a worker could open the ring again for writing and write, or map it.
fn no_worker_can_write_the_events() {
    let cluster = Cluster::with(|builder| builder.function("scribble", entry(scribble)));
    let handle = cluster.backend.register(&simple("scribble")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(read_note("scribbled"), "1 true");
    cluster.end();
}

fn reader(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let mut events = worker.backend().events(EventsFrom::Oldest)?;
    let me = worker.handle();
    let first = read_until(&mut events, |event| is(event, EventKind::Started, me));
    write_note("worker", &format!("{first:?}"))?;
    Ok(())
}

/// Would fail if one of them had no ring, or another one.
fn a_worker_and_an_observer_read_what_the_launcher_reads() {
    let cluster = Cluster::with(|builder| builder.warm_spares(1).function("reader", entry(reader)));
    let handle = cluster.backend.register(&simple("reader")).unwrap();
    stopped(&handle);
    let last = |event: &Event| is(event, EventKind::Started, handle.id());
    let expected = read_until(&mut cluster.backend.events(EventsFrom::Oldest).unwrap(), last);
    assert_eq!(read_note("worker"), format!("{expected:?}"));
    let folder = cluster.folder.clone();
    let id = handle.id();
    let mut observer = fork_child(move || {
        let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
        let observer = Backend::connect_with(&folder, options).unwrap();
        for backend in [observer, connect(&folder)] {
            let mut events = backend.events(EventsFrom::Oldest).unwrap();
            assert_eq!(read_until(&mut events, |e| is(e, EventKind::Started, id)), expected);
        }
    });
    assert_eq!(observer.wait().code(), Some(0));
    cluster.end();
}

/// Would hang if a reader were not woken by the death, and fail if it lost the last events.
fn the_rest_can_be_read_after_the_postmaster_s_death() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let waiter = std::thread::spawn(move || {
        let mut last = None;
        loop {
            match events.wait() {
                Ok(event) => last = Some(event.kind),
                Err(error) => return (last, error),
            }
        }
    });
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    cluster.launched.wait().unwrap();
    let (last, error) = waiter.join().unwrap();
    assert_eq!(last, Some(EventKind::Shutdown(ShutdownMode::Fast)));
    assert!(matches!(error, EventsError::PostmasterDied { .. }), "{error}");
}

/// Would fail if a number out of range were taken, or if the cluster needed its events.
fn a_postmaster_may_keep_none() {
    for number in [1, 63, 65_537] {
        let refused = Postmaster::builder().events(number).build().unwrap_err();
        assert!(matches!(refused, BuildError::Events { .. }), "{refused}");
    }
    let cluster = Cluster::with(|builder| builder.events(0));
    let none = cluster.backend.events(EventsFrom::Now).unwrap_err();
    assert!(matches!(none, EventsError::NotKept), "{none}");
    let handle = cluster.backend.register(&simple("quick")).unwrap();
    wait_until("it has ended", PATIENCE, || matches!(handle.status(), WorkerStatus::Stopped(_)));
    cluster.end();
}
