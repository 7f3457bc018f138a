//! Workers of reusable functions, and a cluster that has them.

use super::{
    Cluster, PATIENCE, note_path, read_note, spares, stopped, title, wait_for_spares, worker,
    write_note,
};
use bgw_backend::{ExitCause, ExitReport, Pid, WaitEvents, Worker, entry};
use bgw_postmaster::{PostmasterBuilder, Reuse};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use nix::time::ClockId;
use process_test::{Signal, wait_until};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub fn cluster_of(spares: usize, reuse: Reuse) -> Cluster {
    cluster_with(spares, reuse, |builder| builder)
}

pub fn cluster_with(
    spares: usize,
    reuse: Reuse,
    configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder,
) -> Cluster {
    let cluster = Cluster::with(|builder| {
        let builder = builder
            .max_workers(16)
            .warm_spares(spares)
            .reusable_function("again", reuse, entry(again))
            .reusable_function("other", reuse, entry(again))
            .reusable_function("look", reuse, entry(look))
            .reusable_function("spoil", reuse, entry(spoil))
            .reusable_function("leave", reuse, entry(leave))
            .reusable_function("compute", reuse, entry(compute))
            .reusable_function("wait", reuse, entry(wait))
            .reusable_function("until", reuse, entry(until))
            .reusable_function("register", reuse, entry(register))
            .reusable_function("listen", reuse, entry(listen))
            .function("once", entry(again));
        configure(builder)
    });
    wait_for_spares(&cluster, spares);
    cluster
}

/// Runs a worker to its end, which must be a good one.
#[track_caller]
pub fn run(cluster: &Cluster, function: &str, argument: u64) -> ExitReport {
    let description = worker(function).main_arg(argument).build().unwrap();
    let report = stopped(&cluster.backend.register(&description).unwrap());
    assert_eq!(report.cause, ExitCause::Exited(0), "{function} {argument}");
    report
}

/// Runs a worker, and waits until its process sleeps again.
#[track_caller]
pub fn run_and_rest(cluster: &Cluster, function: &str, argument: u64) -> Pid {
    let pid = run(cluster, function, argument).pid.unwrap();
    wait_until("its process sleeps as a spare", PATIENCE, || spares(cluster).contains(&pid));
    pid
}

static LIVES: AtomicU32 = AtomicU32::new(0);

/// Notes how many lives its process has had.
fn again(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    worker.ready();
    let lives = LIVES.fetch_add(1, Ordering::Relaxed) + 1;
    write_note("lives", &lives.to_string())?;
    Ok(())
}

pub fn lives() -> u32 {
    read_note("lives").parse().unwrap()
}

/// Everything that a worker can see of its process and that must be as at its beginning.
fn look(worker: &mut Worker) -> Done {
    let mut seen = String::new();
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines() {
        let of_signals = ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "Umask", "Threads"];
        if of_signals.iter().any(|name| line.starts_with(name)) {
            seen.push_str(&format!("{line}\n"));
        }
    }
    let folder = std::env::current_dir()?;
    let nice = rustix::process::getpriority_process(None)?;
    seen.push_str(&format!("{} {nice} {}\n", folder.display(), worker.restarts()));
    seen.push_str(&format!("{:?}\n", std::env::vars_os().collect::<Vec<_>>()));
    // SAFETY: all-zero bytes are a valid `itimerval`.
    let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
    // SAFETY: `timer` is valid for writing during the call.
    unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) };
    seen.push_str(&format!("{} {}\n", timer.it_value.tv_sec, timer.it_value.tv_usec));
    seen.push_str(&format!("{}\n", std::fs::read_dir("/proc/self/fd")?.count()));
    seen.push_str(&title(Pid::this()));
    worker.handle_terminate();
    worker.unblock_signals()?;
    let woken = worker.sleep(Some(Duration::from_millis(20)))?;
    seen.push_str(&format!("\n{woken:?} {} {}", worker.should_stop(), worker.reload_requested()));
    write_note("look", &seen)?;
    Ok(())
}

