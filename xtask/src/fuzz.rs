//! `cargo xtask fuzz`: the program `fuzz`, built with debug assertions and overflow checks.

use crate::{Result, flags, program};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Fuzz) -> Result<ExitCode> {
    let mut arguments: Vec<OsString> = vec!["--seconds".into(), flags.seconds.to_string().into()];
    if let Some(seed) = flags.seed {
        arguments.extend(["--seed".into(), seed.to_string().into()]);
    }
    if let Some(target) = &flags.target {
        arguments.extend(["--target".into(), target.into()]);
    }
    program::run_with_checks("fuzz", "fuzz", "fuzz", &arguments)
}
