//! Why a call was not submitted.

use crate::error::RegisterError;
use crate::segment::SegmentError;
use bgw_core::InvalidWorker;

/// Why a call was not submitted. No worker was registered.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The postmaster does not have the function, or has no slot for it.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The description is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidWorker),
    /// The input cannot be encoded.
    #[error("the input of \"{function}\" cannot be encoded")]
    Encode {
        /// The function.
        function: String,
        /// The format's error.
        #[source]
        source: postcard::Error,
    },
    /// The input does not fit into the slot, and there is no segment for it: the error names the
    /// limit.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A type of the call asks its reader what comes next, as untagged enums and flattened fields
    /// do. The format does not say that.
    #[error(
        "type {name} of the call of \"{function}\" cannot be carried: it asks what comes next, as untagged enums and flattened fields do"
    )]
    Unsupported {
        /// The function.
        function: String,
        /// The type.
        name: &'static str,
    },
}

bgw_core::debug_as_chain!(CallError);
