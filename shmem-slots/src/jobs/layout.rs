//! Where the cells of a job queue lie, and what its header says.
//!
//! | part | cells | written by |
//! |---|---|---|
//! | header | 16 | the creator |
//! | sleepers | 8: a bit for each taker that sleeps | takers |
//! | of each class: head, tail | 8 each | submitters, takers |
//! | of each taker: how it sleeps | 8 each | the taker, and who wakes it |
//! | takers | 8 each | the layer above |
//! | submitters | 8 each | the layer above |
//! | shared cells | as requested | the layer above |
//! | the order of each class | a power of two of places, at least four for each cell | submitters, takers |
//! | jobs | 8 each: word, submitter, length and code, notes | its submitter, then its taker |
//! | rooms | as requested | the same |
//!
//! Each part begins on a cache line, and no two that different processes write share one.

#[cfg(not(loom))]
use crate::error::AttachError;
use crate::header;
use crate::primitive::AtomicU64;

const MAGIC: u64 = u64::from_be_bytes(*b"shm-jobs");
const VERSION: u64 = 2;
const HEADER: usize = 16;
const LINE: usize = 8;
const CLASS: usize = 2 * LINE;
/// Cells of a taker or a submitter, for the layer above.
pub(super) const PARTY_CELLS: usize = LINE;
/// Notes of a job, for the layer above.
pub(super) const NOTES: usize = 5;

/// The largest number of classes.
pub const MAX_CLASSES: u32 = 8;
/// The largest number of jobs of one class.
pub const MAX_JOBS: u32 = 1 << 16;
/// The largest number of bytes of one room: 64 KiB.
pub const MAX_ROOM: u32 = 1 << 16;
/// The largest number of takers.
pub const MAX_TAKERS: u32 = 512;
/// The largest number of submitters.
pub const MAX_SUBMITTERS: u32 = 4096;
/// The largest number of shared cells.
const MAX_SHARED: u32 = 1 << 16;

/// Settings of a new job queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsOptions {
    /// How many classes there are, each with an order of its own: 1 to [`MAX_CLASSES`].
    pub classes: u32,
    /// How many jobs of one class there can be at a time, from the submission until the outcome
    /// was collected: 1 to [`MAX_JOBS`].
    pub jobs: u32,
    /// Bytes for the input of a job, and then for its output: 8 to [`MAX_ROOM`], rounded up to
    /// whole cache lines.
    pub room: u32,
    /// How many takers there can be at a time: 1 to [`MAX_TAKERS`].
    pub takers: u32,
    /// How many submitters there can be at a time: 1 to [`MAX_SUBMITTERS`].
    pub submitters: u32,
    /// Cells for the layer above, which are not interpreted here: at most 65,536.
    pub shared_cells: u32,
    /// A number that stands for the meaning of the jobs: attach refuses any other.
    pub tag: u64,
}

impl JobsOptions {
    /// How many bytes such a queue takes, for a segment that is to hold it; `None` if a size is out
    /// of range.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        Layout::new(self).map(|layout| layout.total * 8)
    }
}

/// The sizes of a job queue, checked, and the first cell of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) options: JobsOptions,
    /// Cells of a room.
    pub(super) room: usize,
    /// Places of one order: a power of two.
    pub(super) places: usize,
    shared: usize,
    orders: usize,
    jobs: usize,
    rooms: usize,
    pub(super) total: usize,
}

/// A part of what each class has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfClass {
    Head,
    Tail,
}

