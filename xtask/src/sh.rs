//! Runs other programs: says which, passes their output on, and does not wait for ever.
//!
//! A program that prints nothing for `SILENCE` is ended with its descendants, so a hang on a build
//! machine is an error with a name.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Any failure of a task, with a text for the user.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long a program may print nothing.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// How long a process that outlives the program may hold its output open.
const LINGER: Duration = Duration::from_secs(5);

/// The cargo that runs this program, without what that cargo says of this crate.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// The command as a user would type it, without the folder of the program.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            text.push_str(&format!("{}={} ", name.display(), quoted(value)));
        }
    }
    let program = std::path::Path::new(command.get_program());
    text.push_str(&program.file_name().unwrap_or(program.as_os_str()).to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&quoted(argument));
    }
    text
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '"', '\'']) {
        format!("{word:?}")
    } else {
        word.into()
    }
}

/// Runs a program with our output and no input. A status other than success is an error.
pub(crate) fn run(mut command: Command) -> Result<()> {
    println!("$ {}", shown(&command));
    let status = command.stdin(Stdio::null()).status().map_err(|error| failed(&command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(&command)).into()) }
}

/// What a program printed, when it succeeded.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(&command, &error))?;
    if !output.status.success() {
        return Err(format!("{}: {}", shown(&command), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn failed(command: &Command, error: &io::Error) -> String {
    format!("starting {} failed: {error}", shown(command))
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Standard output and standard error, in the order in which they were printed.
    pub(crate) text: String,
    /// `None` when it was ended for its silence.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs a program, prints its output while it comes, and keeps it.
pub(crate) fn run_and_keep(command: Command) -> Result<Ran> {
    println!("$ {}", shown(&command));
    keep(command, SILENCE, |line| println!("{line}"))
}

/// Runs a program and keeps its output.
pub(crate) fn run_silently(command: Command) -> Result<Ran> {
    keep(command, SILENCE, |_| ())
}

fn keep(mut command: Command, silence: Duration, show: impl Fn(&str)) -> Result<Ran> {
    let start = Instant::now();
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().map_err(|error| failed(&command, &error))?;
    // The command holds our copies of the pipe's end.
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
        println!("no output for {silence:?}: ending it");
        end(&mut child)?;
        None
    };
    Ok(Ran { text, status, took: start.elapsed() })
}

/// Ends a program and its descendants. They are listed before the first is killed: the children of
/// a dead process are nobody's.
fn end(child: &mut Child) -> io::Result<()> {
    let mut pids = vec![child.id()];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        pids.extend(children(pid));
        next += 1;
    }
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -9 \"$@\"", "kill"]).args(pids.iter().map(ToString::to_string));
    // It fails when one of them has ended meanwhile; the rest is killed all the same.
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
    use super::{keep, output, run, shown};
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// Is there a process, and is it no zombie?
    fn runs(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !(state.is_empty() || state.contains(") Z") || state.contains(") X"))
    }

    #[test]
    fn both_outputs_are_kept_in_order() {
        let ran =
            keep(sh("echo one; echo two >&2; echo three; exit 3"), Duration::from_secs(60), |_| ());
        let ran = ran.unwrap();
        assert_eq!(ran.text, "one\ntwo\nthree\n");
        assert_eq!(ran.status.and_then(|status| status.code()), Some(3));
        assert!(!ran.success());
    }

    #[test]
    fn a_silent_program_is_ended_with_its_children() {
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
    fn a_failure_is_an_error_with_the_command_in_it() {
        let error = run(sh("exit 4")).unwrap_err().to_string();
        assert!(error.starts_with("sh -c \"exit 4\""), "{error}");
        assert!(output(sh("exit 4")).is_err());
        assert_eq!(output(sh("echo x")).unwrap(), "x\n");
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "-p", "x y"]).env("RUSTFLAGS", "--cfg loom");
        assert_eq!(shown(&command), "RUSTFLAGS=\"--cfg loom\" cargo test -p \"x y\"");
    }
}
