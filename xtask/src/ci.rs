//! `cargo xtask ci`: all that must hold before a change is taken in. Every step runs, even after
//! one has failed, so that one run shows all there is to do. Nothing is judged by its duration.

use crate::workspace::Workspace;
use crate::{Result, deny, flags, fuzz, model, package, test, tidy};
use std::process::ExitCode;
use std::time::Instant;
use xshell::{Cmd, cmd};

pub(crate) fn run(flags: &flags::Ci) -> Result<ExitCode> {
    let shell = Workspace::load()?.shell;
    let mut steps = Steps::default();
    if !flags.no_test {
        let all = flags::Test { no_loom: false, preemptions: 3, crates: Vec::new() };
        steps.run("test", || test::run(&all));
    }
    steps.run("format", || cargo(cmd!(shell, "cargo fmt --all --check")));
    steps.run("clippy", || {
        let lints = ["-D", "warnings"];
        cargo(cmd!(shell, "cargo clippy --workspace --all-targets --all-features -- {lints...}"))
    });
    steps.run("docs", || {
        let docs = cmd!(shell, "cargo doc --workspace --no-deps --all-features");
        cargo(docs.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run("tidy", tidy::run);
    steps.run("model", model::run);
    steps.run("fuzz", || fuzz::run(&flags::Fuzz { seconds: 2, seed: None, target: None }));
    steps.run("package", package::run);
    if deny::is_installed(&shell) {
        steps.run("deny", deny::run);
    } else {
        steps.skip("deny", &format!("cargo-deny is not installed; install it: {}", deny::INSTALL));
    }
    Ok(steps.conclude())
}

fn cargo(command: Cmd<'_>) -> Result<ExitCode> {
    command.run()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Steps {
    ran: usize,
    failed: Vec<&'static str>,
    skipped: Vec<String>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<ExitCode>) {
        println!("\n== ci: {name} ==");
        let start = Instant::now();
        let good = match step() {
            Ok(code) => code == ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                false
            }
        };
        self.ran += 1;
        if !good {
            self.failed.push(name);
        }
        let verdict = if good { "ok" } else { "FAILED" };
        println!("== ci: {name} {verdict}, {:.0} s ==", start.elapsed().as_secs_f64());
    }

    fn skip(&mut self, name: &str, why: &str) {
        println!("\n== ci: {name} skipped: {why} ==");
        self.skipped.push(format!("{name} ({why})"));
    }

    fn conclude(&self) -> ExitCode {
        for skipped in &self.skipped {
            println!("\nskipped: {skipped}");
        }
        if self.failed.is_empty() {
            println!("\nci: ok, {} steps, {} skipped", self.ran, self.skipped.len());
            ExitCode::SUCCESS
        } else {
            println!("\nci: failed: {} (of {} steps)", self.failed.join(", "), self.ran);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use std::process::ExitCode;

    #[test]
    fn one_failed_step_fails_all_and_the_rest_still_runs() {
        let mut steps = Steps::default();
        steps.run("a", || Ok(ExitCode::SUCCESS));
        assert_eq!(steps.conclude(), ExitCode::SUCCESS);
        steps.run("b", || Err("no".into()));
        steps.run("c", || Ok(ExitCode::FAILURE));
        steps.run("d", || Ok(ExitCode::SUCCESS));
        assert_eq!((steps.ran, &steps.failed[..]), (4, &["b", "c"][..]));
        assert_eq!(steps.conclude(), ExitCode::FAILURE);
    }
}
