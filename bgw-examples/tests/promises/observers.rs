//! The promise: a process of another user can neither write to the cluster nor make writable what
//! it gets hold of.
//!
//! Would catch: a control socket that lets everybody in who can reach it, a region whose descriptor
//! can be opened again for writing.

use crate::support::{Cluster, simple, started};
use bgw_backend::{Backend, ConnectOptions};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use process_test::{Test, fork_child, skip, tests};
use std::fs::Permissions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        another_user_is_refused_whatever_the_permissions => [D15],
        a_read_only_region_in_other_hands_cannot_be_made_writable => [D15],
    ]
}

fn become_nobody() {
    const NOBODY: u32 = 65534;
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    // Or the kernel keeps this process from its own `/proc/self/fd`.
    nix::sys::prctl::set_dumpable(true).unwrap();
}

fn needs_root() {
    if !nix::unistd::geteuid().is_root() {
        skip("becoming another user takes root");
    }
}

/// Would fail if the permissions of the socket were all that keeps another user out.
fn another_user_is_refused_whatever_the_permissions() {
    needs_root();
    let cluster = Cluster::new();
    let socket = cluster.folder.join("control.sock");
    let everybody = |mode| Permissions::from_mode(mode);
    for folder in [std::env::temp_dir(), cluster.folder.clone()] {
        std::fs::set_permissions(folder, everybody(0o755)).unwrap();
    }
    std::fs::set_permissions(&socket, everybody(0o777)).unwrap();
    for read_only in [false, true] {
        let socket = socket.clone();
        let mut other = fork_child(move || {
            become_nobody();
            let options = ConnectOptions { read_only, ..ConnectOptions::default() };
            let refused = Backend::connect_with(&socket, options).unwrap_err();
            let mut text = refused.to_string();
            let mut error: &dyn std::error::Error = &refused;
            while let Some(source) = error.source() {
                text.push_str(&format!(": {source}"));
                error = source;
            }
            assert!(text.contains("refused") || text.contains("ermission"), "{text}");
        });
        assert_eq!(other.wait().code(), Some(0), "read-only: {read_only}");
    }
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// The descriptors of the region that this process holds.
fn regions() -> Vec<i32> {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
    let regions = all.filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("memfd"))
    });
    regions.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// A program attaches read-only and then becomes another user, as one that hands the descriptor on.
/// Would fail if the file could be opened again for writing, or its mode changed.
fn a_read_only_region_in_other_hands_cannot_be_made_writable() {
    needs_root();
    let cluster = Cluster::new();
    let folder = cluster.folder.clone();
    let mut observer = fork_child(move || {
        let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
        let inherited = regions();
        let backend = Backend::connect_with(&folder, options).unwrap();
        let mut own = regions();
        own.retain(|number| !inherited.contains(number));
        assert!(!own.is_empty(), "the region is among the descriptors");
        let bare = memfd_create("bare", MFdFlags::MFD_CLOEXEC).unwrap();
        become_nobody();
        let opened = |number: i32| {
            open(&*format!("/proc/self/fd/{number}"), OFlag::O_RDWR, Mode::empty()).map(drop)
        };
        assert_eq!(opened(bare.as_raw_fd()), Ok(()), "the kernel lets everybody open a bare memfd");
        for number in own {
            assert_eq!(opened(number), Err(Errno::EACCES));
            let path = format!("/proc/self/fd/{number}");
            assert!(std::fs::set_permissions(path, Permissions::from_mode(0o777)).is_err());
        }
        assert!(backend.workers().is_empty(), "and it still reads");
    });
    assert_eq!(observer.wait().code(), Some(0));
    cluster.end();
}
