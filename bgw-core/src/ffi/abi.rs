//! The layout of what a host passes to a library. `library.h` declares the same in C.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The version of [`LibraryContext`].
pub(super) const LIBRARY_ABI: u32 = 1;

/// A worker's main in a library. It returns 0, or another number for a failure.
pub type LibraryMain = unsafe extern "C" fn(*const LibraryContext) -> c_int;

/// What a library's main gets, and what it can call. The pointers are valid until it returns.
///
/// ```c
#[doc = include_str!("library.h")]
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct LibraryContext {
    pub(super) abi: u32,
    pub(super) size: u32,
    pub(super) main_arg: u64,
    pub(super) extra: [u8; 128],
    pub(super) name: *const c_char,
    pub(super) worker_type: *const c_char,
    pub(super) restarts: u32,
    pub(super) slot: u32,
    pub(super) generation: u64,
    pub(super) incarnation: u32,
    pub(super) postmaster: i32,
    pub(super) region: c_int,
    pub(super) doorbell: c_int,
    pub(super) postmaster_pidfd: c_int,
    pub(super) record_len: u32,
    pub(super) record: *const c_void,
    pub(super) functions: *const *const c_char,
    pub(super) functions_len: usize,
    pub(super) descriptors: *const NamedDescriptor,
    pub(super) descriptors_len: usize,
    pub(super) unblock_signals: extern "C" fn() -> c_int,
    pub(super) wait: extern "C" fn(timeout_ms: i64) -> c_int,
    pub(super) should_stop: extern "C" fn() -> c_int,
    pub(super) ready: extern "C" fn(),
    pub(super) log: unsafe extern "C" fn(level: c_int, text: *const c_char),
    pub(super) set_result: unsafe extern "C" fn(bytes: *const c_void, len: usize) -> c_int,
    pub(super) fail: unsafe extern "C" fn(text: *const c_char),
    pub(super) take: unsafe extern "C" fn(name: *const c_char) -> c_int,
    pub(super) door: c_int,
    pub(super) calls: *const *const c_char,
    pub(super) calls_len: usize,
    pub(super) berth: u32,
    pub(super) beside: u32,
}

impl LibraryContext {
    /// False: a host of before, which has only the first of these fields.
    pub(super) const fn is_whole(&self) -> bool {
        self.size as usize >= size_of::<Self>()
    }
}

/// The host's function that takes a descriptor: its number, or the error as a negative number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakeGift(unsafe extern "C" fn(name: *const c_char) -> c_int);

impl TakeGift {
    /// `None`: a host of before does not have it.
    pub(super) const fn of(context: &LibraryContext) -> Option<Self> {
        if context.is_whole() { Some(Self(context.take)) } else { None }
    }

    /// As [`Gifts::take`](crate::gifts::Gifts::take).
    pub(crate) fn call(self, name: &str) -> io::Result<OwnedFd> {
        let name = CString::new(name).map_err(|_| io::ErrorKind::NotFound)?;
        // SAFETY: a function of the host's, called with a text that ends with a NUL byte.
        match unsafe { (self.0)(name.as_ptr()) } {
            number if number < 0 => Err(io::Error::from_raw_os_error(number.saturating_neg())),
            // SAFETY: the host has just made it for this caller.
            number => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        }
    }
}

/// A descriptor and its name.
#[derive(Debug)]
#[repr(C)]
pub(super) struct NamedDescriptor {
    pub(super) name: *const c_char,
    pub(super) descriptor: c_int,
}

/// A copy of the text; `None` for a null pointer. Bytes that are not UTF-8 are replaced.
///
/// # Safety
/// `text` is null, or points to a text that ends with a NUL byte.
pub(super) unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so the caller says that it is a valid text.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