/// Changes everything that [`look`] looks at.
fn spoil(worker: &mut Worker) -> Done {
    worker.name_waits(Some("Spoiling"));
    worker.set_status_text("spoilt");
    worker.handle_terminate();
    worker.handle_reload()?;
    worker.backend().enable_notifications()?;
    worker.unblock_signals()?;
    let raise = |signal| nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
    raise(Signal::SIGTERM)?;
    raise(Signal::SIGHUP)?;
    worker.block_signals()?;
    for signal in [Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM] {
        raise(signal)?;
    }
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGALRM] {
        // SAFETY: installs no handler function.
        unsafe { sigaction(signal, &ignore) }?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o123));
    std::env::set_current_dir("/")?;
    if nix::unistd::geteuid().is_root() {
        rustix::process::setpriority_process(None, 7)?;
    }
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("SPOILT", "yes") };
    // SAFETY: as above.
    unsafe { std::env::remove_var("PATH") };
    // SAFETY: all-zero bytes are a valid `itimerval`.
    let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
    timer.it_value.tv_sec = 3600;
    // SAFETY: `timer` is valid for reading during the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    bgw_core::set_latch();
    Ok(())
}

/// Leaves something, as its argument says.
fn leave(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    match worker.main_arg() {
        0 => drop(std::thread::spawn(|| std::thread::park_timeout(Duration::from_secs(3600)))),
        1 => drop(std::process::Command::new("sleep").arg("3600").spawn()?),
        // An orphan: the shell has ended, and its child has left the group.
        2 => drop(std::process::Command::new("sh").args(["-c", "setsid sleep 3600 &"]).status()?),
        3 => std::mem::forget(std::fs::File::open("/dev/null")?),
        4 => drop(nix::unistd::close(
            worker.descriptor("null").map_or(-1, |fd| std::os::fd::AsRawFd::as_raw_fd(&fd)),
        )),
        5 => nix::sys::prctl::set_no_new_privs()?,
        6 => std::process::exit(0),
        7 => return Err("this worker fails on purpose".into()),
        8 => panic!("this worker panics on purpose"),
        // As many descriptors as before.
        9 => nix::unistd::dup2_stdout(std::fs::File::create(note_path("stdout"))?)?,
        10 => nix::unistd::setresuid(12345.into(), 12345.into(), 12345.into())?,
        _ => {}
    }
    Ok(())
}

/// Uses CPU time for as many milliseconds as its argument says.
fn compute(worker: &mut Worker) -> Done {
    let used = || nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    let end = used()? + Duration::from_millis(worker.main_arg());
    while used()? < end {
        std::hint::black_box((0..1000).sum::<u64>());
    }
    Ok(())
}

/// Waits for as many milliseconds as its argument says. Anything that wakes it is an error.
fn wait(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    let deadline = Instant::now() + Duration::from_millis(worker.main_arg());
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let woken = worker.sleep(Some(left))?;
        if woken.contains(WaitEvents::LATCH_SET) {
            return Err("somebody has set its latch".into());
        }
    }
    Ok(())
}

/// Sleeps until its stop signal, and returns.
fn until(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Registers a worker that notifies this one, and returns.
fn register(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    let backend = worker.backend();
    backend.enable_notifications()?;
    let inner = super::worker("sleep").notify(backend.pid()).build();
    let handle = backend.register(&inner?)?;
    handle.wait_for_ready()?;
    write_note("inner", &handle.id().to_string())?;
    Ok(())
}

/// Notes whether it is notified of anything.
fn listen(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    let backend = worker.backend();
    backend.enable_notifications()?;
    worker.ready();
    let heard = backend.wait_for_notification(Some(Duration::from_millis(300)));
    write_note("heard", &matches!(heard, Ok(true)).to_string())?;
    Ok(())
}
