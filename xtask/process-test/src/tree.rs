//! Who descends from whom, read from `/proc/PID/stat`.
//!
//! A list is a snapshot: processes come and go while it is read. Callers that must reach an empty
//! list read again until it is empty.

use nix::unistd::Pid;
use std::fs;

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) state: char,
    pub(crate) name: String,
}

impl Process {
    /// Has ended and only waits to be reaped.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn parse(line: &str) -> Option<Self> {
        // The name stands in parentheses and may hold any byte, parentheses too.
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            name: name.to_owned(),
        })
    }

    pub(crate) fn read(pid: i32) -> Option<Self> {
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// The command line, or the name in brackets when there is none (a zombie has none).
    pub(crate) fn command(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words: Vec<_> =
            bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return format!("[{}]", self.name);
        }
        String::from_utf8_lossy(&words.join(&b' ')).into_owned()
    }

    /// Several lines on what the process does now, as far as the kernel lets us read it.
    pub(crate) fn dump(&self) -> String {
        let mut text = format!(
            "  pid {} (parent {}) state {} {}: {}\n",
            self.pid,
            self.parent,
            self.state,
            self.name,
            self.command()
        );
        for file in ["wchan", "syscall", "stack"] {
            let Ok(content) = fs::read_to_string(format!("/proc/{}/{file}", self.pid)) else {
                continue;
            };
            for line in content.lines().filter(|line| !line.is_empty()) {
                text.push_str(&format!("    {file}: {line}\n"));
            }
        }
        text
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// Children of `root`, their children, and so on, zombies included; parents before children.
pub(crate) fn below(root: i32) -> Vec<Process> {
    select_below(root, all())
}

fn select_below(root: i32, mut rest: Vec<Process>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let (children, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|process| process.parent == parent);
        rest = others;
        parents.extend(children.iter().map(|child| child.pid));
        found.extend(children);
    }
    found
}

/// Is there a process `pid` that runs, sleeps or is stopped? A zombie is not alive.
#[must_use]
pub fn alive(pid: Pid) -> bool {
    Process::read(pid.as_raw()).is_some_and(|process| !process.ended())
}

/// The children of `pid` that have ended and were not reaped.
#[must_use]
pub fn zombies_of(pid: Pid) -> Vec<Pid> {
    all()
        .into_iter()
        .filter(|process| process.parent == pid.as_raw() && process.ended())
        .map(|process| Pid::from_raw(process.pid))
        .collect()
}

/// All that descend from `pid` and have not ended.
#[must_use]
pub fn descendants(pid: Pid) -> Vec<Pid> {
    below(pid.as_raw())
        .into_iter()
        .filter(|process| !process.ended())
        .map(|process| Pid::from_raw(process.pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Process, select_below};

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, state: 'S', name: "x".into() }
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let read = Process::parse("7 (a) R (b) Z 3 7 7 0").unwrap();
        assert_eq!(read, Process { pid: 7, parent: 3, state: 'Z', name: "a) R (b".into() });
        assert!(read.ended());
    }

    #[test]
    fn a_broken_line_is_no_process() {
        for line in ["", "7", "7 (x", "7 (x) ", "x (x) S 1", "7 (x) S y"] {
            assert_eq!(Process::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_strangers_are_not() {
        let all = vec![process(9, 8), process(2, 1), process(8, 2), process(5, 4), process(4, 1)];
        let mut found: Vec<i32> = select_below(2, all).iter().map(|p| p.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [8, 9]);
    }
}
