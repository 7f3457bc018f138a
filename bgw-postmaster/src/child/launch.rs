//! What a child gets from the postmaster.

use super::functions::Functions;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::placements::Placements;
use crate::sys::shared_page::SharedPage;
use crate::sys::title::Title;
use bgw_core::{Attachment, BackgroundWorker, Berth, WorkerHandle};
use std::os::fd::RawFd;
use std::sync::Arc;

/// The postmaster's own state that a child uses. The fork copies it.
#[derive(Debug)]
pub(crate) struct ChildContext<'a> {
    pub(crate) attachment: &'a Arc<Attachment>,
    pub(crate) floor: DescriptorFloor,
    pub(crate) functions: &'a Functions,
    pub(crate) title: &'a mut Title,
}

/// What one run gets besides what every child has.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunSetup {
    pub(crate) placements: Placements,
    /// The envelopes of what it is given, in the order of its description. They are placed where
    /// they are.
    pub(crate) envelopes: Vec<RawFd>,
    /// What the environment of a command has besides the postmaster's own.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// One start of one worker.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) worker: Arc<BackgroundWorker>,
    /// One more share of it, to be taken: the child would write to another page to make one.
    pub(crate) share: Option<Arc<BackgroundWorker>>,
    /// Its function's index in the table.
    pub(crate) main: Option<usize>,
    pub(crate) handle: WorkerHandle,
    pub(crate) berth: Berth,
    pub(crate) restarts: u32,
    pub(crate) setup: RunSetup,
    /// For a command that is forked: where the child leaves the `errno` of its `execve`.
    pub(crate) exec_errno: Option<SharedPage>,
}
