//! The guest's side: makes the copy of this crate inside a loaded library the worker.

use super::abi::{LIBRARY_ABI, LibraryContext, TakeGift, owned};
use crate::attachment::Attachment;
use crate::berth::Berth;
use crate::function::Function;
use crate::gifts::Gifts;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::process::{self, WorkerProcess, WorkerResult};
use crate::returned::LastWords;
use crate::shared::{CorruptRecord, LAYOUT_TAG, WorkerRecord, WorkerSlots};
use shmem_slots::{Access, chain};
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

const ERROR: c_int = 1;

/// Runs `main` as the worker of `context`. Returns 0 if it returns `Ok`. An error, a panic, or a
/// library that does not fit its host is logged by the host, and the code is 1.
///
/// # Safety
/// `context` is what the host passed to the library's main, which has not returned.
pub unsafe fn run_in_library(
    context: *const LibraryContext,
    main: impl FnOnce(&'static WorkerProcess) -> WorkerResult,
) -> c_int {
    // SAFETY: the same contract.
    let me = match unsafe { enter(context) } {
        Ok(me) => me,
        Err(error) => {
            let text = format!("the library cannot be a worker: {}", chain(&error));
            // SAFETY: the same contract.
            unsafe { log(context, &text) };
            return 1;
        }
    };
    // The texts are made inside, too: an error's own code may panic.
    let run = || {
        main(me).map_err(|error| {
            let error = error.as_ref();
            (format!("ends: {}", chain(error)), LastWords::of_error(error))
        })
    };
    let (failure, words) = match std::panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            // The library's own panic hook has printed what and where.
            let words = LastWords::of_panic(message(panic.as_ref()), "");
            (words.to_string(), words)
        }
    };
    me.attachment.cells().set_last_words(me.berth.index, &words, true, || {});
    let text = format!("background worker \"{}\" {failure}", me.worker.worker_type());
    // SAFETY: the same contract.
    unsafe { log(context, &text) };
    1
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Why a library's copy of this crate could not be the worker.
#[derive(thiserror::Error)]
enum EnterError {
    #[error(
        "the host has version {host} of the library interface and this library version {LIBRARY_ABI}; build both with one version of bgw-core"
    )]
    Version {
        /// 0 if there is no context at all.
        host: u32,
    },
    #[error(
        "the host's record is {found} bytes and this library's {expected}; build both with one version of bgw-core"
    )]
    RecordSize { found: u32, expected: usize },
    #[error("the host's record is no worker")]
    Record(#[from] CorruptRecord),
    #[error("the host names {found} as the postmaster, which is no pid")]
    Postmaster { found: i32 },
    #[error("the host's region does not fit")]
    Region(#[from] shmem_slots::AttachError),
    #[error("duplicating the host's {what} descriptor {number} failed")]
    Descriptor {
        what: &'static str,
        number: RawFd,
        #[source]
        source: io::Error,
    },
    #[error("becoming the worker failed")]
    Enter(#[source] io::Error),
}

shmem_slots::debug_as_chain!(EnterError);

/// # Safety
/// As [`run_in_library`].
unsafe fn enter(context: *const LibraryContext) -> Result<&'static WorkerProcess, EnterError> {
    // SAFETY: the caller passes null or a valid context; every version begins with this field.
    let abi = unsafe { context.cast::<u32>().as_ref() }.copied().unwrap_or(0);
    if abi != LIBRARY_ABI {
        return Err(EnterError::Version { host: abi });
    }
    // SAFETY: not null and of this version, so it is a whole context.
    let context = unsafe { &*context };
    let expected = size_of::<WorkerRecord>();
    if context.record_len as usize != expected || context.record.is_null() {
        return Err(EnterError::RecordSize { found: context.record_len, expected });
    }
    // SAFETY: the record has our size (checked) and is plain bytes. It need not be aligned.
    let record = unsafe { context.record.cast::<WorkerRecord>().read_unaligned() };
    let worker = record.decode()?;
    let pid = u32::try_from(context.postmaster).ok().and_then(Pid::new);
    let postmaster = pid.ok_or(EnterError::Postmaster { found: context.postmaster })?;
    let region = duplicate("region", context.region)?;
    let slots = WorkerSlots::attach(region, LAYOUT_TAG, Access::ReadWrite)?;
    // SAFETY: the host's arrays and their texts are valid while the library's main runs.
    let functions = unsafe { functions(context) };
    // SAFETY: the same.
    let descriptors = unsafe { descriptors(context) }?;
    let attachment = Attachment::inherit(
        Arc::new(slots),
        Arc::new(duplicate("doorbell", context.doorbell)?),
        postmaster,
        Arc::new(duplicate("postmaster's", context.postmaster_pidfd)?),
        functions.into(),
        descriptors,
    );
    let door = Some(context.door).filter(|&door| context.is_whole() && door >= 0);
    let door = door.map(|door| duplicate("control", door)).transpose()?;
    let attachment = attachment.with_line(door.map(Arc::new));
    let handle = WorkerHandle::new(context.slot, context.generation, context.incarnation);
    let own = Berth::own(handle);
    let told = || Berth { index: context.berth, beside: context.beside != 0 };
    process::enter(WorkerProcess {
        worker: Arc::new(worker),
        handle,
        berth: if context.is_whole() { told() } else { own },
        restarts: context.restarts,
        attachment: Arc::new(attachment),
        gifts: TakeGift::of(context).map_or_else(Gifts::default, Gifts::of_host),
    })
    .map_err(EnterError::Enter)
}

fn duplicate(what: &'static str, number: RawFd) -> Result<OwnedFd, EnterError> {
    let failed = |source| EnterError::Descriptor { what, number, source };
    if number < 0 {
        return Err(failed(io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: not negative. The host keeps it open while the library's main runs, and for a number
    // that is not open the call fails.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().map_err(failed)
}

/// # Safety
/// The arrays of functions and their texts are valid.
unsafe fn functions(context: &LibraryContext) -> Vec<Function> {
    // SAFETY: the caller says that it is valid.
    let mut lines = unsafe { texts(context.functions, context.functions_len) };
    if context.is_whole() {
        // SAFETY: the same.
        let calls = unsafe { texts(context.calls, context.calls_len) };
        let is_called =
            |name: &String| calls.iter().any(|line| Function::from_line(line).name == *name);
        lines.retain(|name| !is_called(name));
        lines.extend(calls);
    }
    Function::from_lines(&lines)
}

/// # Safety
/// The array, if there is one, and its texts are valid.
unsafe fn texts(array: *const *const c_char, len: usize) -> Vec<String> {
    if array.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, so the caller says that it is valid.
    let all = unsafe { std::slice::from_raw_parts(array, len) };
    // SAFETY: the caller says that the texts are valid.
    all.iter().filter_map(|&text| unsafe { owned(text) }).collect()
}

/// # Safety
/// The array of descriptors and its texts are valid.
unsafe fn descriptors(context: &LibraryContext) -> Result<Vec<(String, OwnedFd)>, EnterError> {
    if context.descriptors.is_null() {
        return Ok(Vec::new());
    }
    let len = context.descriptors_len;
    // SAFETY: not null, so the caller says that it is valid.
    let named = unsafe { std::slice::from_raw_parts(context.descriptors, len) };
    let mut duplicates = Vec::with_capacity(len);
    for one in named {
        // SAFETY: the caller says that the texts are valid.
        let name = unsafe { owned(one.name) }.unwrap_or_default();
        duplicates.push((name, duplicate("program's", one.descriptor)?));
    }
    Ok(duplicates)
}

/// Has the host log `text` as an error.
///
/// # Safety
/// As [`run_in_library`].
unsafe fn log(context: *const LibraryContext, text: &str) {
    // SAFETY: the caller passes null or a valid context.
    let Some(context) = (unsafe { context.as_ref() }) else { return };
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    // SAFETY: the host's function, called with a text that ends with a NUL byte.
    unsafe { (context.log)(ERROR, text.as_ptr()) };
}
