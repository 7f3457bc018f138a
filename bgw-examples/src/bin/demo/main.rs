//! `demo`: the main job, end to end, in about ten seconds.
//!
//! It launches a postmaster. Static workers keep totals in a database. Dynamic workers are
//! registered, waited for, killed, restarted and terminated. Then everything stops, and the demo
//! looks for processes and shared memory that are left. Each step checks what it prints.

mod arguments;
mod leftovers;
mod steps;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match steps::run(&arguments) {
        Ok(figures) => {
            println!("demo: ok {figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("demo: FAILED: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
