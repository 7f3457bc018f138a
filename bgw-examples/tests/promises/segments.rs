//! The promise: memory that any member of a cluster makes at run time, any other maps by a handle
//! that is plain data. It cannot be cut short, it stays as long as somebody holds it, whoever made
//! it, and there is no more of it than the cluster may have.
//!
//! Would catch: memory that goes with its maker, or stays for ever; a handle that finds another
//! segment; a budget that leaks.

use crate::support::{Cluster, PATIENCE, children, connect, stopped, title, worker, write_note};
use bgw_backend::{
    Backend, ConnectOptions, ExitCause, NotWritable, Pid, Segment, SegmentError, SegmentHandle,
    Worker, WorkerError, entry,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        members_map_a_segment_by_its_handle => [J10],
        the_end_of_its_maker_takes_a_segment_from_nobody => [J10],
        a_segment_is_gone_with_its_last_holder => [J10],
        a_segment_that_was_passed_on_waits_for_its_receiver => [J10],
        nobody_cuts_a_segment_short => [J10],
        there_is_so_much_in_segments_and_no_more => [J10],
        a_fork_neither_holds_a_segment_nor_drops_it => [J10],
        a_large_segment_holds_nobody_up => [J10, D14],
        who_only_looks_has_no_segments => [J10],
    ]
}

fn with_functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder.max_workers(64).function("doubles", entry(doubles)).function("leaves", entry(leaves))
}

fn segment_of(worker: &Worker) -> Result<Segment, SegmentError> {
    worker.backend().segment(SegmentHandle::from_bits(worker.main_arg()))
}

/// Doubles each word of its segment.
fn doubles(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let segment = segment_of(worker)?;
    for word in segment.memory().cells() {
        word.fetch_add(word.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}

fn run(backend: &Backend, function: &str, segment: SegmentHandle) {
    let worker = worker(function).main_arg(segment.to_bits()).build().unwrap();
    assert_eq!(stopped(&backend.register(&worker).unwrap()).cause, ExitCause::Exited(0));
}

fn first(segment: &Segment) -> u8 {
    let mut byte = [0];
    segment.read(0, &mut byte).unwrap();
    byte[0]
}

/// Fails if a worker, or another program, gets other memory by a handle than its maker has.
fn members_map_a_segment_by_its_handle() {
    let cluster = Cluster::with(with_functions);
    let segment = cluster.backend.create_segment(4096).unwrap();
    assert_eq!((segment.len(), first(&segment)), (4096, 0));
    segment.write(0, &[3; 16]).unwrap();
    run(&cluster.backend, "doubles", segment.handle());
    assert_eq!(first(&segment), 6);
    let (folder, text) = (cluster.folder.clone(), segment.handle().to_string());
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        let segment = backend.segment(text.parse().unwrap()).unwrap();
        segment.write(4088, b"a whole\n").unwrap();
        assert!(segment.write(4096, b"x").is_err());
    });
    assert_eq!(program.wait().code(), Some(0));
    let mut bytes = [0; 8];
    segment.read(4088, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a whole\n");
    // Any size: rounded up to whole words, and used only where it is written to.
    let odd = cluster.backend.create_segment(13).unwrap();
    let vast = cluster.backend.create_segment(1 << 29).unwrap();
    assert_eq!((odd.len(), vast.len()), (16, 1 << 29));
    vast.write((1 << 29) - 8, b"the end.").unwrap();
    run(&cluster.backend, "doubles", odd.handle());
    cluster.end();
}

/// A program that makes a segment, notes its handle and sleeps.
fn maker(cluster: &Cluster) -> (process_test::Child, SegmentHandle) {
    let folder = cluster.folder.clone();
    let child = fork_child(move || {
        let backend = connect(&folder);
        let segment = backend.create_segment(4096).unwrap();
        segment.write(0, b"lasting").unwrap();
        write_note("segment", &segment.handle().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    });
    (child, crate::support::read_note("segment").parse().unwrap())
}

fn is_gone(backend: &Backend, handle: SegmentHandle) -> bool {
    matches!(backend.segment(handle), Err(SegmentError::Gone { segment }) if segment == handle)
}

/// Fails if the memory, or the way to it, goes with its maker while others have it.
fn the_end_of_its_maker_takes_a_segment_from_nobody() {
    let cluster = Cluster::with(with_functions);
    let (mut maker, handle) = maker(&cluster);
    let mapped = cluster.backend.segment(handle).unwrap();
    maker.kill(Signal::SIGKILL);
    maker.wait();
    cluster.backend.ping().unwrap();
    let mut bytes = [0; 7];
    mapped.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"lasting");
    run(&cluster.backend, "doubles", handle);
    drop(mapped);
    assert!(is_gone(&cluster.backend, handle));
    cluster.end();
}

/// How many segments the postmaster has.
fn segments(cluster: &Cluster) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", cluster.launched.pid())).unwrap();
    let targets = all.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("memfd:shmem-slots")).count()
}

/// Fails if a hold is lost or left behind: by a drop, by an end, by a connection that is closed.
fn a_segment_is_gone_with_its_last_holder() {
    let cluster = Cluster::with(with_functions);
    let before = segments(&cluster);
    let made = cluster.backend.create_segment(4096).unwrap();
    let handle = made.handle();
    // Each holds it for itself, also twice in one process.
    let again = cluster.backend.segment(handle).unwrap();
    let other = connect(&cluster.folder);
    let of_other = other.segment(handle).unwrap();
    drop(made);
    drop(again);
    assert!(!is_gone(&cluster.backend, handle));
    drop(of_other);
    // A drop is told on the connection of its holder: that one is asked first, since requests of
    // two connections have no order.
    assert!(is_gone(&other, handle) && is_gone(&cluster.backend, handle));
    assert_eq!(segments(&cluster), before);
    // A connection that ends, and a process.
    let leaked = other.create_segment(4096).unwrap();
    let handle = leaked.handle();
    std::mem::forget(leaked);
    assert!(!is_gone(&cluster.backend, handle));
    let (mut maker, of_maker) = maker(&cluster);
    maker.kill(Signal::SIGKILL);
    maker.wait();
    wait_until("its end is seen", PATIENCE, || is_gone(&cluster.backend, of_maker));
    assert_ne!(handle, of_maker);
    cluster.end();
}

