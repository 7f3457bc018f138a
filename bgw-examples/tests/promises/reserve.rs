//! The promise: slots that are reserved for a class are there for it, whatever others register, and
//! who waits for a slot gets the first one that it may have.
//!
//! Would catch: a worker in a slot that is another class's, a class that finds its slots taken, a
//! waiter that is passed over or blocks those behind it, a reset that forgets whose slots are
//! whose.

use crate::support::waiter::program_queued_for;
use crate::support::{
    Cluster, PATIENCE, kill, read_note, ready, shared, simple, started, stopped, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, Handle, RegisterError, RestartPolicy, WorkerFlags, WorkerStatus,
};
use bgw_postmaster::{BuildError, Postmaster, StaticError};
use process_test::{Signal, Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        others_are_refused_when_only_reserved_slots_are_free,
        an_end_in_a_reserved_slot_gives_way_to_its_class_alone,
        processes_that_take_all_they_get_leave_what_is_reserved,
        a_free_slot_goes_to_the_oldest_ticket_that_may_have_it => [P56],
        a_reset_leaves_what_is_reserved,
        a_class_that_cannot_be_is_refused_by_name => [P01],
    ]
}

fn cluster() -> Cluster {
    Cluster::with(|builder| builder.max_workers(4).reserve("urgent", 1).reserve("other", 1))
}

fn of(class: &str) -> BackgroundWorker {
    worker("sleep").class(class).build().unwrap()
}

/// How many slots there are for it, if it is refused for want of one.
#[track_caller]
fn refused(cluster: &Cluster, worker: &BackgroundWorker) -> u32 {
    match cluster.backend.register(worker) {
        Err(RegisterError::NoFreeSlot { capacity, in_use }) if capacity == in_use => capacity,
        other => panic!("{other:?}"),
    }
}

fn end(handle: &Handle) {
    handle.terminate().unwrap();
    stopped(handle);
}

/// Would fail if others took a reserved slot, or if its class found it taken.
fn others_are_refused_when_only_reserved_slots_are_free() {
    let cluster = cluster();
    assert_eq!(cluster.backend.capacity(), 4);
    let common: Vec<Handle> = (0..2).map(|_| cluster.start(&simple("sleep")).0).collect();
    assert_eq!(refused(&cluster, &simple("sleep")), 2);
    let (urgent, _) = cluster.start(&of("urgent"));
    assert_eq!(refused(&cluster, &of("urgent")), 3);
    assert_eq!(refused(&cluster, &simple("sleep")), 2);
    end(&common[0]);
    // Its own slot is taken: it has a common one.
    let (second, _) = cluster.start(&of("urgent"));
    assert_eq!(refused(&cluster, &simple("sleep")), 2);
    end(&urgent);
    assert_eq!(refused(&cluster, &simple("sleep")), 2, "a common slot is still taken");
    end(&second);
    cluster.start(&simple("sleep"));
    let (other, _) = cluster.start(&of("other"));
    cluster.start(&of("urgent"));
    let all = cluster.backend.workers();
    let info = all.iter().find(|info| info.handle == other.id()).unwrap();
    assert_eq!(info.worker.class(), Some("other"));
    cluster.end();
}

/// Would fail if a claim of another class overwrote the end, or if one of its own did not.
fn an_end_in_a_reserved_slot_gives_way_to_its_class_alone() {
    let cluster = cluster();
    let brief = |class: &str| worker("quick").class(class).build().unwrap();
    let kept = cluster.backend.register(&brief("urgent")).unwrap();
    wait_until("it has ended", PATIENCE, || matches!(kept.status(), WorkerStatus::Stopped(_)));
    let common: Vec<Handle> = (0..2).map(|_| cluster.start(&simple("sleep")).0).collect();
    assert_eq!(refused(&cluster, &simple("sleep")), 2);
    let other = cluster.start(&of("other")).0;
    assert_eq!(refused(&cluster, &of("other")), 3);
    // Nothing else is left for it.
    let (next, _) = cluster.start(&of("urgent"));
    assert_eq!(next.id().slot(), kept.id().slot());
    drop((common, other));
    cluster.end();
}

/// Would fail if one of two that claim at once got what is not its own.
fn processes_that_take_all_they_get_leave_what_is_reserved() {
    let cluster = Cluster::with(|builder| builder.max_workers(8).reserve("urgent", 2));
    let folder = cluster.folder.clone();
    let mut greedy: Vec<_> = (0..3)
        .map(|_| {
            let folder = folder.clone();
            fork_child(move || {
                let backend = crate::support::connect(&folder);
                while !crate::support::note_path("over").exists() {
                    // More than six may come: an end that nobody has read gives way to a claim.
                    let all: Vec<Handle> =
                        std::iter::from_fn(|| backend.register(&simple("brief")).ok()).collect();
                    for handle in all {
                        assert!(handle.id().slot() < 6, "{handle} is not for everybody");
                        handle.wait_for_end_timeout(PATIENCE).unwrap();
                    }
                }
            })
        })
        .collect();
    for round in 0..100 {
        let pair: Vec<Handle> =
            (0..2).map(|_| cluster.backend.register(&of("urgent")).unwrap()).collect();
        for handle in pair {
            started(&handle);
            assert!(handle.id().slot() >= 6, "round {round}: its own while there is one");
            end(&handle);
        }
    }
    write_note("over", "").unwrap();
    for child in &mut greedy {
        assert_eq!(child.wait().code(), Some(0));
    }
    cluster.end();
}

