//! What `cargo xtask fire` asks of the server: to fail.
//!
//! With `--fire FOLDER` each run adds its pid and time to `FOLDER/boot.log`, and fails at once
//! while there is a file `FOLDER/crash`. A request for `/hang` hangs the whole worker, one for
//! `/leak` leaks 1 MiB. Without the flag none of this exists.

use nix::time::{ClockId, clock_gettime};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

const LEAK: usize = 1 << 20;

/// Notes the start of a run in `folder`, and fails it if that is asked for.
pub(crate) fn begin(folder: &Path) -> io::Result<()> {
    let mut log = OpenOptions::new().append(true).create(true).open(folder.join("boot.log"))?;
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let line = format!("{} {}.{:09}\n", std::process::id(), now.tv_sec(), now.tv_nsec());
    log.write_all(line.as_bytes())?;
    if folder.join("crash").exists() {
        return Err(io::Error::other("told to fail at its start"));
    }
    Ok(())
}

/// Does what the path asks for.
pub(crate) fn obey(path: &str) {
    match path {
        "/hang" => loop {
            thread::sleep(Duration::from_secs(3600));
        },
        // Written to: memory that nobody has touched is none.
        "/leak" => std::mem::forget(std::hint::black_box(vec![1u8; LEAK])),
        _ => {}
    }
}
