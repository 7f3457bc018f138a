//! What a job is called with.

use super::gift::Gift;
use super::invalid::InvalidWorker;
use super::limits::{EXTRA_LEN, TEXT_LIMIT};
use super::policy::EntryPoint;
use super::relations::Relations;

/// The input of a call, and the type that the function must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInput {
    /// The tag of the function's type; never 0.
    pub tag: u64,
    /// The input, in the format of the tag.
    pub input: Vec<u8>,
}

/// An input lies where the extra bytes would, or, if it is longer, behind the names.
pub(crate) const fn lies_in_extra(len: usize) -> bool {
    len <= EXTRA_LEN
}

pub(super) fn check_call(
    call: Option<&CallInput>,
    extra: &[u8; EXTRA_LEN],
    (relations, gifts): (&Relations, &[Gift]),
    entry: &EntryPoint,
) -> Result<(), InvalidWorker> {
    let Some(CallInput { tag, input }) = call else { return Ok(()) };
    let unfit = |needs| {
        let value = format!("{} bytes of type {tag:016x}", input.len());
        Err(InvalidWorker::Unfit { field: "input", value, needs })
    };
    if *tag == 0 {
        return unfit("the type of a function");
    }
    if !matches!(entry, EntryPoint::Function(_)) {
        return unfit("a function of the postmaster's program");
    }
    if extra.iter().any(|&byte| byte != 0) {
        return unfit("a description without extra bytes: their place is the input's");
    }
    let limit = TEXT_LIMIT.saturating_sub(relations.len() + Gift::len(gifts)).max(EXTRA_LEN);
    if input.len() > limit {
        return Err(InvalidWorker::TooLong { field: "input", len: input.len(), limit });
    }
    Ok(())
}
