//! Feeds hostile bytes to everything that reads shared memory, packets or texts.
//!
//! Input number N of a target depends on the seed and on N alone. A child process runs a stretch of
//! inputs, so a crash or a hang ends the child and not the search; the parent then runs the stretch
//! again, number by number, and finds the input. `cargo xtask fuzz` runs this program.

mod child;
mod input;
mod random;
mod search;
mod shrink;
mod targets;

use child::Stretch;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use targets::Target;

/// Feeds hostile bytes to everything that reads shared memory, packets or texts.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 2)]
    seconds: u64,
    /// The seed of all inputs; a new one each time if left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Run this target only
    #[arg(long, value_name = "TARGET", value_enum)]
    target: Option<Target>,
    /// Run this stretch of inputs in this process
    #[arg(long, hide = true, requires = "target", requires = "seed")]
    stretch: Option<Stretch>,
    /// Run this input in this process
    #[arg(long, hide = true, requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some(target), Some(input)) = (arguments.target, &arguments.input) {
        return child::run_file(target, input);
    }
    let seed = arguments.seed.unwrap_or_else(random::seed_from_clock);
    if let (Some(target), Some(stretch)) = (arguments.target, arguments.stretch) {
        return child::run_stretch(target, seed, stretch);
    }

    let targets = arguments.target.map_or_else(|| Target::ALL.to_vec(), |target| vec![target]);
    println!("seed {seed}, {} s for each of {} targets", arguments.seconds, targets.len());
    let (mut failed, mut inputs) = (Vec::new(), 0);
    for target in targets {
        match search::run(target, seed, arguments.seconds) {
            Ok(count) => {
                println!("{target}: ok, {count} inputs");
                inputs += count;
            }
            Err(failure) => {
                println!("{target}: FAILED: {failure}");
                failed.push(target.to_string());
            }
        }
    }
    if failed.is_empty() {
        println!("fuzz: ok, {inputs} inputs, seed {seed}");
        return ExitCode::SUCCESS;
    }
    println!("fuzz: failed: {}, seed {seed}", failed.join(", "));
    ExitCode::FAILURE
}
