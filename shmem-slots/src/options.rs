//! What a new region is like, and the sizes that follow from it. Pure.

/// The largest capacity of an array.
pub const MAX_CAPACITY: u32 = 1 << 20;

/// Settings of a new array of slots.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many slots: 1 to [`MAX_CAPACITY`].
    pub capacity: u32,
    /// A number that stands for the layout of request and report: attach refuses any other.
    pub tag: u64,
    /// How many shared cells the layer above has beside the slots.
    pub shared_cells: u32,
    /// How many cells an annex has. Each slot has four of them: one for each of its report buffers,
    /// and one of its tenant's own. They take memory only where they are used.
    pub annex_cells: u32,
    /// How many sets of slot cells there are beside those of the slots, each with an own annex.
    /// They are numbered as slots behind the last one, and the layer above says whose they are.
    pub spare_sets: u32,
    /// The generation that slots begin with. 0, except in tests of retirement.
    pub first_generation: u64,
}

/// Sizes that decide the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) capacity: u32,
    pub(crate) payload_cells: usize,
    pub(crate) report_cells: usize,
    pub(crate) shared_cells: u32,
    pub(crate) annex_cells: u32,
    pub(crate) spare_sets: u32,
}

/// Cells of a payload that lie in its head.
const HEAD_CELLS: usize = 64;

impl Shape {
    /// The shape of an array of requests `T` and reports `R`. The sizes of both are multiples of 8
    /// bytes; anything else does not compile.
    pub(crate) const fn of<T, R>(options: &Options) -> Self {
        const {
            assert!(size_of::<T>() % 8 == 0, "the size of a payload must be a multiple of 8 bytes");
            assert!(size_of::<R>() % 8 == 0, "the size of a report must be a multiple of 8 bytes");
        }
        let &Options { capacity, shared_cells, annex_cells, spare_sets, .. } = options;
        Self {
            capacity,
            payload_cells: size_of::<T>() / 8,
            report_cells: size_of::<R>() / 8,
            shared_cells,
            annex_cells,
            spare_sets,
        }
    }

    /// The shape of an array that another process made, which says the rest itself.
    #[cfg(not(loom))]
    pub(crate) const fn of_any<T, R>() -> Self {
        let (capacity, tag, first_generation) = (1, 0, 0);
        let (shared_cells, annex_cells, spare_sets) = (0, 0, 0);
        Self::of::<T, R>(&Options {
            capacity,
            tag,
            shared_cells,
            annex_cells,
            spare_sets,
            first_generation,
        })
    }

    pub(crate) const fn capacity_is_valid(&self) -> bool {
        self.capacity >= 1 && self.capacity <= MAX_CAPACITY && self.spare_sets <= MAX_CAPACITY
    }

    /// How many sets of slot cells there are.
    pub(crate) const fn sets(&self) -> u32 {
        // Both are at most 2^20.
        self.capacity + self.spare_sets
    }

    /// Cells of one report buffer: its number, its generation and the report.
    pub(crate) const fn report_buffer(&self) -> usize {
        self.report_cells + 2
    }

    /// Cells of a payload's head.
    pub(crate) const fn head(&self) -> usize {
        if self.payload_cells < HEAD_CELLS { self.payload_cells } else { HEAD_CELLS }
    }

    /// Cells of a payload's tail.
    pub(crate) const fn tail(&self) -> usize {
        self.payload_cells - self.head()
    }
}
