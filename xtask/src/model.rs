//! `cargo xtask model`: the program `slot-model`.

use crate::{Result, program};
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode> {
    program::run("model", "slot-model", "slot-model", &[])
}
