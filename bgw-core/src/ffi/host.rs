//! The host's side: what a library's main gets, and the functions that it can call.

use super::abi::{LIBRARY_ABI, LibraryContext, LibraryMain, NamedDescriptor, owned};
use crate::process::{self, WorkerProcess};
use crate::returned::{LastWords, RESULT_LIMIT};
use crate::shared::WorkerRecord;
use crate::sys::interrupts::Pending;
use crate::sys::signals;
use crate::wait_set::{self, WaitEvents};
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The level of a line that a library logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Level 1, and any level that has no name.
    Error,
    /// Level 2.
    Warning,
    /// Level 3.
    Info,
    /// Level 4.
    Debug,
}

static LOG: OnceLock<fn(LogLevel, &str)> = OnceLock::new();

/// Runs `main` of a loaded library as the worker `me` and returns its code. `log` gets the texts
/// that the library logs.
///
/// # Safety
/// `main` is a function of that type, in a library that is never unloaded.
pub unsafe fn call_library(
    main: LibraryMain,
    me: &'static WorkerProcess,
    log: fn(LogLevel, &str),
) -> c_int {
    LOG.get_or_init(|| log);
    // A name without a NUL: names are validated, and function names come from the program.
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let attachment = &me.attachment;
    let mut strings = vec![text(me.worker.name()), text(me.worker.worker_type())];
    strings.extend(attachment.functions().iter().map(|function| text(&function.name)));
    let first_descriptor = strings.len();
    strings.extend(attachment.descriptors().iter().map(|(name, _)| text(name)));
    let first_call = strings.len();
    let calls = attachment.functions().iter().filter(|function| function.call.is_some());
    strings.extend(calls.map(|function| text(&function.line())));
    let pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
    let descriptors: Vec<NamedDescriptor> = pointers
        .iter()
        .skip(first_descriptor)
        .zip(attachment.descriptors())
        .map(|(&name, (_, fd))| NamedDescriptor { name, descriptor: fd.as_raw_fd() })
        .collect();
    let functions = pointers.get(2..first_descriptor).unwrap_or_default();
    let calls = pointers.get(first_call..).unwrap_or_default();
    let record = WorkerRecord::encode(&me.worker, attachment.owner());
    let pointer = |at: usize| pointers.get(at).copied().unwrap_or(std::ptr::null());
    let context = LibraryContext {
        abi: LIBRARY_ABI,
        size: size_of::<LibraryContext>() as u32,
        main_arg: me.worker.main_arg(),
        extra: *me.worker.extra(),
        name: pointer(0),
        worker_type: pointer(1),
        restarts: me.restarts,
        slot: me.handle.slot(),
        generation: me.handle.generation(),
        incarnation: me.handle.incarnation(),
        postmaster: attachment.postmaster().as_raw(),
        region: attachment.slots().region().as_fd().as_raw_fd(),
        doorbell: attachment.doorbell().map_or(-1, |fd| fd.as_raw_fd()),
        postmaster_pidfd: attachment.postmaster_pidfd().as_raw_fd(),
        record_len: size_of::<WorkerRecord>() as u32,
        record: std::ptr::from_ref(&record).cast(),
        functions: functions.as_ptr(),
        functions_len: functions.len(),
        descriptors: descriptors.as_ptr(),
        descriptors_len: descriptors.len(),
        unblock_signals,
        wait,
        should_stop,
        ready,
        log: log_text,
        set_result,
        fail,
        take,
        door: attachment.door().map_or(-1, |fd| fd.as_raw_fd()),
        calls: calls.as_ptr(),
        calls_len: calls.len(),
        berth: me.berth.index,
        beside: u32::from(me.berth.beside),
    };
    // SAFETY: the caller says what `main` is. The context and all that it points to are locals of
    // this function, which outlive the call.
    unsafe { main(std::ptr::from_ref(&context)) }
}

extern "C" fn unblock_signals() -> c_int {
    if signals::unblock_all().is_ok() { 0 } else { -1 }
}

extern "C" fn wait(timeout_ms: i64) -> c_int {
    let Some(me) = process::current() else { return -1 };
    let seen = process::interrupts().count();
    if process::interrupts().end_requested() {
        return WaitEvents::INTERRUPTED.bits() as c_int;
    }
    let events = WaitEvents::LATCH_SET | WaitEvents::TIMEOUT | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let ready = wait_set::wait_in_worker(me, events, &mut [], deadline, seen);
    ready.map_or(-1, |ready| ready.bits() as c_int)
}

extern "C" fn should_stop() -> c_int {
    let end = Pending::TERMINATE | Pending::POSTMASTER_DIED;
    let requested = process::interrupts().pending().intersects(end);
    if requested {
        process::interrupts().acknowledge_end();
    }
    c_int::from(requested)
}

extern "C" fn ready() {
    if let Some(me) = process::current() {
        me.say_ready();
        me.ring_when_ready();
    }
}

/// # Safety
/// `bytes` is null, or points to `len` bytes.
unsafe extern "C" fn set_result(bytes: *const c_void, len: usize) -> c_int {
    let Some(me) = process::current().filter(|me| me.attachment.is_mine()) else { return -1 };
    if bytes.is_null() || len > RESULT_LIMIT {
        return -1;
    }
    // SAFETY: not null, so the caller says that there are as many.
    let result = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) };
    me.set_result(result, || {});
    0
}

/// # Safety
/// `text` is null, or points to a text that ends with a NUL byte.
unsafe extern "C" fn fail(text: *const c_char) {
    let Some(me) = process::current().filter(|me| me.attachment.is_mine()) else { return };
    // SAFETY: the same contract.
    let text = unsafe { owned(text) }.unwrap_or_default();
    let words = LastWords::of_texts(text, std::iter::empty::<&str>());
    me.attachment.cells().set_last_words(me.berth.index, &words, true, || {});
}

/// # Safety
/// `text` is null, or points to a text that ends with a NUL byte.
unsafe extern "C" fn log_text(level: c_int, text: *const c_char) {
    // SAFETY: the same contract.
    let text = unsafe { owned(text) }.unwrap_or_default();
    let level = match level {
        2 => LogLevel::Warning,
        3 => LogLevel::Info,
        4 => LogLevel::Debug,
        _ => LogLevel::Error,
    };
    if let Some(log) = LOG.get() {
        log(level, &text);
    }
}

/// # Safety
/// `name` is null, or points to a text that ends with a NUL byte.
unsafe extern "C" fn take(name: *const c_char) -> c_int {
    // SAFETY: the same contract.
    let name = unsafe { owned(name) }.unwrap_or_default();
    let Some(me) = process::current() else { return -libc::ENOENT };
    me.gifts.take(&name).map_or_else(errno_of, IntoRawFd::into_raw_fd)
}

/// The error as a negative number.
fn errno_of(error: std::io::Error) -> c_int {
    use std::io::ErrorKind::{NotFound, WouldBlock};
    let errno = error.raw_os_error().unwrap_or_else(|| match error.kind() {
        NotFound => libc::ENOENT,
        WouldBlock => libc::EAGAIN,
        _ => libc::EINVAL,
    });
    errno.saturating_neg()
}
