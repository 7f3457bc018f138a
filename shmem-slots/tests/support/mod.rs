//! What the tests of the slots share: small arrays over each backing, and looks into `/proc`.
#![allow(dead_code, reason = "each test program uses its part")]

use bytemuck::Pod;
use nix::unistd::Pid;
use process_test::wait_until;
use shmem_slots::{Heap, Key, Memory, Options, Region, Slots};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The tests of a program: each function takes a maker of arrays and becomes three tests, one for
/// each backing.
#[allow(unused_macros, reason = "each test program uses its part")]
macro_rules! suite {
    ($($name:ident)*) => {
        mod heap { $(pub(super) fn $name() { super::$name(super::support::on_heap); })* }
        mod memfd { $(pub(super) fn $name() { super::$name(super::support::in_memfd); })* }
        mod file { $(pub(super) fn $name() { super::$name(super::support::in_file); })* }

        fn main() -> std::process::ExitCode {
            process_test::main(vec![
                $(process_test::Test::new(concat!("heap::", stringify!($name)), heap::$name).clean_tmp(),)*
                $(process_test::Test::new(concat!("memfd::", stringify!($name)), memfd::$name).clean_tmp(),)*
                $(process_test::Test::new(concat!("file::", stringify!($name)), file::$name).clean_tmp(),)*
            ])
        }
    };
}

/// A request long enough to have a tail (more than 512 bytes), and a report of four words.
pub(crate) type Request = [u64; 96];
pub(crate) type Report = [u64; 4];
pub(crate) type Array<M = Region> = Slots<Request, Report, M>;

/// How long a condition may take before a test gives up. Far more than it needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The tag of all arrays here.
pub(crate) const TAG: u64 = 7;
/// No process: larger than any pid that the kernel gives out here, and small enough for a word.
pub(crate) const NOBODY: u32 = shmem_slots::MAX_PID;

pub(crate) fn options(capacity: u32) -> Options {
    Options {
        capacity,
        tag: TAG,
        shared_cells: 4,
        annex_cells: 2,
        spare_sets: 1,
        first_generation: 0,
    }
}

pub(crate) fn on_heap(options: &Options) -> Array<Heap> {
    Slots::heap(options).unwrap()
}

pub(crate) fn in_memfd(options: &Options) -> Array {
    Slots::create(options).unwrap()
}

/// In a file of the test's own folder; its name is gone at once.
pub(crate) fn in_file(options: &Options) -> Array {
    let path = std::env::temp_dir().join("region");
    let slots = Slots::create_file(&path, options).unwrap();
    std::fs::remove_file(path).unwrap();
    slots
}

/// A shared cell, to store into: a bell of the tests.
pub(crate) fn bell<T: Pod, R: Pod, M: Memory>(slots: &Slots<T, R, M>, number: u32) -> &AtomicU64 {
    slots.writable_cells().unwrap().shared_cell(number).unwrap()
}

/// A request whose words all name its owner.
pub(crate) fn request(value: u64) -> Request {
    [value; 96]
}

/// Publishes a slot that holds `request(value)`.
pub(crate) fn published<M: Memory>(slots: &Array<M>, value: u64) -> Key {
    let mut claim = slots.claim(std::process::id()).unwrap();
    claim.write(&request(value)).unwrap();
    claim.publish(0).unwrap()
}

/// Publishes a slot as [`published`] does, and keeps it.
pub(crate) fn kept<M: Memory>(slots: &Array<M>, value: u64) -> Key {
    let mut claim = slots.claim(std::process::id()).unwrap();
    claim.write(&request(value)).unwrap();
    claim.publish_kept(0).unwrap()
}

/// Claims every slot that can be claimed, gives all back, and returns how many there were.
pub(crate) fn free_slots<M: Memory>(slots: &Array<M>) -> u32 {
    let mut claims = Vec::new();
    while let Ok(claim) = slots.claim(std::process::id()) {
        claims.push(claim);
    }
    claims.len() as u32
}

/// The slots that the next drain reports.
pub(crate) fn drained<M: Memory>(slots: &Array<M>) -> Vec<u32> {
    let mut changed = Vec::new();
    slots.drain_changes(|index, _| changed.push(index));
    changed
}

/// Waits until the process sleeps or is stopped, as its state letter in `/proc` says.
pub(crate) fn wait_for_state(pid: Pid, state: char) {
    let what = format!("process {pid} has state {state}");
    wait_until(&what, LIMIT, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))
    });
}
