//! `cargo xtask fire`: the prefork server of bgw-examples under constant load, while its workers
//! are killed, crash, hang and leak. The same for gunicorn and Granian, if they are installed.
//!
//! Read `phase.rs` first, the list of what happens, then `scene.rs`, which makes it happen to one
//! server. `load.rs` sends the requests, `verdict.rs` judges what became of them, `report.rs` has
//! all that was seen, `measure.rs` says what is shown of it, and `table.rs` shows it. `server.rs`
//! starts and stops the servers, `process.rs` reads `/proc`.
#![forbid(unsafe_code)]

mod clock;
mod load;
mod measure;
mod phase;
mod process;
mod report;
mod request;
mod scene;
mod server;
mod table;
mod verdict;

use bgw_examples::{logging, prefork};
use clap::{Parser, Subcommand};
use phase::Phase;
use report::Outcome;
use scene::Settings;
use server::Kind;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The prefork server under fire.
///
/// The last line says how many requests were made and how many failed. Requests that a killed
/// worker had in hand are counted apart. Exit status: 0 if none failed, 1 if one did or a server
/// did not recover, 2 for wrong flags. Goals that are missed are named, and change nothing.
#[derive(Debug, Parser)]
#[command(name = "fire")]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// How long each phase lasts; some wait for what they are about
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Two seconds a phase and a quarter of the load, to see that all of it works
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Other servers that go through the same: gunicorn, granian, none [default: those installed]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    against: Option<Vec<String>>,
    /// Only these phases: quiet, kill, crash, hang, hang-all, leak, roll, reload, stop, none-starts
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Phase::parse)]
    only: Vec<Phase>,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Is the server
    #[command(hide = true)]
    Serve(prefork::Arguments),
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = match &flags.command {
        Some(Command::Serve(arguments)) => {
            logging::to_stderr("warn");
            prefork::run(arguments).map(|()| true)
        }
        None => run(&flags),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("fire: failed: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let mut settings = Settings::new(Duration::from_secs(flags.seconds), &flags.only);
    if flags.quick {
        settings = settings.quick();
    }
    let mut outcomes = vec![scene::play(&Kind::Prefork, &settings)?];
    for kind in rivals(flags)? {
        // What becomes of a rival is a figure, not our failure.
        match scene::play(&kind, &settings) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => println!("{}: {}", kind.name(), shmem_slots::chain(error.as_ref())),
        }
    }
    let table = table::render(&outcomes);
    println!("\n{table}");
    if let Some(file) = &flags.markdown {
        std::fs::write(file, &table)?;
    }
    Ok(conclude(&outcomes[0]))
}

fn rivals(flags: &Flags) -> Result<Vec<Kind>, Box<dyn Error>> {
    let wanted = match &flags.against {
        Some(names) => names.iter().map(String::as_str).filter(|name| *name != "none").collect(),
        None if flags.quick => Vec::new(),
        None => server::RIVALS.to_vec(),
    };
    let mut found = Vec::new();
    for name in wanted {
        match server::find(name)? {
            Some(kind) => found.push(kind),
            None => println!("{name} is not installed (pip install {name}): left out"),
        }
    }
    Ok(found)
}

/// Prints the last line about the server of ours.
fn conclude(outcome: &Outcome) -> bool {
    let worst: Vec<String> = outcome
        .worst()
        .map(|(phase, worst)| format!("{phase} {:.0} ms", worst.as_secs_f64() * 1e3))
        .collect();
    let (requests, failed) = (outcome.requests(), outcome.failed());
    let ok = failed == 0 && outcome.complaints.is_empty();
    for complaint in &outcome.complaints {
        println!("fire: {complaint}");
    }
    println!(
        "fire: {}, {requests} requests, {failed} failed, {} cut with their worker, {} late, worst: {}",
        if ok { "ok" } else { "FAILED" },
        outcome.cut(),
        outcome.late(),
        worst.join(", "),
    );
    ok
}
