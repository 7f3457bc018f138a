//! `prefork`: an HTTP/1.1 server whose postmaster passes one listening socket to N workers.
//!
//! Each connection goes to a worker that has few. One worker is killed while clients send requests:
//! at most what it has in hand breaks, the others serve on, and the postmaster starts it again. The
//! server itself is in `src/prefork`; `cargo xtask fire` runs it under worse.

use bgw_examples::{logging, prefork};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    logging::to_stderr("warn");
    match prefork::run(&prefork::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prefork: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
