//! What a running postmaster takes over from the one that was built.

use crate::child::Functions;
use crate::rules::Policy;
use crate::runtime_dir::RuntimeDir;
use crate::sys::descriptor_limit::RaisedLimit;
use bgw_core::internals::{EntryKinds, PostmasterCells};
use bgw_core::{BackgroundWorker, ControlSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Everything that is decided before the postmaster runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) cells: PostmasterCells,
    /// How many slots are not for the parallel class.
    pub(crate) general_slots: u32,
    /// What backends may register besides functions.
    pub(crate) registrable: EntryKinds,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) runtime_dir: Option<RuntimeDir>,
    /// The control socket in the runtime folder.
    pub(crate) listener: Option<ControlSocket>,
    pub(crate) functions: Functions,
    /// Passed to every worker.
    pub(crate) descriptors: Vec<(String, OwnedFd)>,
    pub(crate) policy: Policy,
    pub(crate) max_sessions: usize,
    pub(crate) stop_with_launcher: bool,
    pub(crate) run_atfork_handlers: bool,
    pub(crate) warm_spares: usize,
    /// Set by a process that becomes the postmaster.
    pub(crate) raised_limit: Option<RaisedLimit>,
    pub(crate) static_workers: Vec<BackgroundWorker>,
}