impl Layout {
    /// `None`: out of range.
    pub(super) fn new(options: &JobsOptions) -> Option<Self> {
        let JobsOptions { classes, jobs, room, takers, submitters, shared_cells, .. } = *options;
        let fits = (1..=MAX_CLASSES).contains(&classes)
            && (1..=MAX_JOBS).contains(&jobs)
            && (8..=MAX_ROOM).contains(&room)
            && (1..=MAX_TAKERS).contains(&takers)
            && (1..=MAX_SUBMITTERS).contains(&submitters)
            && shared_cells <= MAX_SHARED;
        if !fits {
            return None;
        }
        // None of these overflows: the limits are above.
        let room = (room as usize).div_ceil(8).next_multiple_of(LINE);
        let places = (jobs as usize * 4).next_power_of_two();
        let all = (classes * jobs) as usize;
        let parties = HEADER + LINE + classes as usize * CLASS + takers as usize * LINE;
        let shared = parties + (takers + submitters) as usize * PARTY_CELLS;
        let orders = shared + (shared_cells as usize).next_multiple_of(LINE);
        let jobs = orders + (classes as usize * places).next_multiple_of(LINE);
        let rooms = jobs + all * LINE;
        let total = rooms + all * room;
        Some(Self { options: *options, room, places, shared, orders, jobs, rooms, total })
    }

    /// The first of the cells in which takers say that they sleep.
    pub(super) const fn sleepers(self) -> usize {
        HEADER
    }

    /// `class` is one.
    pub(super) const fn of_class(self, class: u32, what: OfClass) -> usize {
        let what = match what {
            OfClass::Head => 0,
            OfClass::Tail => LINE,
        };
        HEADER + LINE + class as usize * CLASS + what
    }

    /// The cell in which a taker says how it sleeps.
    pub(super) const fn sleep_of(self, taker: u32) -> usize {
        HEADER + LINE + self.options.classes as usize * CLASS + taker as usize * LINE
    }

    /// The first cell of a taker.
    pub(super) const fn taker(self, taker: u32) -> usize {
        self.shared - ((self.options.takers + self.options.submitters - taker) as usize) * LINE
    }

    /// The first cell of a submitter.
    pub(super) const fn submitter(self, submitter: u32) -> usize {
        self.taker(self.options.takers + submitter)
    }

    pub(super) const fn shared(self) -> usize {
        self.shared
    }

    /// The cell of a position in the order of `class`.
    pub(super) const fn place(self, class: u32, position: u64) -> usize {
        // A power of two, so the position counts modulo it.
        self.orders + class as usize * self.places + position as usize % self.places
    }

    /// The first cell of a job. `index` is below [`Layout::all_jobs`].
    pub(super) const fn job(self, index: u32) -> usize {
        self.jobs + index as usize * LINE
    }

    /// The first cell of its room.
    pub(super) const fn room_of(self, index: u32) -> usize {
        self.rooms + index as usize * self.room
    }

    /// The jobs of all classes.
    pub(super) const fn all_jobs(self) -> u32 {
        self.options.classes * self.options.jobs
    }

    const fn fields(self) -> [u64; 9] {
        let JobsOptions { classes, jobs, room, takers, submitters, shared_cells, tag } =
            self.options;
        let total = self.total as u64;
        let sizes = [classes, jobs, room, takers, submitters, shared_cells];
        let [classes, jobs, room, takers, submitters, shared] = sizes;
        [
            VERSION,
            tag,
            classes as u64,
            jobs as u64,
            room as u64,
            takers as u64,
            submitters as u64,
            shared as u64,
            total,
        ]
    }

    /// Turns zeroed cells that no other process has yet into a job queue.
    pub(super) fn write(&self, cells: &[AtomicU64]) {
        header::write(cells, MAGIC, self.fields());
    }

