//! A runtime for one test or one worker.

use super::PATIENCE;
use std::future::Future;
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Awaits with patience.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let patient = async { timeout(PATIENCE, future).await };
    runtime().block_on(patient).expect("the future is over in time")
}

/// The threads of this process, by name.
pub fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        // It may have ended since.
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    };
    tasks.map(|task| name(task).trim().to_owned()).collect()
}
