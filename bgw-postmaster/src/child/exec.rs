//! Turns a forked child into a command.
//!
//! Used where commands cannot start in the postmaster's memory (`sys/exec.rs`), or where the C
//! library forks on request.

use super::launch::Launch;
use crate::fault;
use crate::sys::environment::{environment, folder_of, input_of, search_path};
use crate::sys::program_path::{Search, after, candidates};
use crate::sys::signals;
use bgw_core::Pid;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustix::process::Signal;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::CString;
use std::io;
use std::sync::atomic::Ordering;

/// Runs `program` in this process, with its `own` variables, default signals, none blocked, and
/// SIGTERM when the postmaster dies. If that fails, leaves the error number for the postmaster.
pub(super) fn become_command(
    program: &str,
    args: &[String],
    launch: &Launch,
    own: &[(&'static str, String)],
    postmaster: Pid,
) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let mut argv = vec![CString::new(program)?];
    for arg in args {
        argv.push(CString::new(arg.as_str())?);
    }
    let surroundings = launch.worker.surroundings();
    let environment = environment(surroundings, own)?;
    let candidates = candidates(program, search_path(surroundings).as_deref())?;
    let (folder, input) = (folder_of(surroundings)?, input_of(surroundings)?);
    if !signals::die_with(postmaster, Signal::TERM)? {
        return Err("the postmaster died during the start".into());
    }
    let failed = |what: String, error: io::Error| {
        if let Some(page) = &launch.exec_errno {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            page.cells()[0].store(u64::from(errno.unsigned_abs()), Ordering::Release);
        }
        format!("{what} failed: {error}")
    };
    let running = |error| failed(format!("running {program:?}"), error);
    fault::step("child:before_exec").and_then(|()| signals::all_default()).map_err(running)?;
    if let Some(folder) = folder {
        let changed = nix::unistd::chdir(folder.as_c_str()).map_err(io::Error::from);
        changed.map_err(|error| failed(format!("changing to folder {folder:?}"), error))?;
    }
    if let Some(input) = input {
        let opened = open(input.as_c_str(), OFlag::O_RDONLY | OFlag::O_NOCTTY, Mode::empty());
        let placed = opened.and_then(nix::unistd::dup2_stdin).map_err(io::Error::from);
        placed.map_err(|error| failed(format!("opening {input:?} as standard input"), error))?;
    }
    Err(running(run(&candidates, &argv, &environment).into()).into())
}

/// Returns only if no candidate can be run.
fn run(candidates: &[CString], argv: &[CString], environment: &[CString]) -> Errno {
    let mut last = Errno::ENOENT;
    for candidate in candidates {
        // Without a slash the C library would search on its own. It runs scripts without a `#!`
        // line, too.
        let here = [b"./", candidate.as_bytes()].concat();
        let here = CString::new(here).unwrap_or_default();
        let path = if candidate.as_bytes().contains(&b'/') { candidate } else { &here };
        let Err(errno) = nix::unistd::execvpe(path, argv, environment);
        match after(errno as i32) {
            Search::Next => {}
            Search::NextButKnown => last = errno,
            Search::Over => return errno,
        }
    }
    last
}
