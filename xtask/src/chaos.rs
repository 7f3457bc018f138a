//! `cargo xtask chaos`: the program `chaos`.

use crate::{Result, flags, program};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Chaos) -> Result<ExitCode> {
    // Without them the program is the one that users build.
    let features: &[&str] = if flags.exhaustive { &["fault"] } else { &[] };
    program::run_with("chaos", "chaos", "chaos", features, &arguments(flags))
}

fn arguments(flags: &flags::Chaos) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let numbers = [("--seconds", flags.seconds), ("--seed", flags.seed), ("--soak", flags.soak)];
    for (name, number) in numbers {
        if let Some(number) = number {
            arguments.extend([name.into(), number.to_string().into()]);
        }
    }
    for (name, given) in [("--hostile", flags.hostile), ("--exhaustive", flags.exhaustive)] {
        if given {
            arguments.push(name.into());
        }
    }
    if let Some(only) = &flags.only {
        arguments.extend(["--only".into(), only.into()]);
    }
    arguments
}
