//! `cargo xtask chaos`: the program `chaos`.

use crate::{Result, flags, program};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Chaos) -> Result<ExitCode> {
    program::run("chaos", "chaos", "chaos", &arguments(flags))
}

fn arguments(flags: &flags::Chaos) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let numbers = [("--seconds", flags.seconds), ("--seed", flags.seed), ("--soak", flags.soak)];
    for (name, number) in numbers {
        if let Some(number) = number {
            arguments.extend([name.into(), number.to_string().into()]);
        }
    }
    if flags.hostile {
        arguments.push("--hostile".into());
    }
    arguments
}
