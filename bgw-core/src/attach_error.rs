//! Why a process could not attach.

use crate::control::client::AskError;
use std::io;
use std::path::Path;

/// Why a process could not attach to a cluster.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nobody listens at the control socket.
    #[error("no postmaster is running at {path}; start one, or name its runtime folder")]
    NotRunning {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// This user may not use the control socket.
    #[error(
        "this user may not use the control socket {path}; connect as the user of the postmaster, or have its folder opened to this user"
    )]
    NotPermitted {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Connecting to the control socket failed for another reason.
    #[error("connecting to the control socket {path} failed")]
    Connect {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// This process is a postmaster.
    #[error("this process is a postmaster and cannot attach to one; let another process do it")]
    Postmaster,
    /// The postmaster refused, or did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The region does not fit this build.
    #[error(
        "the cluster's shared region does not fit; build both programs with one version of bgw-core"
    )]
    Region(#[source] shmem_slots::AttachError),
    /// The kernel lacks a system call.
    #[error(transparent)]
    Kernel(#[from] shmem_slots::futex::Unsupported),
}

shmem_slots::debug_as_chain!(AttachError);

pub(crate) fn cannot_connect(path: &Path, source: io::Error) -> AttachError {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AttachError::NotRunning { path, source }
        }
        io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path, source },
        io::ErrorKind::TimedOut => AskError::TimedOut.into(),
        _ => AttachError::Connect { path, source },
    }
}
