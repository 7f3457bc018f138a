//! Typed calls: a function of the postmaster's program that is called with a value and gives one
//! back, or an error. With the feature `serde`.
//!
//! ```text
//!  caller: input ── format ──▶ slot ──▶ function(&mut Worker, Input) -> Result<Output, E>
//!          Outcome<Output> ◀── report ◀── format ── output
//! ```
//!
//! What does not fit into the slot lies in a segment, and a reference to it in the slot: an input
//! in one that the caller holds until it has the outcome, an output in one that the worker makes
//! and passes to the caller. Bytes that lie in a segment already are not copied: a call may carry
//! [`Bytes`], which say where.
//!
//! Both sides name the types. What they are made of is hashed (`schema.rs`), and a call whose types
//! are not those of the function is refused when it is submitted.

mod bytes;
mod error;
pub(crate) mod format;
mod function;
mod schema;
pub(crate) mod segments;
mod submit;
pub(crate) mod types;

pub use bytes::{Bytes, MappedBytes};
pub use error::CallError;
pub use function::call;
pub use submit::Call;
pub use types::CallValue;
