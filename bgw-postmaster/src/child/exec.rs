//! Turns a forked child into a command.
//!
//! Used where commands cannot start in the postmaster's memory (`sys/exec.rs`), or where the C library
//! is to fork.

use crate::fault;
use crate::sys::shared_page::SharedPage;
use crate::sys::signals;
use bgw_core::Pid;
use nix::sys::signal::Signal;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::CString;
use std::sync::atomic::Ordering;

/// Runs `program` in this process: default signals, none blocked, SIGTERM when the postmaster dies. If
/// that fails, leaves the error number in `exec_errno`.
pub(super) fn become_command(
    program: &str,
    args: &[String],
    postmaster: Pid,
    exec_errno: Option<&SharedPage>,
) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let mut argv = vec![CString::new(program)?];
    for arg in args {
        argv.push(CString::new(arg.as_str())?);
    }
    let program = CString::new(program)?;
    if !signals::die_with(postmaster, Signal::SIGTERM)? {
        return Err("the postmaster died during the start".into());
    }
    let error = fault::step("child:before_exec")
        .and_then(|()| signals::all_default())
        .and_then(|()| Ok(nix::unistd::execvp(&program, &argv)?));
    error.map_err(|error| {
        if let Some(page) = exec_errno {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            page.cells()[0].store(u64::from(errno.unsigned_abs()), Ordering::Release);
        }
        format!("running {program:?} failed: {error}").into()
    })
}
