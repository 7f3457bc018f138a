//! Looks for what a cluster might leave behind: processes, and its shared memory.

use std::fs;
use std::os::unix::fs::MetadataExt;

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

/// The inode of the region that this process maps. Other clusters on the machine have other inodes.
pub(crate) fn own_region() -> Option<u64> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find(|line| line.contains("shmem-slots")).and_then(inode)
}

/// A line is `from-to permissions offset device inode name`.
fn inode(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// Mappings and descriptors of a region, in every process that we may inspect. The region has no
/// name in a file system: the kernel frees it with its last mapping and descriptor.
pub(crate) fn shared_memory(region: u64) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let maps = fs::read_to_string(process.path().join("maps")).unwrap_or_default();
        let ours = |line: &&str| line.contains("shmem-slots") && inode(line) == Some(region);
        found.extend(maps.lines().filter(ours).map(|line| format!("{pid}: {line}")));
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let path = descriptor.path();
            let target = fs::read_link(&path).unwrap_or_default();
            let same = || fs::metadata(&path).is_ok_and(|file| file.ino() == region);
            if target.to_string_lossy().contains("shmem-slots") && same() {
                found.push(format!("{pid}: {} -> {}", path.display(), target.display()));
            }
        }
    }
    found
}
