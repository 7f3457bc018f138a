//! The life of a template: it loads once, and then forks a child for each order.
//!
//! The child is one of the postmaster's, beside the template. It sleeps as a spare until it is
//! given its worker, and ends with that.

use super::entry::run_from_template;
use super::launch::ChildContext;
use super::mailbox::Mailbox;
use super::panics::Panicked;
use super::said::Said;
use super::settle::end_with_postmaster;
use crate::fault;
use crate::sys::descriptors::inherited;
use crate::sys::fork::{Forker, ThreadCounter};
use crate::sys::placements::Placements;
use crate::template::NamedTemplate;
use bgw_core::internals::{keep_loaded, scm, signals};
use bgw_core::{WorkerResult, chain};
use rustix::process::Signal;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// In the forked child, with all signals blocked, until the postmaster has closed its end of
/// `socket`, or has died.
#[inline(never)]
pub(crate) fn live(
    mut context: ChildContext<'_>,
    forker: &Forker,
    template: &NamedTemplate,
    socket: RawFd,
) -> WorkerResult {
    fault::this_is(&template.name);
    fault::step("template:forked")?;
    let mut kept = Placements::default();
    kept.add(socket, socket);
    // Unlike a worker's child, it has a table of its own already.
    context.floor.close_above(&kept)?;
    let socket = inherited(socket)?;
    rustix::process::setsid()?;
    // What it has forked cleans up for itself.
    end_with_postmaster(&context, Signal::KILL)?;
    context.title.show(&["bgw template ", &template.name]);
    let said = load(template);
    fault::point("template:before_loaded");
    scm::send(&socket, &said.encode(), &[])?;
    if said != Said::Loaded {
        return Ok(());
    }
    fault::point("template:loaded");
    let measures = template.settings.measure_copies;
    loop {
        let order = scm::receive(&socket, 1)?;
        if order.bytes.is_empty() {
            return Ok(());
        }
        fault::point("template:ordered");
        let said = match carry_out(&mut context, forker, (&socket, measures), order.fds) {
            Ok(said) => said,
            Err(error) => Said::Refused(error.raw_os_error().unwrap_or(libc::EIO).max(1)),
        };
        fault::point("template:forked_child");
        scm::send(&socket, &said.encode(), &[])?;
        fault::point("template:reported");
    }
}

/// Runs the program's code.
fn load(template: &NamedTemplate) -> Said {
    let loaded =
        catch_unwind(AssertUnwindSafe(|| (template.load)().map_err(|e| chain(&*e).to_string())));
    match loaded {
        Ok(Ok(value)) => {
            keep_loaded(value);
            Said::Loaded
        }
        Ok(Err(text)) => Said::Failed(text),
        Err(panic) => Said::Failed(Panicked::caught(panic.as_ref()).to_string()),
    }
}

/// Forks a child. In the child it does not return.
fn carry_out(
    context: &mut ChildContext<'_>,
    forker: &Forker,
    (socket, measures): (&OwnedFd, bool),
    fds: Vec<OwnedFd>,
) -> io::Result<Said> {
    let Ok([page, line]) = <[OwnedFd; 2]>::try_from(fds) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mailbox = Mailbox::of_file(&page)?;
    drop(page);
    // What was loaded may have unblocked some.
    signals::block_all()?;
    let proof = match ThreadCounter::new()?.prove()? {
        Ok(proof) => proof,
        Err(threads) => return Ok(Said::Threads(u32::try_from(threads).unwrap_or(u32::MAX))),
    };
    fault::step("template:before_fork")?;
    if forker.fork_sibling(&proof, mailbox.pid_cell())? {
        run_from_template(context, mailbox, line, (socket, measures))
    }
    Ok(Said::Forked)
}
