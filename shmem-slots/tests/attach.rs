//! The promise: attach takes what fits and refuses the rest by name; a read-only attachment writes
//! nothing; a file that is truncated gives errors and never SIGBUS.
//!
//! It would catch: a header field that is not checked, a mapping larger than its file, a write
//! through a read-only mapping, a fault that is not guarded or that takes away another handler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use process_test::{fork_child, tests};
use shmem_slots::futex::Woken;
use shmem_slots::{
    Access, AttachError, CellRef, CreateError, Memory, NotWritable, Options, ReadError, Region,
    ReportError, Slots, State,
};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use support::{Array, Report, Request, TAG, drained, in_memfd, options, published, request};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        each_field_of_the_header_is_checked_by_name,
        other_types_and_tags_are_refused,
        sizes_out_of_range_are_refused,
        descriptors_that_can_shrink_are_refused,
        a_memfd_that_is_shorter_than_its_header_is_refused,
        a_child_and_a_second_mapping_see_the_same_slots,
        a_read_only_attachment_sees_everything_and_writes_nothing,
        a_file_is_private_and_an_existing_one_is_refused,
        what_is_no_regular_file_is_refused,
        a_file_that_is_too_short_is_refused,
        a_file_truncated_anywhere_gives_errors_and_no_signal,
        a_file_that_was_truncated_and_made_longer_again_gives_errors,
        other_faults_go_to_the_handler_that_was_there_before,
        an_address_in_a_sent_sigbus_is_not_believed,
        other_faults_without_a_handler_end_the_process,
    ])
}

fn attach(slots: &Array, access: Access) -> Result<Array, AttachError> {
    Slots::attach(slots.region().as_fd().try_clone_to_owned().unwrap(), TAG, access)
}

fn path() -> PathBuf {
    std::env::temp_dir().join("region")
}

fn each_field_of_the_header_is_checked_by_name() {
    let fields = [
        (0, "magic"),
        (1, "layout version"),
        (2, "tag"),
        (3, "capacity"),
        (4, "payload size in words"),
        (5, "report size in words"),
        (6, "shared cells"),
        (7, "cells of an annex"),
        (8, "spare sets"),
        (9, "total cells"),
        (10, "layout hash"),
    ];
    let slots = in_memfd(&options(8));
    let cells = slots.memory().writable_cells().unwrap();
    let last = cells.len() - 1;
    for (cell, name) in fields.into_iter().chain([(last, "end mark")]) {
        let cell = &cells[cell];
        let good = cell.load(Ordering::Relaxed);
        for bad in [0, good ^ 1 << 40, good.wrapping_add(1), u64::MAX] {
            cell.store(bad, Ordering::Relaxed);
            match attach(&slots, Access::ReadWrite) {
                // A wrong number of slots or cells shows in the sum of sizes, or, if it
                // takes as many lines, in the hash.
                Err(AttachError::Header { field, expected, found }) => {
                    assert!(
                        [name, "total cells", "layout hash"].contains(&field),
                        "{name}: {field}"
                    );
                    assert!(found != expected, "{name}");
                }
                other => panic!("{name} = {bad:#x}: {other:?}"),
            }
        }
        cell.store(good, Ordering::Relaxed);
    }
    assert!(attach(&slots, Access::ReadWrite).is_ok());
}

fn other_types_and_tags_are_refused() {
    let slots = in_memfd(&options(8));
    let file = || slots.region().as_fd().try_clone_to_owned().unwrap();
    let field = |error: AttachError| match error {
        AttachError::Header { field, .. } => field,
        other => panic!("{other}"),
    };
    let tag = Slots::<Request, Report>::attach(file(), TAG + 1, Access::ReadWrite);
    assert_eq!(field(tag.unwrap_err()), "tag");
    let payload = Slots::<[u64; 64], Report>::attach(file(), TAG, Access::ReadWrite);
    assert_eq!(field(payload.unwrap_err()), "payload size in words");
    let report = Slots::<Request, [u64; 5]>::attach(file(), TAG, Access::ReadWrite);
    assert_eq!(field(report.unwrap_err()), "report size in words");
}

fn sizes_out_of_range_are_refused() {
    for capacity in [0, shmem_slots::MAX_CAPACITY + 1, u32::MAX] {
        let refused = Slots::<Request, Report>::create(&options(capacity));
        assert!(matches!(refused, Err(CreateError::Size { .. })), "{capacity}");
        let refused = Slots::<Request, Report>::create_file(path(), &options(capacity));
        assert!(matches!(refused, Err(CreateError::Size { .. })), "{capacity}");
        assert!(!path().exists());
    }
}

