//! The border between a worker process and a library that it loaded: plain C, so that a library may be
//! written in any language, and so that a Rust library with its own copy of this crate can be a
//! worker in full.
//!
//! A library's function gets a [`LibraryContext`]. A C library uses its fields and its calls. A Rust
//! library hands it to [`enter`], which makes the *library's copy* of this crate know the worker: it
//! maps the region anew, adopts the latch, and installs its own signal handlers in place of the host's.
//!
//! Trust: the context comes from the process itself, which loaded the library. Still a context of
//! another version is refused.

use crate::attachment::{Attachment, Inherited};
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::process::{self, Pending, WorkerProcess};
use crate::shared::{LAYOUT_TAG, WorkerRecord, WorkerSlots, flag};
use crate::sys::signals;
use crate::wait_set::{self, WaitEvents};
use shmem_slots::{Access, Key};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The version of [`LibraryContext`] and of what it says.
pub const LIBRARY_ABI: u32 = 1;

/// What a library's function is: it gets the context and returns 0, or another number for an error.
pub type LibraryMain = unsafe extern "C" fn(*const LibraryContext) -> c_int;

/// What a library's function is told, and what it can call. The pointers hold until it returns.
#[derive(Debug)]
#[repr(C)]
pub struct LibraryContext {
    /// [`LIBRARY_ABI`].
    pub abi: u32,
    /// How many bytes this is.
    pub size: u32,
    /// The argument that the worker was registered with.
    pub main_arg: u64,
    /// The extra bytes that it was registered with.
    pub extra: [u8; 128],
    /// Its name, and its type.
    pub name: *const c_char,
    /// Its type.
    pub worker_type: *const c_char,
    /// How many times it was started before.
    pub restarts: u32,
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Its incarnation.
    pub incarnation: u32,
    /// The postmaster's pid.
    pub postmaster: i32,
    /// Descriptor of the shared region.
    pub region: c_int,
    /// Descriptor of the doorbell.
    pub doorbell: c_int,
    /// Descriptor of the postmaster's pidfd.
    pub postmaster_pidfd: c_int,
    /// How many bytes the record has.
    pub record_len: u32,
    /// The worker's record.
    pub record: *const c_void,
    /// The names of the postmaster's functions.
    pub functions: *const *const c_char,
    /// How many.
    pub functions_len: usize,
    /// Descriptors that the program passes to its workers.
    pub descriptors: *const NamedDescriptor,
    /// How many.
    pub descriptors_len: usize,
    /// From now on signals are delivered. 0, or -1.
    pub unblock_signals: extern "C" fn() -> c_int,
    /// Sleeps until the latch is set, `timeout_ms` has passed (negative: no limit), or a signal comes;
    /// ends the process if the postmaster dies. The bits of `WaitEvents`, or -1.
    pub wait: extern "C" fn(timeout_ms: i64) -> c_int,
    /// 1 once the worker was told to end.
    pub should_stop: extern "C" fn() -> c_int,
    /// Says that the worker does its work now.
    pub ready: extern "C" fn(),
    /// Logs a text: 1 error, 2 warning, 3 info, 4 debug. What is not UTF-8 is replaced.
    pub log: extern "C" fn(level: c_int, text: *const c_char),
}

/// A descriptor and its name.
#[derive(Debug)]
#[repr(C)]
pub struct NamedDescriptor {
    /// The name.
    pub name: *const c_char,
    /// The number.
    pub descriptor: c_int,
}

/// A context with all that its pointers point to.
pub struct Hosted<'a> {
    context: LibraryContext,
    _owned: (Vec<CString>, Vec<*const c_char>, Vec<NamedDescriptor>, Box<WorkerRecord>),
    _process: PhantomData<&'a WorkerProcess>,
}

impl std::fmt::Debug for Hosted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.context.fmt(f)
    }
}

