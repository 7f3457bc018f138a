//! `cargo xtask chaos`: hundreds of actors against the public API, processes killed at random, an
//! oracle that judges what everybody saw, and invariants afterwards.
//!
//! Read `round` first (one cluster from its start to its end), then `actor` (what is done to it),
//! `journal` (who saw what, in what order), `oracle` (what must hold), `invariants`.
#![deny(unsafe_code)]

mod actor;
mod crew;
mod driver;
#[cfg(feature = "fault")]
mod exhaustive;
mod hostile;
mod invariants;
mod job;
mod journal;
mod oracle;
mod pool;
mod processes;
mod report;
mod round;
mod seen;
mod soak;
#[allow(unsafe_code)]
mod sys;
mod worker;

use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// Random use of a cluster, checked.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Flags {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Where the random numbers begin
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Some actors write into shared memory and onto the socket what they should not
    #[arg(long)]
    hostile: bool,
    /// Register N workers instead, and see that the postmaster's memory and descriptors are flat
    #[arg(long, value_name = "N", conflicts_with_all = ["hostile", "seed"])]
    soak: Option<u64>,
    /// Every fault point in every scenario (needs a build with the feature `fault`)
    #[arg(long)]
    exhaustive: bool,
    /// With --exhaustive: only points or scenarios whose name contains this
    #[arg(long, value_name = "TEXT", requires = "exhaustive")]
    only: Option<String>,
    /// How many actors
    #[arg(long, value_name = "N", default_value_t = 200)]
    actors: u32,
    /// One round with exactly this seed, in this process
    #[arg(long, value_name = "S", hide = true)]
    round: Option<u64>,
    /// How long that round acts
    #[arg(long, value_name = "N", hide = true, default_value_t = 3000)]
    milliseconds: u64,
}

#[cfg(feature = "fault")]
use exhaustive::run as exhaustive;

#[cfg(not(feature = "fault"))]
fn exhaustive(_only: Option<&str>) -> Result<bool, String> {
    Err("this program was built without fault points; build it with --features fault".to_owned())
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = match flags.round {
        None if flags.exhaustive => exhaustive(flags.only.as_deref()),
        None if flags.soak.is_some() => soak::run(flags.soak.unwrap_or_default()),
        Some(seed) => round::run(round::Settings {
            seed,
            actors: flags.actors,
            time: Duration::from_millis(flags.milliseconds),
            hostile: flags.hostile,
        }),
        None => driver::run(&driver::Plan {
            seconds: flags.seconds,
            seed: flags.seed.unwrap_or_else(driver::a_seed),
            hostile: flags.hostile,
            actors: flags.actors,
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("BROKEN: {error}");
            ExitCode::FAILURE
        }
    }
}