fn descriptors_that_can_shrink_are_refused() {
    let unsealed = memfd_create("unsealed", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let slots = in_memfd(&options(8));
    let bytes: Vec<u8> = (slots.memory().writable_cells().unwrap().iter())
        .flat_map(|cell| cell.load(Ordering::Relaxed).to_ne_bytes())
        .collect();
    // The bytes of a good region, in a file that anybody can shrink.
    fs::write(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&unsealed)), bytes)
        .unwrap();
    let pipe = nix::unistd::pipe().unwrap().0;
    let file = File::create(path()).unwrap();
    for descriptor in [unsealed, pipe, OwnedFd::from(file)] {
        let refused = Slots::<Request, Report>::attach(descriptor, TAG, Access::ReadWrite);
        assert!(matches!(refused, Err(AttachError::Unsealed)), "{refused:?}");
    }
}

fn a_memfd_that_is_shorter_than_its_header_is_refused() {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let slots = in_memfd(&options(8));
    let cells = slots.memory().writable_cells().unwrap();
    for keep in [0, 1, 8, 15, 16, cells.len() - 1] {
        let short = memfd_create("short", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let bytes: Vec<u8> = cells[..keep]
            .iter()
            .flat_map(|cell| cell.load(Ordering::Relaxed).to_ne_bytes())
            .collect();
        nix::unistd::ftruncate(&short, bytes.len() as i64).unwrap();
        assert_eq!(nix::unistd::write(&short, &bytes).unwrap(), bytes.len());
        fcntl(&short, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let refused = Slots::<Request, Report>::attach(short, TAG, Access::ReadWrite);
        assert!(matches!(refused, Err(AttachError::Short { .. })), "{keep} cells: {refused:?}");
    }
}

fn a_child_and_a_second_mapping_see_the_same_slots() {
    let slots = in_memfd(&options(8));
    assert_eq!(fork_child(|| assert_eq!(published(&slots, 5).index, 0)).wait().code(), Some(0));
    let second = attach(&slots, Access::ReadWrite).unwrap();
    assert_eq!(drained(&second), [0]);
    let key = published(&second, 6);
    assert_eq!(slots.read(key), Ok(request(6)));
    assert_eq!(slots.region().len(), second.region().len());
}

fn a_read_only_attachment_sees_everything_and_writes_nothing() {
    let slots = in_memfd(&options(8));
    let key = published(&slots, 5);
    slots.write_report(key, &[6; 4]).unwrap();
    let view = attach(&slots, Access::ReadOnly).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.lines().any(|line| line.contains("shmem-slots") && line.contains(" r--s ")));
    let cells = || -> Vec<u64> { slots.memory().cells().iter().map(CellRef::load).collect() };
    let before = cells();
    assert_eq!(view.claim(1).map(|claim| claim.key()), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.set_flags(key, 1), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.set_flags_and_wake(key, 1), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.update(key, 1, 1), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.free(key), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.write_report(key, &[1; 4]), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.reset_all(), Err(NotWritable::ReadOnly.into()));
    assert_eq!(view.writable_cells().err(), Some(NotWritable::ReadOnly));
    assert_eq!(view.memory().writable_cells().err(), Some(NotWritable::ReadOnly));
    assert_eq!(view.sweep(|_| true), 0);
    assert_eq!(drained(&view), []);
    assert_eq!(cells(), before);
    assert_eq!((view.read(key), view.read_report(key)), (Ok(request(5)), Ok([6; 4])));
    let seen = view.look(key).unwrap();
    slots.free(key).unwrap();
    assert_eq!(view.look(key).unwrap().state(), State::Free);
    view.wait(key.index, seen, &[], None).unwrap();
    // A waiter that really sleeps on read-only pages, and is woken.
    let key = published(&slots, 7);
    let seen = view.look(key).unwrap();
    let mut waiter = fork_child(|| {
        assert_eq!(view.wait(key.index, seen, &[], None).unwrap(), Woken::Changed);
    });
    process_test::wait_until_asleep(waiter.pid());
    slots.free(key).unwrap();
    assert_eq!(waiter.wait().code(), Some(0));
}

fn a_file_is_private_and_an_existing_one_is_refused() {
    let slots: Array = Slots::create_file(path(), &options(8)).unwrap();
    assert_eq!(fs::metadata(path()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Slots::<Request, Report>::create_file(path(), &options(8));
    let Err(CreateError::System { source, .. }) = again else { panic!("{again:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::AlreadyExists);
    let key = published(&slots, 5);
    let other: Array = Slots::attach_file(path(), TAG, Access::ReadWrite).unwrap();
    assert_eq!(other.read(key), Ok(request(5)), "the refused one left the file alone");
    let view: Array = Slots::attach_file(path(), TAG, Access::ReadOnly).unwrap();
    assert_eq!(view.read(key), Ok(request(5)));
    assert_eq!(view.free(key), Err(NotWritable::ReadOnly.into()));
    other.free(key).unwrap();
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
}

fn what_is_no_regular_file_is_refused() {
    let folder = std::env::temp_dir();
    let (link, fifo) = (folder.join("link"), folder.join("fifo"));
    drop(Slots::<Request, Report>::create_file(path(), &options(8)).unwrap());
    symlink(path(), &link).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for access in [Access::ReadWrite, Access::ReadOnly] {
        for path in [&folder, &link, &fifo, &PathBuf::from("/dev/zero"), &folder.join("none")] {
            let refused = Slots::<Request, Report>::attach_file(path, TAG, access);
            assert!(
                matches!(refused, Err(AttachError::NotAFile | AttachError::System { .. })),
                "{path:?}: {refused:?}"
            );
        }
    }
}

fn a_file_that_is_too_short_is_refused() {
    let slots: Array = Slots::create_file(path(), &options(8)).unwrap();
    let whole = slots.region().len() as u64;
    drop(slots);
    let file = OpenOptions::new().write(true).open(path()).unwrap();
    for length in [whole - 1, whole - 8, whole / 2, 4096, 128, 100, 8, 3, 0] {
        file.set_len(length).unwrap();
        let refused = Slots::<Request, Report>::attach_file(path(), TAG, Access::ReadWrite);
        assert!(matches!(refused, Err(AttachError::Short { .. })), "{length}: {refused:?}");
    }
}

/// Runs every operation on a region whose file was truncated or replaced.
fn all_say_that_it_is_damaged(slots: &Array, key: shmem_slots::Key) {
    assert_eq!(slots.claim(1).map(|claim| claim.key()), Err(NotWritable::Damaged.into()));
    assert_eq!(slots.read(key), Err(ReadError::Damaged));
    assert_eq!(slots.read_report(key), Err(ReportError::Damaged));
    assert_eq!(slots.set_flags(key, 1), Err(NotWritable::Damaged.into()));
    assert_eq!(slots.update(key, 1, 1), Err(NotWritable::Damaged.into()));
    assert_eq!(slots.free(key), Err(NotWritable::Damaged.into()));
    assert_eq!(slots.write_report(key, &[1; 4]), Err(NotWritable::Damaged.into()));
    assert_eq!(slots.reset_all(), Err(NotWritable::Damaged.into()));
    assert_eq!((slots.sweep(|_| true), drained(slots)), (0, Vec::new()));
    assert!(slots.memory().check().is_err());
    let _ = (slots.look(key), slots.in_use(), slots.snapshot(0));
}

fn a_file_truncated_anywhere_gives_errors_and_no_signal() {
    let whole = in_memfd(&options(65)).region().len() as u64;
    for length in [0, 8, 128, 4095, 4096, 8192, whole / 2, whole - 4096, whole - 8] {
        let slots: Array = Slots::create_file(path(), &options(65)).unwrap();
        let key = published(&slots, 5);
        slots.write_report(key, &[6; 4]).unwrap();
        let claim = slots.claim(1).unwrap();
        OpenOptions::new().write(true).open(path()).unwrap().set_len(length).unwrap();
        assert!(claim.publish(0).is_err(), "cut to {length}");
        all_say_that_it_is_damaged(&slots, key);
        fs::remove_file(path()).unwrap();
    }
    // The earlier guards are free again, and a new region is intact.
    let slots: Array = Slots::create_file(path(), &options(65)).unwrap();
    assert_eq!(slots.read(published(&slots, 1)), Ok(request(1)));
}

fn a_file_that_was_truncated_and_made_longer_again_gives_errors() {
    let slots: Array = Slots::create_file(path(), &options(8)).unwrap();
    let key = published(&slots, 5);
    let file = OpenOptions::new().write(true).open(path()).unwrap();
    file.set_len(100).unwrap();
    file.set_len(slots.region().len() as u64).unwrap();
    all_say_that_it_is_damaged(&slots, key);
    let again = Slots::<Request, Report>::attach_file(path(), TAG, Access::ReadWrite);
    assert!(matches!(again, Err(AttachError::Header { .. })), "{again:?}");
}

extern "C" fn leave(_signal: i32) {
    // SAFETY: ends the process at once; may be called in a signal handler.
    unsafe { nix::libc::_exit(42) }
}

extern "C" fn leave_with_address(
    _signal: i32,
    info: *mut nix::libc::siginfo_t,
    _context: *mut nix::libc::c_void,
) {
    // SAFETY: handed over by the kernel, by way of the handler in between.
    let info = unsafe { &*info };
    // SAFETY: a SIGBUS has an address.
    let address = unsafe { info.si_addr() };
    // SAFETY: as above.
    unsafe { nix::libc::_exit(if address.is_null() { 1 } else { 43 }) }
}

/// Faults on a mapping that is not ours.
fn fault_elsewhere() {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(std::env::temp_dir().join("other"))
        .unwrap();
    file.set_len(4096).unwrap();
    let options = Options { shared_cells: 4, ..options(8) };
    let _guarded: Array<Region> = Slots::create_file(path(), &options).unwrap();
    // SAFETY: only read below, by a volatile load.
    let map = unsafe {
        nix::sys::mman::mmap(
            None,
            std::num::NonZeroUsize::new(4096).unwrap(),
            nix::sys::mman::ProtFlags::PROT_READ,
            nix::sys::mman::MapFlags::MAP_SHARED,
            &file,
            0,
        )
    }
    .unwrap();
    file.set_len(0).unwrap();
    // SAFETY: mapped, one byte. It faults, which is what is wanted here.
    unsafe { map.cast::<u8>().as_ptr().read_volatile() };
}

fn other_faults_go_to_the_handler_that_was_there_before() {
    let handlers = [
        (SigHandler::Handler(leave), SaFlags::empty(), 42),
        (SigHandler::SigAction(leave_with_address), SaFlags::SA_SIGINFO, 43),
    ];
    for (handler, flags, code) in handlers {
        let mut child = fork_child(|| {
            let action = SigAction::new(handler, flags, SigSet::empty());
            // SAFETY: the handlers do nothing but leave.
            unsafe { sigaction(Signal::SIGBUS, &action) }.unwrap();
            fault_elsewhere();
        });
        assert_eq!(child.wait().code(), Some(code));
        fs::remove_file(path()).unwrap();
        fs::remove_file(std::env::temp_dir().join("other")).unwrap();
    }
}

/// Would fail if an address in a SIGBUS were believed that somebody has sent: the mapping that it
/// lies in would be replaced by zeros, and the handler of before would not run.
fn an_address_in_a_sent_sigbus_is_not_believed() {
    let mut child = fork_child(|| {
        let action = SigAction::new(SigHandler::Handler(leave), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing but leave.
        unsafe { sigaction(Signal::SIGBUS, &action) }.unwrap();
        let options = Options { shared_cells: 4, ..options(8) };
        let _guarded: Array<Region> = Slots::create_file(path(), &options).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ours = path().display().to_string();
        let line = maps.lines().find(|line| line.ends_with(&ours)).unwrap();
        let address = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        // As the kernel lays it out: signal, errno, code, and from the third word on the address.
        let mut info = [0u64; 16];
        info[0] = nix::libc::SIGBUS as u64;
        info[1] = u64::from(nix::libc::SI_QUEUE as u32);
        info[2] = address as u64;
        let me = nix::unistd::getpid().as_raw();
        // SAFETY: `info` has the size of a `siginfo_t`, and is read only.
        let sent = unsafe {
            nix::libc::syscall(nix::libc::SYS_rt_sigqueueinfo, me, nix::libc::SIGBUS, info.as_ptr())
        };
        assert_eq!(sent, 0);
    });
    assert_eq!(child.wait().code(), Some(42));
}

fn other_faults_without_a_handler_end_the_process() {
    let mut child = fork_child(|| {
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: back to the default.
        unsafe { sigaction(Signal::SIGBUS, &action) }.unwrap();
        fault_elsewhere();
    });
    assert_eq!(child.wait().signal(), Some(Signal::SIGBUS));
}