impl<'a> Hosted<'a> {
    /// What `me` tells a library; `log` is where the library's texts go.
    #[must_use]
    pub fn new(me: &'a WorkerProcess, log: extern "C" fn(c_int, *const c_char)) -> Self {
        // Names hold no NUL: they were validated, and function names come from the program.
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let attachment = &me.attachment;
        let mut strings = vec![text(me.worker.name()), text(me.worker.worker_type())];
        strings.extend(attachment.functions().iter().map(|name| text(name)));
        let first_descriptor = strings.len();
        strings.extend(attachment.descriptors().iter().map(|(name, _)| text(name)));
        // The bytes of a CString stay where they are when the vector moves.
        let pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
        let descriptors: Vec<NamedDescriptor> = pointers
            .iter()
            .skip(first_descriptor)
            .zip(attachment.descriptors())
            .map(|(&name, (_, fd))| NamedDescriptor { name, descriptor: fd.as_raw_fd() })
            .collect();
        let functions: Vec<*const c_char> =
            pointers.get(2..first_descriptor).unwrap_or_default().to_vec();
        let record = Box::new(WorkerRecord::encode(&me.worker, attachment.owner()));
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
            record: std::ptr::from_ref(record.as_ref()).cast(),
            functions: functions.as_ptr(),
            functions_len: functions.len(),
            descriptors: descriptors.as_ptr(),
            descriptors_len: descriptors.len(),
            unblock_signals,
            wait,
            should_stop,
            ready,
            log,
        };
        Self { context, _owned: (strings, functions, descriptors, record), _process: PhantomData }
    }

    /// The context, to be passed to the library.
    #[must_use]
    pub const fn context(&self) -> &LibraryContext {
        &self.context
    }
}

extern "C" fn unblock_signals() -> c_int {
    if signals::unblock_all().is_ok() { 0 } else { -1 }
}

extern "C" fn wait(timeout_ms: i64) -> c_int {
    let Some(me) = process::current() else { return -1 };
    let interrupts = process::interrupts();
    if process::told_to_end() {
        return WaitEvents::INTERRUPTED.bits() as c_int;
    }
    let events = WaitEvents::LATCH_SET | WaitEvents::TIMEOUT | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let latch = me.latch();
    let ready =
        wait_set::wait(&me.attachment, latch.as_ref(), events, &mut [], deadline, interrupts);
    if let Some(latch) = latch {
        latch.reset();
    }
    ready.map_or(-1, |ready| ready.bits() as c_int)
}

extern "C" fn should_stop() -> c_int {
    let told = process::pending().intersects(Pending::TERMINATE | Pending::POSTMASTER_DIED);
    if told {
        process::acknowledge_end();
    }
    c_int::from(told)
}

extern "C" fn ready() {
    if let Some(me) = process::current() {
        let key = Key { index: me.handle.slot(), generation: me.handle.generation() };
        // Stale only after a reset that this worker does not outlive.
        let _ = me.attachment.slots().set_flags_and_wake(key, flag::READY);
    }
}

/// Why a library's copy of this crate could not be the worker.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The host is of another version.
    #[error("the host speaks version {host} of the library interface, this library {LIBRARY_ABI}")]
    Version {
        /// The host's version; 0 when there is no context at all.
        host: u32,
    },
    /// A part of the context is not what it should be.
    #[error("the host's context is no worker: {what}")]
    Context {
        /// Which part.
        what: String,
    },
    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

shmem_slots::debug_as_chain!(EnterError);

