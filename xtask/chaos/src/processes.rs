//! Processes, as `/proc` shows them.

use std::fs;

/// A process: its number and when it began, which together name it for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// In clock ticks since the machine began; the low 32 bits.
    pub(crate) began: u32,
}

/// One line of `/proc/PID/stat`.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) began: u32,
}

/// The process `pid`, if there is one.
pub(crate) fn read(pid: u32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        began: fields.get(19)?.parse::<u64>().ok()? as u32,
    })
}

/// The process `pid` by its identity; all zeros when it is gone.
pub(crate) fn identity(pid: u32) -> Identity {
    read(pid)
        .map_or(Identity { pid: 0, began: 0 }, |process| Identity { pid, began: process.began })
}

/// True when that very process runs, sleeps or is stopped.
pub(crate) fn is_alive(identity: Identity) -> bool {
    let process = if identity.pid == 0 { None } else { read(identity.pid) };
    process.is_some_and(|process| {
        process.began == identity.began && !matches!(process.state, 'Z' | 'X')
    })
}

/// The children of `pid`, zombies included.
pub(crate) fn children(pid: u32) -> Vec<Process> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let pids = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    pids.filter_map(|pid| read(pid.parse().ok()?)).collect()
}

/// Kills and reaps all children of the calling process; says how many there were that had not
/// ended.
#[cfg(feature = "fault")]
pub(crate) fn end_all_children() -> usize {
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;
    use nix::unistd::Pid;
    let mut alive = 0;
    loop {
        let all = children(std::process::id());
        if all.is_empty() {
            return alive;
        }
        for child in all {
            alive += usize::from(child.state != 'Z');
            let pid = Pid::from_raw(child.pid as i32);
            // It may have ended meanwhile; then there is nothing to kill.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// What process `pid` calls itself.
pub(crate) fn title(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// How many descriptors process `pid` has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The processes that process `pid` has a pidfd of.
#[cfg(feature = "fault")]
pub(crate) fn watched(pid: u32) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let of =
        |text: String| text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    texts.filter_map(of).collect()
}

/// Anonymous memory of process `pid`, in KiB.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What process `pid` and its threads wait in, for a report of a hang.
pub(crate) fn describe(pid: u32) -> String {
    let Some(process) = read(pid) else { return format!("  {pid}: gone\n") };
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command = file("cmdline").replace('\0', " ");
    let (wchan, syscall) = (file("wchan"), file("syscall"));
    format!(
        "  {pid} (parent {}) {} {} [{}]: {wchan}, {}\n",
        process.parent,
        process.state,
        process.name,
        command.trim(),
        syscall.trim()
    )
}
