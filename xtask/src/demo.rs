//! `cargo xtask demo`: the program `demo` of bgw-examples.

use crate::{Result, flags, program};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Demo) -> Result<ExitCode> {
    program::run("demo", "bgw-examples", "demo", &arguments(flags))
}

fn arguments(flags: &flags::Demo) -> Vec<OsString> {
    let mut arguments = Vec::new();
    if let Some(seconds) = flags.seconds {
        arguments.extend(["--seconds".into(), seconds.to_string().into()]);
    }
    if flags.keep {
        arguments.push("--keep".into());
    }
    if let Some(database) = &flags.database {
        arguments.extend(["--database".into(), database.into()]);
    }
    arguments
}
