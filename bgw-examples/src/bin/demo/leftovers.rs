//! The proof that nothing is left: no process of the family, no shared memory of it.

use std::fs;

/// All living descendants of this process, zombies included, as `pid state command`.
pub(crate) fn processes() -> Vec<String> {
    let mut found = Vec::new();
    let mut look_at = vec![std::process::id()];
    while let Some(pid) = look_at.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace() {
                let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                found.push(stat.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" "));
                look_at.extend(child.parse::<u32>());
            }
        }
    }
    found
}

/// Mappings of worker slots, in any process that we may look into, as `pid: line of its maps`. The
/// region has no name in any file system: when nobody maps it and nobody holds its descriptor, the
/// kernel has freed it.
pub(crate) fn shared_memory(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let maps = fs::read_to_string(process.path().join("maps")).unwrap_or_default();
        found.extend(
            maps.lines().filter(|line| line.contains(name)).map(|line| format!("{pid}: {line}")),
        );
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.to_string_lossy().contains(name) {
                found.push(format!(
                    "{pid}: {} -> {}",
                    descriptor.path().display(),
                    target.display()
                ));
            }
        }
    }
    found
}
