//! What a process has that a worker must leave as it was, or the process ends with it: nobody else
//! can take it back.

use super::process_memory;
use bgw_core::Pid;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::{fs, io};

/// The device and the inode of an open file.
type File = (u64, u64);

/// What there is of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) threads: u64,
    pub(crate) children: bool,
    /// Those that waits keep are not counted.
    pub(crate) descriptors: u64,
    /// What descriptors 0 to 2 are open on.
    pub(crate) streams: [Option<File>; 3],
    /// Real, effective and saved, of the user and of the group.
    pub(crate) ids: [u32; 6],
    /// "No new privileges", and the mode of seccomp.
    pub(crate) restrictions: [i32; 2],
}

impl Footprint {
    /// That of this process. `kept` descriptors are not counted.
    pub(crate) fn read(kept: usize) -> io::Result<Self> {
        Ok(Self {
            // The kernel counts threads as links of this folder.
            threads: fs::metadata("/proc/self/task")?.nlink().saturating_sub(2),
            children: has_children()?,
            descriptors: descriptors()?.saturating_sub(kept as u64),
            streams: streams(),
            ids: ids()?,
            restrictions: restrictions(),
        })
    }

    /// In which way this is not what it `was`, in words.
    pub(crate) fn difference(&self, was: &Self) -> Option<String> {
        let number = |what: &str, now: u64, was: u64| {
            (now != was).then(|| format!("it has {now} {what}, and had {was}"))
        };
        let changed = |what: &str, same: bool| (!same).then(|| what.to_owned());
        number("threads", self.threads, was.threads)
            .or_else(|| changed("it has left children", self.children == was.children))
            .or_else(|| number("descriptors", self.descriptors, was.descriptors))
            .or_else(|| changed("its descriptors 0 to 2 are others", self.streams == was.streams))
            .or_else(|| changed("it has changed its user or its group", self.ids == was.ids))
            .or_else(|| changed("it has restricted itself", self.restrictions == was.restrictions))
    }
}

/// True if the process has a child, or one that has ended and is not reaped.
fn has_children() -> io::Result<bool> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: all-zero bytes are a valid `siginfo_t`: plain integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for writing during the call.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ECHILD) { Ok(false) } else { Err(error) }
}

/// How many descriptors are open.
fn descriptors() -> io::Result<u64> {
    // Since Linux 6.2 the size of the folder is their number.
    match fs::metadata("/proc/self/fd")?.size() {
        // The folder's own is one of them.
        0 => Ok((fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1)),
        number => Ok(number),
    }
}

/// None: it is closed.
fn streams() -> [Option<File>; 3] {
    fn file(stream: impl AsFd) -> Option<File> {
        let stat = rustix::fs::fstat(stream).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }
    [file(io::stdin()), file(io::stdout()), file(io::stderr())]
}

fn ids() -> io::Result<[u32; 6]> {
    let (user, group) = (nix::unistd::getresuid()?, nix::unistd::getresgid()?);
    let users = [user.real, user.effective, user.saved].map(nix::unistd::Uid::as_raw);
    let groups = [group.real, group.effective, group.saved].map(nix::unistd::Gid::as_raw);
    let [a, b, c] = users;
    let [d, e, f] = groups;
    Ok([a, b, c, d, e, f])
}

fn restrictions() -> [i32; 2] {
    // SAFETY: both calls only ask; neither takes a pointer.
    let ask = |what: libc::c_int| unsafe { libc::prctl(what, 0, 0, 0, 0) };
    [ask(libc::PR_GET_NO_NEW_PRIVS), ask(libc::PR_GET_SECCOMP)]
}

/// The bytes of this process's memory that no other process shares.
pub(crate) fn memory() -> Option<u64> {
    process_memory::anonymous_bytes(Pid::this())
}

#[cfg(test)]
mod tests {
    use super::{Footprint, descriptors};

    const WAS: Footprint = Footprint {
        threads: 1,
        children: false,
        descriptors: 7,
        streams: [Some((1, 2)); 3],
        ids: [0; 6],
        restrictions: [0; 2],
    };

    #[test]
    fn each_difference_is_named() {
        assert_eq!(WAS.difference(&WAS), None);
        let streams = [Some((1, 2)), None, Some((1, 2))];
        for (now, words) in [
            (Footprint { streams, ..WAS }, "its descriptors 0 to 2 are others"),
            (Footprint { threads: 2, ..WAS }, "it has 2 threads, and had 1"),
            (Footprint { children: true, ..WAS }, "it has left children"),
            (Footprint { descriptors: 8, ..WAS }, "it has 8 descriptors, and had 7"),
            (Footprint { descriptors: 6, ..WAS }, "it has 6 descriptors, and had 7"),
            (Footprint { ids: [0, 0, 0, 0, 0, 1], ..WAS }, "it has changed its user or its group"),
            (Footprint { restrictions: [1, 0], ..WAS }, "it has restricted itself"),
        ] {
            assert_eq!(now.difference(&WAS).as_deref(), Some(words));
        }
    }

    /// Breaks if the kernel's own folders read otherwise.
    #[test]
    fn a_descriptor_more_is_counted() {
        // Other tests of this program open and close some meanwhile.
        let files: Vec<_> = (0..300).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(descriptors().unwrap() >= files.len() as u64);
        assert!(Footprint::read(0).unwrap().threads >= 1);
    }
}
