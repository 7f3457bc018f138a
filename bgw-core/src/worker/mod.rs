//! The description of a worker: what to run, when, and what follows its end.
//!
//! [`BackgroundWorker`] is always valid. It comes from its [builder](BackgroundWorker::builder) or from a
//! slot that was decoded, and both go through the one validation in `validate`.

pub(crate) mod builder;
pub(crate) mod description;
pub(crate) mod entry_kinds;
pub(crate) mod limits;
pub(crate) mod policy;
pub(crate) mod validate;

pub(crate) use description::BackgroundWorker;
pub(crate) use entry_kinds::EntryKinds;
pub(crate) use policy::{EntryPoint, RestartPolicy, StartTime, WorkerFlags};