/// Makes this copy of the crate, inside a loaded library, know the worker of `context`.
///
/// # Errors
/// [`EnterError`].
///
/// # Safety
/// `context` is null, or what the host passed to the library's function, which has not returned.
pub unsafe fn enter(context: *const LibraryContext) -> Result<&'static WorkerProcess, EnterError> {
    // SAFETY: the caller says that it is null or valid; the first field is in every version.
    let abi = unsafe { context.cast::<u32>().as_ref() }.copied().unwrap_or(0);
    if abi != LIBRARY_ABI {
        return Err(EnterError::Version { host: abi });
    }
    // SAFETY: not null and of this version, so it is a whole context.
    let context = unsafe { &*context };
    let unfit = |what: &str| EnterError::Context { what: what.to_owned() };
    if context.record_len as usize != size_of::<WorkerRecord>() || context.record.is_null() {
        return Err(unfit("its record has another size"));
    }
    // SAFETY: the host's record has the size of ours (checked) and is plain bytes; the address need
    // not be aligned for ours.
    let record = unsafe { context.record.cast::<WorkerRecord>().read_unaligned() };
    let worker =
        record.decode().map_err(|error| EnterError::Context { what: error.to_string() })?;
    let pid = u32::try_from(context.postmaster).ok().and_then(Pid::new);
    let postmaster = pid.ok_or_else(|| unfit("no postmaster"))?;
    let region = duplicate(context.region)?;
    let slots = WorkerSlots::attach(region, LAYOUT_TAG, Access::ReadWrite)
        .map_err(|error| EnterError::Context { what: error.to_string() })?;
    // SAFETY: the host's arrays and their texts hold while the library's function runs.
    let functions = unsafe { functions(context) };
    // SAFETY: as above.
    let descriptors = unsafe { descriptors(context) };
    let attachment = Attachment::inherit(Inherited {
        slots: Arc::new(slots),
        doorbell: Arc::new(duplicate(context.doorbell)?),
        postmaster,
        postmaster_pidfd: Arc::new(duplicate(context.postmaster_pidfd)?),
        functions: functions.into(),
        descriptors: descriptors?,
    });
    let handle = WorkerHandle::new(context.slot, context.generation, context.incarnation);
    process::enter(WorkerProcess {
        worker: Arc::new(worker),
        handle,
        restarts: context.restarts,
        attachment: Arc::new(attachment),
    })
    .map_err(|source| EnterError::System { what: "becoming the worker", source })
}

fn duplicate(number: RawFd) -> Result<OwnedFd, EnterError> {
    let failed = |source| EnterError::System { what: "duplicating a descriptor", source };
    if number < 0 {
        return Err(failed(io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: not -1; the host keeps it open while the library's function runs, and a number that is
    // not open is an error of the call.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().map_err(failed)
}

/// # Safety
/// The array and its texts are valid.
unsafe fn functions(context: &LibraryContext) -> Vec<String> {
    if context.functions.is_null() {
        return Vec::new();
    }
    // SAFETY: not null; the caller says that it is valid.
    let names = unsafe { std::slice::from_raw_parts(context.functions, context.functions_len) };
    // SAFETY: the caller says that the texts are valid.
    names.iter().filter_map(|&name| unsafe { owned(name) }).collect()
}

/// # Safety
/// The array and its texts are valid.
unsafe fn descriptors(context: &LibraryContext) -> Result<Vec<(String, OwnedFd)>, EnterError> {
    if context.descriptors.is_null() {
        return Ok(Vec::new());
    }
    let len = context.descriptors_len;
    // SAFETY: not null; the caller says that it is valid.
    let named = unsafe { std::slice::from_raw_parts(context.descriptors, len) };
    let mut owned_ones = Vec::with_capacity(len);
    for one in named {
        // SAFETY: the caller says that the texts are valid.
        let name = unsafe { owned(one.name) }.unwrap_or_default();
        owned_ones.push((name, duplicate(one.descriptor)?));
    }
    Ok(owned_ones)
}

/// # Safety
/// Null, or a valid text.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null; the caller says that it is valid.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// The text that a library wants to be logged; for hosts.
///
/// # Safety
/// Null, or a valid text.
#[must_use]
pub unsafe fn logged_text(text: *const c_char) -> String {
    // SAFETY: as of this function.
    unsafe { owned(text) }.unwrap_or_default()
}

/// Has the host log `text`.
///
/// # Safety
/// As for [`enter`].
pub unsafe fn log(context: *const LibraryContext, level: c_int, text: &str) {
    // SAFETY: the caller says that it is null or valid.
    let Some(context) = (unsafe { context.as_ref() }) else { return };
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    (context.log)(level, text.as_ptr());
}
