//! The roster: the processes that the postmaster has started and not reaped, for its guardian.
//!
//! It lies in memory that the postmaster shares with its guardian, and with nobody else. Workers do
//! not have it, so none can name a stranger there.
//!
//! ```text
//!  take: stamp ─▶ fork: the kernel writes the pid before the child runs ─▶ release: pid = 0, reap
//! ```
//!
//! So at any moment at which the postmaster may be killed, each process that it has started is
//! listed, and each number that is listed is still that process's: it is not reaped. (Where the C
//! library forks, the postmaster writes the pid when the fork returns.) Once the postmaster is dead
//! the kernel may give an ended worker's number to a stranger. The stamp tells them apart: a
//! process of the cluster was created no earlier than its stamp, and no more than [`LATEST`] ticks
//! later. If a fork takes longer than that, because the postmaster is large or was stopped
//! meanwhile, the stamp is corrected afterwards.
//!
//! The postmaster alone writes. The guardian reads after the postmaster's death, so no order is
//! needed. Free places are a list in the places themselves: a start writes to no other memory.

use super::anon_map::{AnonMap, Sharing};
use super::process_stat::ProcessStat;
use bgw_core::Pid;
use nix::time::ClockId;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many ticks after its stamp a process may be created. A tick is 10 ms.
const LATEST: u32 = 10;

/// One cell of the mapping. The first is the header: in `pid` how many places were ever taken, in
/// `stamp` the first free one of those, or 0.
#[repr(C)]
struct Cell {
    /// 0: no process.
    pid: AtomicU32,
    /// Clock ticks since the system started, the low half. In a free place the next free one, or 0.
    stamp: AtomicU32,
}

/// A taken place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// A process that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) pid: Pid,
    pub(crate) stamp: u32,
}

impl Listed {
    /// True if a process with this number is the one that was listed, and not a later one.
    pub(crate) const fn is(self, process: &ProcessStat) -> bool {
        self.pid.get() == process.pid.get() && process.created.wrapping_sub(self.stamp) <= LATEST
    }
}

/// The mapping.
#[derive(Debug)]
pub(crate) struct Roster {
    map: AnonMap,
    places: u32,
    ticks_per_second: u64,
}

impl Roster {
    /// Room for `places` processes. Only places that were taken cost memory.
    pub(crate) fn new(places: u32) -> io::Result<Self> {
        let map = AnonMap::new((places as usize + 1) * size_of::<Cell>(), Sharing::Shared)?;
        Ok(Self { map, places, ticks_per_second: rustix::param::clock_ticks_per_second() })
    }

    fn cells(&self) -> &[Cell] {
        // SAFETY: mapped, zeroed and page-aligned, with room for one cell more than there are
        // places; it stays mapped while `self` lives. Cells are made of atomics, so shared access
        // is sound in both processes.
        unsafe {
            std::slice::from_raw_parts(self.map.start().cast().as_ptr(), self.places as usize + 1)
        }
    }

    fn cell(&self, Place(place): Place) -> Option<&Cell> {
        self.cells().get(place as usize)
    }

    /// The clock of stamps, now.
    fn ticks(&self) -> io::Result<u32> {
        let now = ClockId::CLOCK_BOOTTIME.now()?;
        let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
        Ok((seconds * self.ticks_per_second + nanos * self.ticks_per_second / 1_000_000_000) as u32)
    }

    /// A place for a process that is about to be started.
    pub(crate) fn take(&self) -> io::Result<Place> {
        let stamp = self.ticks()?;
        let [header, ..] = self.cells() else { return Err(full()) };
        let (free, taken) = (header.stamp.load(Relaxed), header.pid.load(Relaxed));
        let place = Place(if free == 0 { taken + 1 } else { free });
        let cell = self.cell(place).ok_or_else(full)?;
        if free == 0 {
            header.pid.store(place.0, Relaxed);
        } else {
            header.stamp.store(cell.stamp.load(Relaxed), Relaxed);
        }
        cell.stamp.store(stamp, Relaxed);
        Ok(place)
    }

    /// Lists a process. It may be listed already.
    pub(super) fn list(&self, place: Place, pid: Pid) {
        if let Some(cell) = self.cell(place) {
            cell.pid.store(pid.get(), Relaxed);
        }
    }

