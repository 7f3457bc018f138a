//! `cargo xtask TASK`: the tasks of this workspace. Start at `flags.rs`, the whole command line;
//! each task is one module with a `run` that prints what it found in its last line.

mod artifacts;
mod changelog;
mod error;
mod flags;
mod program;
mod watched;
mod workspace;

mod bench;
mod chaos;
mod ci;
mod demo;
mod deny;
mod fire;
mod fuzz;
mod instructions;
mod loom;
mod model;
mod package;
mod parity;
mod release;
mod test;
mod tidy;

use clap::Parser;
pub(crate) use error::Result;
use flags::{Flags, Task};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Flags::parse().task {
        Task::Demo(flags) => demo::run(&flags),
        Task::Test(flags) => test::run(&flags),
        Task::Loom(flags) => loom::run(&flags),
        Task::Model => model::run(),
        Task::Parity(flags) => parity::run(&flags),
        Task::Chaos(flags) => chaos::run(&flags),
        Task::Fire(flags) => fire::run(&flags),
        Task::Fuzz(flags) => fuzz::run(&flags),
        Task::Tidy => tidy::run(),
        Task::Bench(flags) => bench::run(&flags),
        Task::Deny => deny::run(),
        Task::Package => package::run(),
        Task::Release(flags) => release::run(&flags),
        Task::Ci(flags) => ci::run(&flags),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}
