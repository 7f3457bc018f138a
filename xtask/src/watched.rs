//! Runs a program under a watchdog and keeps what it prints.
//!
//! A program that prints nothing for ten minutes is killed with its descendants, so a hang on a
//! build machine is an error with a name. xshell runs everything that needs no watchdog.

use crate::Result;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use xshell::Cmd;

/// How long a program may print nothing.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// How long a process that outlives the program may hold its output open.
const LINGER: Duration = Duration::from_secs(5);

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Standard output and standard error, in the order in which they were printed.
    pub(crate) text: String,
    /// `None` if the watchdog killed it.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs a command and keeps its output; prints both the command and the output as it comes.
pub(crate) fn run(command: Cmd<'_>) -> Result<Ran> {
    println!("$ {command}");
    keep(command.into(), SILENCE, |line| println!("{line}"))
}

/// Runs a command and keeps its output; prints nothing.
pub(crate) fn run_quietly(command: impl Into<Command>) -> Result<Ran> {
    keep(command.into(), SILENCE, |_| ())
}

fn keep(mut command: Command, silence: Duration, show: impl Fn(&str)) -> Result<Ran> {
    let start = Instant::now();
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let spawned = command.spawn();
    let mut child = spawned
        .map_err(|error| format!("starting {} failed: {error}", command.get_program().display()))?;
    // It holds our copies of the pipe's writing end; while they are open the reader never ends.
    drop(command);

    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(io::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    let mut text = String::new();
    let mut last = Instant::now();
    let ended = loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                show(&line);
                text.push_str(&line);
                text.push('\n');
                last = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) if last.elapsed() >= silence => break false,
            Err(RecvTimeoutError::Timeout) => {
                if last.elapsed() >= LINGER && child.try_wait()?.is_some() {
                    break true;
                }
            }
        }
    };
    let status = if ended {
        Some(child.wait()?)
    } else {
        println!("no output for {silence:?}; killing the program and its descendants");
        kill_tree(&mut child)?;
        None
    };
    Ok(Ran { text, status, took: start.elapsed() })
}

/// Kills a program and its descendants. Lists them all before it kills the first, since the
/// children of a dead process get another parent.
fn kill_tree(child: &mut Child) -> io::Result<()> {
    let mut pids = vec![child.id()];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        pids.extend(children(pid));
        next += 1;
    }
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -9 \"$@\"", "kill"]).args(pids.iter().map(ToString::to_string));
    // It reports a failure if one of them has ended meanwhile, and still kills the others.
    let _ = kill.stderr(Stdio::null()).status()?;
    child.wait().map(drop)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{keep, run_quietly};
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// Is there such a process, other than a zombie?
    fn runs(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !(state.is_empty() || state.contains(") Z") || state.contains(") X"))
    }

    #[test]
    fn both_outputs_are_kept_in_order() {
        let ran = run_quietly(sh("echo one; echo two >&2; echo three; exit 3")).unwrap();
        assert_eq!(ran.text, "one\ntwo\nthree\n");
        assert_eq!(ran.status.and_then(|status| status.code()), Some(3));
        assert!(!ran.success());
    }

    #[test]
    fn a_silent_program_is_killed_with_its_children() {
        let script = "echo $$; sleep 1000 & echo $!; wait";
        let ran = keep(sh(script), Duration::from_millis(10), |_| ()).unwrap();
        assert!(ran.status.is_none());
        let start = Instant::now();
        for pid in ran.text.lines() {
            // SIGKILL was sent; the end comes a moment later.
            while runs(pid) {
                assert!(start.elapsed() < Duration::from_secs(30), "{pid} still runs");
                std::thread::yield_now();
            }
        }
        assert_eq!(ran.text.lines().count(), 2);
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run_quietly(Command::new("/nonexistent/program")).unwrap_err().to_string();
        assert!(error.starts_with("starting /nonexistent/program failed: "), "{error}");
    }
}