    /// In the postmaster, when a fork has returned: lists the new process, and corrects its stamp
    /// if the fork took long.
    pub(crate) fn confirm(&self, place: Place, pid: Pid) {
        self.list(place, pid);
        let Some(cell) = self.cell(place) else { return };
        let took = self.ticks().map(|now| now.wrapping_sub(cell.stamp.load(Relaxed)));
        if took.is_ok_and(|took| took <= LATEST) {
            return;
        }
        if let Ok(Some(process)) = ProcessStat::of(pid) {
            cell.stamp.store(process.created, Relaxed);
        }
    }

    /// Where the kernel is to write the pid of a process. It stays mapped while `self` lives.
    pub(super) fn pid_cell(&self, place: Place) -> *mut u32 {
        self.cell(place).map_or(std::ptr::null_mut(), |cell| cell.pid.as_ptr())
    }

    /// Gives a place back: its process has ended and is about to be reaped, or was never started.
    pub(crate) fn release(&self, place: Place) {
        let ([header, ..], Some(cell)) = (self.cells(), self.cell(place)) else { return };
        cell.pid.store(0, Relaxed);
        cell.stamp.store(header.stamp.load(Relaxed), Relaxed);
        header.stamp.store(place.0, Relaxed);
    }

    /// All processes that are listed.
    pub(crate) fn all(&self) -> Vec<Listed> {
        let [header, places @ ..] = self.cells() else { return Vec::new() };
        let taken = places.iter().take(header.pid.load(Relaxed) as usize);
        let listed = |cell: &Cell| {
            let pid = Pid::new(cell.pid.load(Relaxed))?;
            Some(Listed { pid, stamp: cell.stamp.load(Relaxed) })
        };
        taken.filter_map(listed).collect()
    }

    /// Children forked from now on do not have it.
    pub(crate) fn hide_from_later_children(&self) -> io::Result<()> {
        self.map.hide_from_later_children()
    }

    /// The next child has it: a guardian.
    pub(crate) fn show_to_next_child(&self) -> io::Result<()> {
        self.map.show_to_later_children()
    }
}

fn full() -> io::Error {
    // What a fork says when there are too many processes.
    io::Error::from_raw_os_error(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: u32) -> Pid {
        Pid::new(number).unwrap()
    }

    fn pids(roster: &Roster) -> Vec<u32> {
        roster.all().iter().map(|listed| listed.pid.get()).collect()
    }

    /// Breaks if a place is given out twice, lost when it is given back, or listed without a
    /// process.
    #[test]
    fn places_are_used_again_and_hold_one_process_each() {
        let roster = Roster::new(3).unwrap();
        let [a, b, c] = [1, 2, 3].map(|number| {
            let place = roster.take().unwrap();
            roster.list(place, pid(number));
            place
        });
        assert_eq!(pids(&roster), [1, 2, 3]);
        assert_eq!(roster.take().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        roster.release(b);
        roster.release(a);
        assert_eq!(pids(&roster), [3]);
        assert_eq!(roster.take().unwrap(), a);
        assert_eq!(pids(&roster), [3], "taken, but nothing was started");
        roster.list(a, pid(4));
        let again = roster.take().unwrap();
        assert_eq!(again, b);
        roster.list(again, pid(5));
        assert_eq!(pids(&roster), [4, 5, 3]);
        for place in [a, b, c] {
            roster.release(place);
        }
        assert!(roster.all().is_empty());
    }

    /// Breaks if the clock is not the one of `/proc/PID/stat`, or a stranger of the same number
    /// passes.
    #[test]
    fn a_process_is_told_from_an_earlier_and_a_later_one_of_its_number() {
        let roster = Roster::new(1).unwrap();
        let place = roster.take().unwrap();
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.unwrap();
        roster.list(place, pid(child.id()));
        let listed = roster.all()[0];
        let stat = ProcessStat::of(listed.pid).unwrap().unwrap();
        roster.cells()[1].stamp.fetch_sub(LATEST + 1, Relaxed);
        roster.confirm(place, listed.pid);
        let corrected = roster.all()[0];
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listed.is(&stat), "{listed:?} {stat:?}");
        assert!(corrected.is(&stat), "{corrected:?} {stat:?}");
        for created in [stat.created.wrapping_sub(LATEST + 1), stat.created + LATEST + 1] {
            assert!(!listed.is(&ProcessStat { created, ..stat }), "{created}");
        }
        assert!(!listed.is(&ProcessStat { pid: pid(1), ..stat }));
    }
}
