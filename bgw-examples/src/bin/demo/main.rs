//! `demo`: the main job, end to end, in about ten seconds.
//!
//! It launches a postmaster. Static workers keep totals in a database. Dynamic workers are registered,
//! waited for, killed, restarted and terminated. Then everything stops, and the demo looks for
//! processes and shared memory that are left. Each step checks what it prints.

mod leftovers;
mod steps;

use clap::Parser;
use std::process::ExitCode;

/// The main job of the background worker crates, end to end.
#[derive(Parser, Clone)]
#[command(version)]
struct Arguments {
    /// About how long the demo runs, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
    /// Keep the folder with the database, the settings and the log, and say where it is.
    #[arg(long)]
    keep: bool,
    /// The database that the workers use: a file, or a PostgreSQL server started for the demo.
    #[arg(long, default_value = "sqlite", value_parser = ["sqlite", "postgres"])]
    database: String,
}

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
