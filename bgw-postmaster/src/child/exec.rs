//! Turns a forked child into a command.
//!
//! Used where commands cannot start in the postmaster's memory (`sys/exec.rs`), or where the C library
//! is to fork.

use crate::fault;
use crate::sys::signals;
use bgw_core::Pid;
use nix::sys::signal::Signal;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::CString;

/// Runs `program` in this process: default signals, none blocked, SIGTERM when the postmaster dies.
pub(super) fn become_command(
    program: &str,
    args: &[String],
    postmaster: Pid,
) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let mut argv = vec![CString::new(program)?];
    for arg in args {
        argv.push(CString::new(arg.as_str())?);
    }
    let program = CString::new(program)?;
    if !signals::die_with(postmaster, Signal::SIGTERM)? {
        return Err("the postmaster died during the start".into());
    }
    fault::step("child:before_exec")?;
    signals::all_default()?;
    nix::unistd::execvp(&program, &argv)
        .map_err(|errno| format!("running {program:?} failed: {errno}").into())
}