    /// The layout of a job queue that another process made.
    ///
    /// # Errors
    /// The first field that does not fit, by name.
    #[cfg(not(loom))]
    pub(super) fn check(cells: &[AtomicU64], tag: u64) -> Result<Self, AttachError> {
        let header = header::Found::new(cells, HEADER)?;
        header.expect(0, "magic of a job queue", MAGIC)?;
        header.expect(1, "layout version", VERSION)?;
        header.expect(2, "tag", tag)?;
        let number = |at, field, limit: u32| {
            // It fits: it is at most the limit.
            header.number(at, field, u64::from(limit)).map(|found| found as u32)
        };
        let options = JobsOptions {
            classes: number(3, "classes", MAX_CLASSES)?,
            jobs: number(4, "jobs of a class", MAX_JOBS)?,
            room: number(5, "bytes of a room", MAX_ROOM)?,
            takers: number(6, "takers", MAX_TAKERS)?,
            submitters: number(7, "submitters", MAX_SUBMITTERS)?,
            shared_cells: number(8, "shared cells", MAX_SHARED)?,
            tag,
        };
        let none = AttachError::Header { field: "jobs of a class", expected: 1, found: 0 };
        let layout = Self::new(&options).ok_or(none)?;
        header.expect(9, "total cells", layout.total as u64)?;
        header.expect_hash(layout.fields())?;
        if cells.len() < layout.total {
            return Err(header::too_short(cells, layout.total));
        }
        Ok(layout)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LEAST: JobsOptions = JobsOptions {
        classes: 1,
        jobs: 1,
        room: 8,
        takers: 1,
        submitters: 1,
        shared_cells: 0,
        tag: 0,
    };
    const MOST: JobsOptions = JobsOptions {
        classes: MAX_CLASSES,
        jobs: MAX_JOBS,
        room: MAX_ROOM,
        takers: MAX_TAKERS,
        submitters: MAX_SUBMITTERS,
        shared_cells: MAX_SHARED,
        tag: u64::MAX,
    };

    #[test]
    fn parts_do_not_overlap_and_begin_on_a_line() {
        let some = JobsOptions { classes: 3, jobs: 7, room: 100, takers: 5, ..LEAST };
        for options in [LEAST, some, MOST] {
            let layout = Layout::new(&options).unwrap();
            let last = options.classes - 1;
            let bounds = [
                layout.sleepers(),
                layout.of_class(0, OfClass::Head),
                layout.of_class(last, OfClass::Tail),
                layout.sleep_of(0),
                layout.sleep_of(options.takers - 1),
                layout.taker(0),
                layout.submitter(0),
                layout.submitter(options.submitters - 1),
                layout.shared,
                layout.orders,
                layout.job(0),
                layout.room_of(0),
                layout.room_of(layout.all_jobs()),
            ];
            assert!(bounds.is_sorted(), "{bounds:?}");
            assert!(bounds.iter().all(|start| start % LINE == 0), "{bounds:?}");
            assert_eq!(layout.sleep_of(options.takers), layout.taker(0));
            assert_eq!(layout.taker(options.takers), layout.submitter(0));
            assert_eq!(layout.submitter(options.submitters - 1) + LINE, layout.shared);
            assert!(layout.place(last, u64::MAX) < layout.jobs);
            assert_eq!(layout.job(layout.all_jobs()), layout.rooms);
            assert_eq!(layout.room_of(layout.all_jobs()), layout.total);
            assert!(layout.places.is_power_of_two());
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let wrong = [
            JobsOptions { classes: 0, ..LEAST },
            JobsOptions { classes: MAX_CLASSES + 1, ..LEAST },
            JobsOptions { jobs: 0, ..LEAST },
            JobsOptions { jobs: MAX_JOBS + 1, ..LEAST },
            JobsOptions { room: 7, ..LEAST },
            JobsOptions { room: MAX_ROOM + 1, ..LEAST },
            JobsOptions { takers: 0, ..LEAST },
            JobsOptions { takers: MAX_TAKERS + 1, ..LEAST },
            JobsOptions { submitters: 0, ..LEAST },
            JobsOptions { submitters: MAX_SUBMITTERS + 1, ..LEAST },
            JobsOptions { shared_cells: MAX_SHARED + 1, ..LEAST },
        ];
        assert!(wrong.iter().all(|options| options.bytes().is_none()));
    }
}
