//! `cargo xtask deny`: cargo-deny with `deny.toml`: the licenses of all dependencies, crates that
//! are banned, where they come from, and, when the network has them, the advisories of RustSec.

use crate::workspace::Workspace;
use crate::{Result, watched};
use std::process::ExitCode;
use xshell::{Shell, cmd};

/// How to install it. A build without optimization takes a third of the time and runs in 2 s.
pub(crate) const INSTALL: &str = "cargo install --locked --debug cargo-deny@0.20.2";

/// What cargo-deny prints when it cannot get the advisories.
const UNREACHABLE: &str = "failed to fetch advisory database";

pub(crate) fn run() -> Result<ExitCode> {
    let shell = Workspace::load()?.shell;
    if !is_installed(&shell) {
        println!("deny: failed, cargo-deny is not installed; install it: {INSTALL}");
        return Ok(ExitCode::FAILURE);
    }
    let parts = ["licenses", "bans", "sources"];
    let checked =
        cmd!(shell, "cargo deny check --hide-inclusion-graph --allow duplicate {parts...}");
    let checked = watched::run(checked)?;
    // Apart from the rest, since it alone needs a network.
    let advisories = cmd!(shell, "cargo deny check --hide-inclusion-graph advisories");
    let advisories = watched::run(advisories)?;
    let unreachable = advisories.text.contains(UNREACHABLE);
    let (verdict, code) = conclude(checked.success(), advisories.success(), unreachable);
    println!("{verdict}");
    Ok(code)
}

fn conclude(checked: bool, advisories: bool, unreachable: bool) -> (&'static str, ExitCode) {
    match (checked, advisories, unreachable) {
        (true, true, _) => ("deny: ok, licenses, bans, sources, advisories", ExitCode::SUCCESS),
        (true, false, true) => (
            "deny: ok, licenses, bans, sources; advisories not checked, their database is out of reach",
            ExitCode::SUCCESS,
        ),
        (true, false, false) => ("deny: failed, advisories", ExitCode::FAILURE),
        (false, _, _) => ("deny: failed, licenses, bans or sources", ExitCode::FAILURE),
    }
}

/// Does cargo have the command?
pub(crate) fn is_installed(shell: &Shell) -> bool {
    cmd!(shell, "cargo deny --version").quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

#[cfg(test)]
mod tests {
    use super::conclude;
    use std::process::ExitCode;

    #[test]
    fn only_a_database_out_of_reach_is_forgiven() {
        assert_eq!(conclude(true, true, false).1, ExitCode::SUCCESS);
        assert_eq!(conclude(true, false, true).1, ExitCode::SUCCESS);
        assert_eq!(conclude(true, false, false).1, ExitCode::FAILURE);
        assert_eq!(conclude(false, false, true).1, ExitCode::FAILURE);
    }
}
