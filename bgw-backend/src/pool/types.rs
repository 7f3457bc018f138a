//! The types by which a pool's workers are launched. Pure.

use crate::calls::{CallValue, types};
use bgw_core::internals::CallType;

/// The type by which a pool's workers are launched.
pub(super) fn call_type<I: CallValue, O: CallValue>() -> CallType {
    let types = types::of::<I, O>();
    CallType { tag: pool_tag(types.tag), signature: format!("pooled {}", types.signature) }
}

/// The tag of a pool whose jobs have this tag, which is that of no call.
pub(super) const fn pool_tag(jobs: u64) -> u64 {
    if jobs == 0 { 0 } else { jobs.rotate_left(17) ^ 0x706f_6f6c_706f_6f6c }
}
