//! The promise: no descriptor of ours is 0, 1 or 2, and running short of descriptors is said in
//! words, early, and harms nobody.
//!
//! Would catch: a region that lies behind "standard error", a start that is killed for want of a
//! descriptor and takes the cluster along, spares that take every descriptor there is.

use crate::support::{
    Cluster, PATIENCE, connect, functions, raw, read_note, shared, simple, started, stopped,
    write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, ExitCause, RestartPolicy, ShutdownMode, Worker, WorkerError, entry,
};
use bgw_postmaster::Postmaster;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use process_test::{Test, fork_child, tests};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        with_closed_standard_streams_no_descriptor_of_ours_is_one => [D12],
        a_start_without_a_descriptor_fails_alone_and_is_tried_again,
        spares_that_would_take_every_descriptor_are_refused,
        a_program_with_a_high_descriptor_has_as_many_workers_as_any,
    ]
}

/// Writes to what it believes to be its standard streams.
fn shout(_: &mut Worker) -> Result<(), WorkerError> {
    for number in 0..3 {
        let target = std::fs::read_link(format!("/proc/self/fd/{number}"));
        write_note(&format!("stream-{number}"), &format!("{target:?}"))?;
        let text = [b'!'; 8192];
        // SAFETY: writes from a local array.
        unsafe { libc::write(number, text.as_ptr().cast(), text.len()) };
    }
    Err("an error text, for standard error".into())
}

/// Fails if the region, the doorbell or a socket gets such a number: text then goes to it.
fn with_closed_standard_streams_no_descriptor_of_ours_is_one() {
    let mut program = fork_child(|| {
        for number in 0..3 {
            nix::unistd::close(number).unwrap();
        }
        let folder = std::env::temp_dir().join("cluster");
        let builder = functions(Postmaster::builder().runtime_dir(&folder));
        let builder = builder.warm_spares(1).function("shout", entry(shout));
        let mut launched = builder.build().unwrap().launch().unwrap();
        let backend = Backend::over(launched.take_control().unwrap()).unwrap();
        let second = connect(&folder);
        let target = |number| std::fs::read_link(format!("/proc/self/fd/{number}"));
        let open: Vec<_> = (0..3).filter_map(|number| target(number).ok()).collect();
        write_note("launcher", &format!("{open:?}")).unwrap();
        for _ in 0..2 {
            let report = stopped(&backend.register(&simple("shout")).unwrap());
            assert_eq!(report.cause, ExitCause::Exited(1));
        }
        let text = std::fs::read_link(format!("/proc/{}/fd/2", launched.pid())).unwrap();
        write_note("postmaster", &text.to_string_lossy()).unwrap();
        // The header is whole: another program still attaches, and the cluster works.
        started(&connect(&folder).register(&simple("sleep")).unwrap());
        let streams = "exec 3>&2; [ -e /proc/$$/fd/0 ] && echo x && echo x >&2 && exit 7";
        let command = BackgroundWorker::builder("c").command("/bin/sh", ["-c", streams]);
        let report = stopped(&backend.register(&command.build().unwrap()).unwrap());
        assert_eq!(report.cause, ExitCause::Exited(7), "a command has all three streams");
        drop(second);
        launched.shutdown(ShutdownMode::Fast).unwrap();
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    });
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(read_note("launcher"), "[]", "nothing of ours");
    assert_eq!(read_note("postmaster"), "/dev/null");
    for number in 0..3 {
        assert_eq!(read_note(&format!("stream-{number}")), "Ok(\"/dev/null\")", "{number}");
    }
}

fn limit(soft: u64, hard: u64) {
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

/// Fails if the child exists before its pidfd does: it is killed then, and its clean-up mark resets
/// the cluster.
fn a_start_without_a_descriptor_fails_alone_and_is_tried_again() {
    let cluster = Cluster::with(|builder| builder.max_workers(64));
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    let postmaster = raw(cluster.launched.pid());
    let open = std::fs::read_dir(format!("/proc/{postmaster}/fd")).unwrap();
    let highest = open
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok())
        .max()
        .unwrap();
    set_limit_of(postmaster, highest + 3);
    let handles: Vec<_> = (0..8)
        .map(|_| {
            let worker = shared("sleep", RestartPolicy::Fixed(std::time::Duration::ZERO));
            cluster.backend.register(&worker).unwrap()
        })
        .collect();
    cluster.backend.ping().unwrap();
    set_limit_of(postmaster, highest + 64);
    for handle in &handles {
        process_test::wait_until("it runs", PATIENCE, || {
            matches!(handle.status(), bgw_backend::WorkerStatus::Started(_))
        });
    }
    assert_eq!(started(&bystander), pid, "nobody else was touched");
    cluster.end();
}

fn set_limit_of(pid: process_test::Pid, descriptors: u64) {
    let new = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors.max(4096) };
    // SAFETY: `new` is valid for the call; nothing is written back.
    let done = unsafe {
        libc::prlimit(pid.as_raw(), libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Fails if only the start notices that there are not so many descriptors.
fn spares_that_would_take_every_descriptor_are_refused() {
    let mut program = fork_child(|| {
        limit(256, 256);
        let built = functions(Postmaster::builder()).warm_spares(1_000_000).build();
        let text = built.unwrap_err().to_string();
        assert!(text.contains("1000000") && text.contains("256"), "{text}");
        assert!(text.contains("warm_spares"), "{text}");
        // A high number that is open here is named: it is why so few are left.
        let high = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 253).unwrap();
        let built = functions(Postmaster::builder()).build();
        let text = built.unwrap_err().to_string();
        let highest = high.as_raw_fd()..256;
        let named = |number: i32| text.contains(&format!("above {number}, "));
        assert!(highest.clone().any(named), "{highest:?}: {text}");
    });
    assert_eq!(program.wait().code(), Some(0));
}

/// What the soft limit is for a worker.
fn note_limit(_: &mut Worker) -> Result<(), WorkerError> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(std::io::Error::from)?;
    write_note("limit", &soft.to_string())?;
    Ok(())
}

/// Fails if the descriptors below the high one are lost to the postmaster, or if a worker has
/// another limit than the program.
fn a_program_with_a_high_descriptor_has_as_many_workers_as_any() {
    let mut program = fork_child(|| {
        limit(1024, 4096);
        let high: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        // SAFETY: the duplicate is kept open for the life of the process.
        assert_eq!(unsafe { libc::dup2(high.into_raw_fd(), 1012) }, 1012);
        let cluster =
            Cluster::with(|builder| builder.max_workers(64).function("limit", entry(note_limit)));
        let handles: Vec<_> =
            (0..40).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
        for handle in &handles {
            started(handle);
        }
        stopped(&cluster.backend.register(&simple("limit")).unwrap());
        assert_eq!(read_note("limit"), "1024");
        cluster.end();
    });
    assert_eq!(program.wait().code(), Some(0));
}
