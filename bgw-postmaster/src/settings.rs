//! What a running postmaster takes over from the one that was built.

use crate::child::Functions;
use crate::named_group::Group;
use crate::rules::Policy;
use crate::runtime_dir::RuntimeDir;
use crate::sys::descriptor_limit::RaisedLimit;
use crate::template::NamedTemplate;
use bgw_core::internals::{EntryKinds, PostmasterCells};
use bgw_core::{BackgroundWorker, ControlSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// Everything that is decided before the postmaster runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) cells: PostmasterCells,
    /// What backends may register besides functions.
    pub(crate) registrable: EntryKinds,
    /// For the files of outputs.
    pub(crate) output_dir: Option<OwnedFd>,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) alarm: Arc<OwnedFd>,
    pub(crate) runtime_dir: Option<RuntimeDir>,
    /// The control socket: in the runtime folder, or without a name.
    pub(crate) listener: Option<ControlSocket>,
    /// By which workers connect to it.
    pub(crate) door: Option<OwnedFd>,
    pub(crate) functions: Rc<Functions>,
    pub(crate) templates: Vec<Rc<NamedTemplate>>,
    /// Passed to every worker.
    pub(crate) descriptors: Vec<(String, OwnedFd)>,
    pub(crate) policy: Policy,
    /// The named groups.
    pub(crate) groups: Vec<Group>,
    pub(crate) max_sessions: usize,
    pub(crate) stop_with_launcher: bool,
    pub(crate) run_atfork_handlers: bool,
    pub(crate) warm_spares: usize,
    /// Who registers a worker may wake a spare for it.
    pub(crate) direct_starts: bool,
    /// How many bytes there may be in segments.
    pub(crate) segment_bytes: u64,
    /// How many events are kept.
    pub(crate) events: u32,
    /// Set by a process that becomes the postmaster.
    pub(crate) raised_limit: Option<RaisedLimit>,
    pub(crate) static_workers: Vec<BackgroundWorker>,
}
