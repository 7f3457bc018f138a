//! The descriptors that a worker is given with its registration.

use super::invalid::InvalidWorker;
use super::limits::COMMAND_DESCRIPTORS;
use super::output::Output;
use super::policy::{EntryPoint, Ready};
use super::surroundings::Input;
use super::text::{not_empty, shown_text};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The largest number of descriptors that one worker is given.
pub const GIFTS_LIMIT: usize = 16;
// A packet has room for so many envelopes and a socket.
const _: () = assert!(GIFTS_LIMIT < crate::sys::scm::MAX_FDS);

/// A gift's name, in bytes.
const NAME_LIMIT: usize = 31;

/// A descriptor that a worker is given.
#[derive(Clone, Debug)]
pub struct Gift {
    /// Its name.
    pub name: String,
    /// The number that a command is to have it at.
    pub number: Option<u8>,
    /// The descriptor. `None` everywhere but in the process that gives it.
    pub descriptor: Option<Arc<OwnedFd>>,
}

/// What a slot says of them is the same: the descriptor itself does not lie there.
impl PartialEq for Gift {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.number) == (&other.name, other.number)
    }
}

impl Eq for Gift {}

impl Gift {
    /// The number of each for a command: the one asked for, or the lowest one that nobody has asked
    /// for, in their order. `taken` is one that something else has.
    pub(super) fn numbers<'a>(
        all: impl Iterator<Item = &'a Self> + Clone,
        taken: Option<u8>,
    ) -> Vec<u8> {
        let asked: Vec<u8> = all.clone().filter_map(|gift| gift.number).chain(taken).collect();
        // Of as many numbers as this, one is free for each.
        let mut free = COMMAND_DESCRIPTORS.filter(|number| !asked.contains(number));
        all.filter_map(|gift| gift.number.or_else(|| free.next())).collect()
    }

    /// How many bytes the names take in a slot: each has a NUL, and its number.
    pub(super) fn len(all: &[Self]) -> usize {
        all.iter().map(|gift| gift.name.len() + 2).sum()
    }
}

/// The number at which a command says that it is ready.
pub(super) const fn ready_on(ready: Option<Ready>) -> Option<u8> {
    match ready {
        Some(Ready::Newline(number)) => Some(number),
        _ => None,
    }
}

/// What else of a description may have a number of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others<'a> {
    pub(super) ready: Option<Ready>,
    pub(super) input: &'a Input,
    pub(super) output: &'a Output,
}

impl Others<'_> {
    /// The output goes to the descriptor of this name.
    fn are_written_to(self, name: &str) -> bool {
        matches!(self.output, Output::Descriptor(to) if to.name() == name)
    }

    /// What has this number already.
    fn have(self, number: u8) -> Option<&'static str> {
        let has_input = *self.input != Input::Inherit;
        let has_output = *self.output != Output::Inherit;
        match number {
            0 if has_input => Some("another number: stdin has it"),
            1 | 2 if has_output => Some("another number: output has it"),
            number if ready_on(self.ready) == Some(number) => Some("another number: ready has it"),
            _ => None,
        }
    }
}

pub(super) fn check_gifts(
    gifts: &[Gift],
    entry: &EntryPoint,
    others: Others<'_>,
) -> Result<(), InvalidWorker> {
    let field = "give";
    let wrong = |value, limit| Err(InvalidWorker::OutOfRange { field, value, limit });
    if gifts.len() > GIFTS_LIMIT {
        return wrong(format!("{} descriptors", gifts.len()), "16");
    }
    let is_command = matches!(entry, EntryPoint::Command { .. });
    for (at, gift) in gifts.iter().enumerate() {
        shown_text(field, &gift.name, NAME_LIMIT)?;
        not_empty(field, &gift.name)?;
        let name = || format!("{:?}", gift.name);
        if gift.name.contains(':') {
            return wrong(name(), "a name without a colon, which separates names");
        }
        let before = gifts.iter().take(at);
        if before.clone().any(|other| other.name == gift.name) {
            let needs = "another name: one that is given before has it";
            return Err(InvalidWorker::Unfit { field, value: name(), needs });
        }
        let Some(number) = gift.number else { continue };
        let value = format!("{:?} at {number}", gift.name);
        if others.are_written_to(&gift.name) {
            let needs =
                "give, without a number: output goes to it, and the command does not have it";
            return Err(InvalidWorker::Unfit { field, value, needs });
        }
        if !is_command {
            let needs = "a command; a function takes it by its name";
            return Err(InvalidWorker::Unfit { field, value, needs });
        }
        if number > *COMMAND_DESCRIPTORS.end() {
            return wrong(value, "0 to 63");
        }
        if let Some(needs) = others.have(number) {
            return Err(InvalidWorker::Unfit { field, value, needs });
        }
        if before.clone().any(|other| other.number == Some(number)) {
            let needs = "another number: one that is given before has it";
            return Err(InvalidWorker::Unfit { field, value, needs });
        }
    }
    Ok(())
}