/// Leaves a segment to the process whose pid is its argument.
fn leaves(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let segment = worker.backend().create_segment(100_000)?;
    segment.write(0, &[7; 100_000])?;
    let heir = u32::try_from(worker.main_arg()).ok().and_then(Pid::new).ok_or("no pid")?;
    segment.pass_to(heir)?;
    write_note("left", &segment.handle().to_string())?;
    let stranger = Pid::new(1).ok_or("no pid")?;
    let refused = segment.pass_to(stranger).unwrap_err();
    assert!(matches!(refused, SegmentError::NotAttached { process } if process == stranger));
    Ok(())
}

/// Fails if what a worker has made goes with it before its receiver has looked.
fn a_segment_that_was_passed_on_waits_for_its_receiver() {
    let cluster = Cluster::with(with_functions);
    let leaving = worker("leaves").main_arg(cluster.backend.pid().get().into()).build().unwrap();
    assert_eq!(stopped(&cluster.backend.register(&leaving).unwrap()).cause, ExitCause::Exited(0));
    let handle = crate::support::read_note("left").parse().unwrap();
    let mapped = cluster.backend.segment(handle).unwrap();
    let mut bytes = vec![0; 100_000];
    mapped.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 7));
    drop(mapped);
    assert!(is_gone(&cluster.backend, handle), "it was held once");
    cluster.end();
}

/// Fails if any process of the cluster can take memory away that others have mapped.
fn nobody_cuts_a_segment_short() {
    let cluster = Cluster::with(with_functions);
    let segment = cluster.backend.create_segment(8192).unwrap();
    for len in [0, 4096, 16384] {
        let file = std::fs::File::from(segment.as_fd().try_clone_to_owned().unwrap());
        assert!(file.set_len(len).is_err(), "{len}");
    }
    run(&cluster.backend, "doubles", segment.handle());
    cluster.end();
}

/// Fails if the budget is passed, or if what is gone still counts.
fn there_is_so_much_in_segments_and_no_more() {
    let cluster = Cluster::with(|builder| with_functions(builder).segment_bytes(1 << 20));
    let full = |bytes| match cluster.backend.create_segment(bytes) {
        Err(SegmentError::Full { bytes: found, detail }) if found == bytes => detail,
        other => panic!("{other:?}"),
    };
    assert!(full(u64::MAX).contains("1048576 of 1048576 bytes are left"));
    assert!(full((1 << 20) + 1).contains("segment_bytes"));
    for _ in 0..3 {
        let all = cluster.backend.create_segment(1 << 20).unwrap();
        assert!(full(1).contains("0 of 1048576 bytes are left"));
        drop(all);
        let parts: Vec<Segment> =
            (0..256).map(|_| cluster.backend.create_segment(1).unwrap()).collect();
        // Each takes a page.
        assert!(full(0).contains("0 of 1048576"));
        drop(parts);
    }
    cluster.end();
    let cluster = Cluster::with(|builder| with_functions(builder).segment_bytes(0));
    assert!(matches!(cluster.backend.create_segment(1), Err(SegmentError::Full { .. })));
    cluster.end();
}

/// Fails if a child that has inherited a segment gives up the hold of its parent.
fn a_fork_neither_holds_a_segment_nor_drops_it() {
    let cluster = Cluster::with(with_functions);
    let segment = cluster.backend.create_segment(4096).unwrap();
    let (handle, mut held) = (segment.handle(), Some(segment));
    let mut fork = fork_child(|| {
        held.as_ref().unwrap().write(8, b"from a fork").unwrap();
        held = None;
    });
    assert_eq!(fork.wait().code(), Some(0));
    cluster.backend.ping().unwrap();
    assert!(!is_gone(&cluster.backend, handle));
    drop(held);
    assert!(is_gone(&cluster.backend, handle));
    cluster.end();
}

/// Fails if the postmaster frees the pages of a large segment itself, or leaves a child behind.
fn a_large_segment_holds_nobody_up() {
    let cluster = Cluster::with(with_functions);
    let before = segments(&cluster);
    for _ in 0..3 {
        let segment = cluster.backend.create_segment(64 << 20).unwrap();
        segment.memory().cells().iter().step_by(512).for_each(|word| {
            word.store(1, Ordering::Relaxed);
        });
        drop(segment);
        cluster.backend.ping().unwrap();
    }
    let closers = || {
        let all = children(cluster.launched.pid()).into_iter().map(title);
        all.filter(|title| title == "bgw closer").count()
    };
    wait_until("they are closed", PATIENCE, || segments(&cluster) == before && closers() == 0);
    cluster.end();
}

/// Fails if an observer gets memory that it can write to.
fn who_only_looks_has_no_segments() {
    let cluster = Cluster::with(with_functions);
    let segment = cluster.backend.create_segment(4096).unwrap();
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    for refused in [observer.create_segment(1), observer.segment(segment.handle())] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, SegmentError::NotWritable(NotWritable::ReadOnly)), "{refused}");
    }
    cluster.end();
}