fn granted(cluster: &Cluster, name: &str) -> Handle {
    cluster.backend.handle(read_note(name).parse().unwrap())
}

fn is_granted(name: &str) -> bool {
    crate::support::note_path(name).exists()
}

/// Would time out if the one that waits for a common slot blocked those behind it, and fail if one
/// of them overtook it.
fn a_free_slot_goes_to_the_oldest_ticket_that_may_have_it() {
    let cluster = cluster();
    let common: Vec<Handle> = (0..2).map(|_| cluster.start(&simple("sleep")).0).collect();
    let (urgent, _) = cluster.start(&of("urgent"));
    let (other, _) = cluster.start(&of("other"));
    let mut waiters = [
        ("first", simple("sleep")),
        ("second", of("urgent")),
        ("third", of("other")),
        ("fourth", of("urgent")),
    ]
    .map(|(name, worker)| program_queued_for(&cluster, name, worker));
    end(&other);
    let third = granted(&cluster, "third");
    assert_eq!(third.id().slot(), other.id().slot());
    end(&urgent);
    let second = granted(&cluster, "second");
    assert_eq!(second.id().slot(), urgent.id().slot());
    assert!(!is_granted("first") && !is_granted("fourth"), "they may not have those slots");
    end(&common[0]);
    let first = granted(&cluster, "first");
    assert_eq!(first.id().slot(), common[0].id().slot());
    assert!(!is_granted("fourth"), "it is younger");
    end(&common[1]);
    ready(&granted(&cluster, "fourth"));
    cluster.end();
    for waiter in &mut waiters {
        assert_eq!(waiter.wait().code(), Some(0));
    }
}

/// Would fail if a worker came back in a slot that it may not have, or if others could take one.
fn a_reset_leaves_what_is_reserved() {
    let cluster = cluster();
    let restarts = |class: Option<&str>| {
        let builder = worker("sleep").restart(RestartPolicy::after_secs(0));
        class.map_or(builder.clone(), |class| builder.class(class)).build().unwrap()
    };
    cluster.start(&restarts(Some("urgent")));
    cluster.start(&restarts(None));
    let (culprit, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    let before = culprit.id().incarnation();
    kill(pid, Signal::SIGKILL);
    let running = |cluster: &Cluster| {
        let all = cluster.backend.workers().into_iter();
        let all = all.filter(|info| {
            let is_new = info.handle.incarnation() != before;
            is_new && matches!(info.status, WorkerStatus::Started(_))
        });
        all.map(|info| (info.handle.slot(), info.worker.class().map(str::to_owned)))
            .collect::<Vec<_>>()
    };
    wait_until("both run again", PATIENCE, || {
        let all = running(&cluster);
        all.len() == 2 && all.iter().all(|(slot, class)| (*slot < 2) == class.is_none())
    });
    // The last end there gives way.
    cluster.start(&simple("sleep"));
    assert_eq!(refused(&cluster, &simple("sleep")), 2);
    cluster.start(&of("other"));
    cluster.end();
}

/// Would fail if a class without slots were taken for one that may have any.
fn a_class_that_cannot_be_is_refused_by_name() {
    let cluster = cluster();
    let unknown = of("unknown");
    let by_slot = cluster.backend.register(&unknown).unwrap_err();
    let by_ticket = cluster.backend.register_timeout(&unknown, PATIENCE).unwrap_err();
    for error in [by_slot, by_ticket] {
        let text = error.to_string();
        assert!(matches!(error, RegisterError::UnknownClass { .. }), "{text}");
        assert!(text.contains("\"unknown\", but for urgent, other"), "{text}");
    }
    let parallel = worker("quick").class("urgent").flags(WorkerFlags::CLASS_PARALLEL);
    assert_eq!(parallel.build().unwrap_err().field(), "class");
    let long = worker("quick").class("x".repeat(32)).build().unwrap_err();
    assert_eq!(long.to_string(), "class is 32 bytes long, the limit is 31");
    cluster.end();
    let builder = || Postmaster::builder().max_workers(2).function("sleep", |_| Ok(()));
    let too_many = builder().reserve("a", 1).reserve("b", 2).build().unwrap_err();
    assert!(matches!(too_many, BuildError::Reserve { .. }), "{too_many}");
    assert!(too_many.to_string().contains("\"b\": 3 slots are reserved so far"), "{too_many}");
    let mut postmaster = builder().reserve("a", 1).build().unwrap();
    let error = postmaster.register(of("b")).unwrap_err();
    assert!(matches!(error, StaticError::UnknownClass { .. }), "{error}");
    postmaster.register(simple("sleep")).unwrap();
    let error = postmaster.register(simple("sleep")).unwrap_err();
    assert!(matches!(error, StaticError::NoFreeSlot { capacity: 1, .. }), "{error}");
    postmaster.register(of("a")).unwrap();
}
