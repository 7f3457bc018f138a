//! The promise: fault signals are blocked neither in a postmaster nor in a worker, so a fault runs
//! the program's handler and has its name in the report. A worker blocks neither its quit nor the
//! news of its postmaster's death, whatever else it blocks. A process that was a postmaster has its
//! signals back.
//!
//! Would catch: a mask that is made of all signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{Gifts, process, signals};
use bgw_core::{
    AttachError, Attachment, BackgroundWorker, Berth, ControlSocket, WorkerHandle, WorkerProcess,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use process_test::{fork_child, tests};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{deadline, member, shared_slots};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        fault_signals_are_blocked_in_no_process_of_the_cluster => [D11],
        a_fault_in_a_worker_that_blocks_its_signals_runs_the_programs_handler => [D11],
        a_former_postmaster_has_its_signals_back => [D19],
        a_filtered_system_call_is_an_error_that_says_so,
    ])
}

const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

fn blocked() -> SigSet {
    SigSet::thread_get_mask().unwrap()
}

fn become_worker() {
    SigSet::all().thread_set_mask().unwrap();
    let slots = shared_slots();
    let worker = BackgroundWorker::builder("w").function("f").build().unwrap();
    process::enter(WorkerProcess {
        worker: Arc::new(worker),
        handle: WorkerHandle::new(0, 1, 0),
        berth: Berth::own(WorkerHandle::new(0, 1, 0)),
        restarts: 0,
        attachment: Arc::new(member(&slots, nix::unistd::getppid())),
        gifts: Gifts::default(),
    })
    .unwrap();
}

fn fault_signals_are_blocked_in_no_process_of_the_cluster() {
    let mut postmaster = fork_child(|| {
        SigSet::all().thread_set_mask().unwrap();
        let _former = process::become_postmaster().unwrap();
        let mask = blocked();
        assert!(FAULTS.iter().all(|&fault| !mask.contains(fault)), "{mask:?}");
        for heard in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
            assert!(mask.contains(heard), "{heard}: read from a signalfd");
        }
    });
    assert_eq!(postmaster.wait().code(), Some(0));
    let mut worker = fork_child(|| {
        become_worker();
        let never = FAULTS.into_iter().chain([Signal::SIGQUIT, Signal::SIGPWR, Signal::SIGURG]);
        let check = |when: &str| {
            let mask = blocked();
            for signal in never.clone() {
                assert!(!mask.contains(signal), "{signal} is blocked {when}");
            }
            mask
        };
        assert!(check("as it begins").contains(Signal::SIGTERM));
        signals::unblock_all().unwrap();
        assert!(!check("once unblocked").contains(Signal::SIGTERM));
        signals::block_in_worker().unwrap();
        assert!(check("once blocked again").contains(Signal::SIGTERM));
    });
    assert_eq!(worker.wait().code(), Some(0));
}

extern "C" fn fault_handler(_: libc::c_int) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { libc::_exit(42) }
}

/// The kernel kills a process that faults while the signal is blocked.
fn a_fault_in_a_worker_that_blocks_its_signals_runs_the_programs_handler() {
    let mut worker = fork_child(|| {
        become_worker();
        signals::block_in_worker().unwrap();
        let handler = SigHandler::Handler(fault_handler);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler ends the process.
        unsafe { sigaction(Signal::SIGSEGV, &action) }.unwrap();
        // SAFETY: none: the read faults, on purpose.
        std::hint::black_box(unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() });
    });
    assert_eq!(worker.wait().code(), Some(42));
}

static TERMINATED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    TERMINATED.fetch_add(1, Ordering::Relaxed);
}

fn a_former_postmaster_has_its_signals_back() {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler counts.
    unsafe { sigaction(Signal::SIGTERM, &action) }.unwrap();
    let mut before = SigSet::empty();
    before.add(Signal::SIGUSR2);
    before.thread_set_mask().unwrap();
    let former = process::become_postmaster().unwrap();
    assert!(process::is_postmaster());
    former.restore().unwrap();
    assert!(!process::is_postmaster());
    assert_eq!(blocked(), before);
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    assert_eq!(TERMINATED.load(Ordering::Relaxed), 1);
}

/// A filter that answers `EPERM`, as some containers have. Fails when only `ENOSYS` counts.
fn a_filtered_system_call_is_an_error_that_says_so() {
    let mut child = fork_child(|| {
        forbid_futex_waitv();
        let (ours, _theirs) = ControlSocket::pair().unwrap();
        let error = Attachment::attach(ours, false, deadline()).unwrap_err();
        assert!(matches!(error, AttachError::Kernel(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("filter") && text.contains("futex_waitv"), "{text}");
    });
    assert_eq!(child.wait().code(), Some(0));
}

fn forbid_futex_waitv() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number_at = 0;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number_at),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_futex_waitv as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its filter are valid for the call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) }, 0);
}
