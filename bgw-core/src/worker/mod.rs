//! The description of a worker: what to run, when, and what follows its end.
//!
//! [`BackgroundWorker`] is always valid. It comes from its [builder](BackgroundWorker::builder) or
//! from a slot that was decoded, and both go through the one validation in `validate`.

pub(crate) mod builder;
pub(crate) mod call;
mod called;
mod caller;
pub(crate) mod clocks;
pub(crate) mod description;
pub(crate) mod entry_kinds;
pub(crate) mod gift;
mod give;
pub(crate) mod invalid;
pub(crate) mod job;
pub(crate) mod limits;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod recycle;
pub(crate) mod relations;
pub(crate) mod restarts;
pub(crate) mod schedule;
pub(crate) mod stop;
pub(crate) mod surroundings;
mod surroundings_builder;
pub(crate) mod targets;
pub(crate) mod text;
pub(crate) mod validate;
pub(crate) mod validate_relations;
pub(crate) mod validate_restart;

pub(crate) use description::BackgroundWorker;
pub(crate) use entry_kinds::EntryKinds;
pub(crate) use policy::{EntryPoint, StartTime, WorkerFlags};
pub(crate) use stop::{Grace, StopSignal};
