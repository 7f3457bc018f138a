//! What a command is given: descriptors at the numbers that were asked for, and what its
//! environment says of them.
//!
//! A command cannot say that it has taken one. So one that may be restarted gets duplicates, which
//! leaves them to its later runs; any other command gets the only ones.

use crate::sys::descriptors::{duplicate_clear, inherited, place_descriptor};
use bgw_core::internals::{Gift, envelope};
use bgw_core::{BackgroundWorker, RestartPolicy};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The number that the announced ones begin with.
const FIRST: u8 = 3;

/// Puts what is in the envelopes where the command wants it. Returns what its environment says.
pub(super) fn place_gifts(
    worker: &BackgroundWorker,
    envelopes: &[RawFd],
) -> io::Result<Vec<(&'static str, String)>> {
    let restarts = worker.restart() != RestartPolicy::Never;
    let numbers = worker.gift_numbers();
    let open = envelopes.iter().map(|&number| {
        let envelope = inherited(number)?;
        let opened = if restarts { envelope::copy(&envelope) } else { envelope::open(&envelope) };
        let descriptor = opened?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        duplicate_clear(&descriptor)
    });
    let open: Vec<OwnedFd> = open.collect::<io::Result<_>>()?;
    open.iter()
        .zip(&numbers)
        .try_for_each(|(gift, &number)| place_descriptor(gift.as_raw_fd(), number.into()))?;
    let gifts: Vec<&Gift> = worker.own_gifts().collect();
    Ok(announce(&gifts, &numbers))
}

/// As systemd does. Only numbers without a gap can be announced.
fn announce(gifts: &[&Gift], numbers: &[u8]) -> Vec<(&'static str, String)> {
    let at = |number: u8| numbers.iter().position(|&other| other == number);
    let names: Vec<&str> =
        (FIRST..).map_while(at).filter_map(|at| Some(gifts.get(at)?.name.as_str())).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![
        ("LISTEN_PID", std::process::id().to_string()),
        ("LISTEN_FDS", names.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ]
}
