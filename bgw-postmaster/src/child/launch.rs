//! What a child gets from the postmaster.

use super::functions::Functions;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::shared_page::SharedPage;
use crate::sys::title::Title;
use bgw_core::{Attachment, BackgroundWorker, WorkerHandle};
use std::sync::Arc;

/// The postmaster's own state that a child uses. The fork copies it.
#[derive(Debug)]
pub(crate) struct ChildContext<'a> {
    pub(crate) attachment: &'a Arc<Attachment>,
    pub(crate) floor: DescriptorFloor,
    pub(crate) functions: &'a Functions,
    pub(crate) title: &'a mut Title,
}

/// One start of one worker.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) worker: Arc<BackgroundWorker>,
    /// Its function's index in the table.
    pub(crate) main: Option<usize>,
    pub(crate) handle: WorkerHandle,
    pub(crate) restarts: u32,
    /// For a command that is forked: where the child leaves the `errno` of its `execve`.
    pub(crate) exec_errno: Option<SharedPage>,
}
