//! `cargo xtask fire`: the program `fire`.

use crate::{Result, flags, program};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Fire) -> Result<ExitCode> {
    program::run("fire", "fire", "fire", &arguments(flags))
}

fn arguments(flags: &flags::Fire) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(seconds) = flags.seconds {
        arguments.extend(["--seconds".into(), seconds.to_string().into()]);
    }
    if flags.quick {
        arguments.push("--quick".into());
    }
    for (name, list) in [("--against", &flags.against), ("--only", &flags.only)] {
        if let Some(list) = list {
            arguments.extend([name.into(), list.into()]);
        }
    }
    if let Some(file) = &flags.markdown {
        arguments.extend(["--markdown".into(), file.into()]);
    }
    arguments
}
