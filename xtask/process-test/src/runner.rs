//! The test binary as cargo started it: command line, report, and one guard process a test.
//!
//! The runner has several threads and never forks by itself; guards are executed by
//! `std::process`. Each test has a folder that the runner makes and removes:
//! `tmp/` (the test's `TMPDIR`), `output` (what it printed), `said` (by the body), `verdict` (by
//! the guard).

use crate::guard;
use crate::registry::Test;
use crate::verdict::Outcome;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, PoisonError, RwLock};

/// First argument of a guard; its name and its folder follow.
const GUARD: &str = "--process-test-guard";
/// How much of a failed test's output is shown, from the end.
const SHOWN: usize = 64 * 1024;

/// Runs the tests that the command line selects and prints a report as libtest does.
///
/// Two tests run at a time unless `--test-threads` says otherwise. The last line of the report is
/// `test result: ok. N passed; N failed; N ignored; …`; skipped tests count as ignored and stand in
/// the report as `test NAME ... ignored (REASON)`. A test that [proves](Test::proves) something is
/// listed as `[B05 B10] NAME`, so the filter `B05` runs every test that proves B05.
///
/// To be called first thing in `main`, before a thread is started.
#[must_use]
pub fn main(tests: Vec<Test>) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [first, name, folder] = arguments.as_slice()
        && first == OsStr::new(GUARD)
    {
        return match tests.iter().find(|test| name == OsStr::new(test.name)) {
            Some(test) => guard::run(test, Path::new(folder)),
            None => ExitCode::FAILURE,
        };
    }

    let mut names = HashSet::new();
    if let Some(twice) = tests.iter().find(|test| !names.insert(test.name)) {
        eprintln!("two tests are named {}; rename one", twice.name);
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let capture = !arguments.nocapture;
    let turn = Arc::new(RwLock::new(()));
    let trials = tests
        .into_iter()
        .map(|test| {
            let turn = Arc::clone(&turn);
            let proves = test.proves.join(" ");
            Trial::ignorable_test(test.name, move || trial(&test, &turn, capture)).with_kind(proves)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(test: &Test, turn: &RwLock<()>, capture: bool) -> Result<Completion, Failed> {
    // The lock protects no data, so a poisoned one is as good.
    let outcome = if test.alone {
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        run(test, capture)
    } else {
        let _turn = turn.read().unwrap_or_else(PoisonError::into_inner);
        run(test, capture)
    };
    match outcome {
        Ok(Outcome::Passed) => Ok(Completion::Completed),
        Ok(Outcome::Skipped(why)) => Ok(Completion::ignored_with(why)),
        Ok(Outcome::Failed(why)) => Err(why.into()),
        Err(error) => Err(format!("running the guard of the test failed: {error}").into()),
    }
}

fn run(test: &Test, capture: bool) -> io::Result<Outcome> {
    let folder = Folder::new()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(std::env::current_exe()?)
        .args([GUARD, test.name])
        .arg(&folder.0)
        .env("TMPDIR", folder.tmp())
        .stdin(Stdio::piped())
        // Not hit by the terminal's SIGINT: it must outlive the runner and clean up.
        .process_group(0);
    let output = folder.0.join("output");
    if capture {
        let file = OpenOptions::new().create_new(true).append(true).open(&output)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    let mut guard = command.spawn()?;
    // Held open until the guard has ended: its end tells the guard that the runner is gone.
    let alive = guard.stdin.take();
    let status = guard.wait()?;
    drop(alive);

    let mut outcome = Outcome::load(&folder.0)
        .unwrap_or_else(|| Outcome::Failed(format!("the guard left no verdict, {status}")));
    if test.clean_tmp && outcome == Outcome::Passed {
        let left = folder.left_files()?;
        if !left.is_empty() {
            outcome = Outcome::Failed(format!("left in TMPDIR: {}", left.join(" ")));
        }
    }
    if let Outcome::Failed(why) = &mut outcome {
        let printed = fs::read(&output).unwrap_or_default();
        if !printed.is_empty() {
            let tail = printed.split_at(printed.len().saturating_sub(SHOWN)).1;
            why.push_str(&format!("\n-- output --\n{}", String::from_utf8_lossy(tail)));
        }
    }
    Ok(outcome)
}

/// The folder of one test, removed with all that is in it. The path is short, since a Unix socket
/// in it has 108 bytes.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let base = std::env::temp_dir();
        for number in 0.. {
            let path = base.join(format!("pt-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self(path);
                    fs::create_dir(folder.tmp())?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    fn left_files(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.tmp())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("removing {} failed: {error}", self.0.display());
        }
    }
}
