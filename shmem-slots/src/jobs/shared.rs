//! The job queue in shared memory: its cells, and a look at one job. See the head of `jobs`.

use super::layout::{JobsOptions, Layout, NOTES, OfClass, PARTY_CELLS};
use super::word::{JobKey, JobState, JobWord};
use crate::memory::{Heap, Memory};
use crate::primitive::{AtomicU64, Ordering};
use crate::words;

const WORD: usize = 0;
const SUBMITTER: usize = 1;
const LENGTH: usize = 2;
const FIRST_NOTE: usize = 3;

/// A job queue over cells of `M`.
#[derive(Debug)]
pub struct Jobs<M = crate::Region> {
    pub(super) memory: M,
    pub(super) layout: Layout,
}

impl Jobs<Heap> {
    /// Creates a job queue in the private memory of this process, between threads.
    ///
    /// Returns `None` when a size is out of range.
    #[must_use]
    pub fn heap(options: &JobsOptions) -> Option<Self> {
        let layout = Layout::new(options)?;
        let memory = Heap::zeroed(layout.total);
        layout.write(memory.cells().0);
        Some(Self { memory, layout })
    }
}

impl<M: Memory> Jobs<M> {
    /// The memory that holds the cells.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// What it was made with.
    #[must_use]
    pub const fn options(&self) -> &JobsOptions {
        &self.layout.options
    }

    /// Bytes of a room: at least as many as were asked for.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.layout.room * 8
    }

    /// The class of a job.
    #[must_use]
    pub const fn class_of(&self, key: JobKey) -> u32 {
        // Never 0: see `Layout::new`.
        key.index / self.layout.options.jobs
    }

    /// How many jobs of a class wait for a taker, about: those that were cancelled may count until
    /// their turn would come.
    #[must_use]
    pub fn queued(&self, class: u32) -> u32 {
        if class >= self.layout.options.classes {
            return 0;
        }
        let head = self.of_class(class, OfClass::Head).load(Ordering::Relaxed);
        let tail = self.of_class(class, OfClass::Tail).load(Ordering::Relaxed);
        // At most the places, which are few enough.
        tail.saturating_sub(head).min(self.layout.places as u64) as u32
    }

    /// The word of a job's cell; `None` if the cell has another job by now, or there is no such
    /// cell.
    #[must_use]
    pub fn look(&self, key: JobKey) -> Option<JobWord> {
        let word = self.word_of(key.index)?;
        (word.generation() == key.generation && word.state() != JobState::Free).then_some(word)
    }

    /// The word of a cell, whatever job it has; an acquire.
    pub(super) fn word_of(&self, index: u32) -> Option<JobWord> {
        let cell = self.word(index)?;
        Some(JobWord(cell.load(Ordering::Acquire)))
    }

    /// Note `number` of a job, for the layer above. The submitter and then the taker may write it;
    /// what they wrote is seen by whoever gets the job after them. `None` for a number from 5 up.
    #[must_use]
    pub fn note(&self, key: JobKey, number: usize) -> Option<&AtomicU64> {
        let known = key.index < self.layout.all_jobs() && number < NOTES;
        known.then(|| self.cell(self.layout.job(key.index) + FIRST_NOTE + number))
    }

    /// The submitter of a job, as it says in its cell.
    #[must_use]
    pub fn submitter_of(&self, key: JobKey) -> u32 {
        self.party_cell(key.index).map_or(0, |cell| cell.load(Ordering::Relaxed) as u32)
    }

    /// The 8 cells of a taker, for the layer above; `None` if there is no such taker.
    #[must_use]
    pub fn taker_cells(&self, taker: u32) -> Option<&[AtomicU64]> {
        let first = self.layout.taker(taker.min(self.layout.options.takers));
        let known = taker < self.layout.options.takers;
        known.then(|| self.cells(first, PARTY_CELLS))
    }

    /// The 8 cells of a submitter, for the layer above; `None` if there is no such submitter.
    #[must_use]
    pub fn submitter_cells(&self, submitter: u32) -> Option<&[AtomicU64]> {
        let first = self.layout.submitter(submitter.min(self.layout.options.submitters));
        let known = submitter < self.layout.options.submitters;
        known.then(|| self.cells(first, PARTY_CELLS))
    }

    /// The cells that were requested for the layer above.
    #[must_use]
    pub fn shared_cells(&self) -> &[AtomicU64] {
        self.cells(self.layout.shared(), self.layout.options.shared_cells as usize)
    }

    /// Copies what lies in the room of a job: for its taker the input, for its submitter the
    /// output. What it finds may come from any process.
    pub fn read(&self, key: JobKey, into: &mut Vec<u8>) {
        into.clear();
        let Some((length, _)) = self.length(key.index) else { return };
        into.resize(length, 0);
        words::load(self.room_cells(key.index), into);
    }

    /// The length of what lies in the room, never more than the room, and the code.
    pub(super) fn length(&self, index: u32) -> Option<(usize, u32)> {
        if index >= self.layout.all_jobs() {
            return None;
        }
        let found = self.cell(self.layout.job(index) + LENGTH).load(Ordering::Relaxed);
        Some(((found as u32 as usize).min(self.room()), (found >> 32) as u32))
    }

    /// Writes into the room of a job. `bytes` fit, and the job is there.
    pub(super) fn write(&self, index: u32, bytes: &[u8], code: u32) {
        words::store(self.room_cells(index), bytes);
        let length = u64::from(code) << 32 | bytes.len() as u64;
        self.cell(self.layout.job(index) + LENGTH).store(length, Ordering::Relaxed);
    }

    pub(super) fn word(&self, index: u32) -> Option<&AtomicU64> {
        (index < self.layout.all_jobs()).then(|| self.cell(self.layout.job(index) + WORD))
    }

    pub(super) fn party_cell(&self, index: u32) -> Option<&AtomicU64> {
        (index < self.layout.all_jobs()).then(|| self.cell(self.layout.job(index) + SUBMITTER))
    }

    /// `class` is one.
    pub(super) fn of_class(&self, class: u32, what: OfClass) -> &AtomicU64 {
        self.cell(self.layout.of_class(class, what))
    }

    /// `class` is one.
    pub(super) fn place(&self, class: u32, position: u64) -> &AtomicU64 {
        self.cell(self.layout.place(class, position))
    }

    /// The word of a taker's sleep. `taker` is one.
    pub(super) fn sleep_of(&self, taker: u32) -> &AtomicU64 {
        self.cell(self.layout.sleep_of(taker))
    }

    /// The cells in which takers say that they sleep: as many as the takers have bits.
    pub(super) fn sleepers(&self) -> &[AtomicU64] {
        self.cells(self.layout.sleepers(), self.layout.options.takers.div_ceil(64) as usize)
    }

    fn room_cells(&self, index: u32) -> &[AtomicU64] {
        self.cells(self.layout.room_of(index), self.layout.room)
    }

    fn cell(&self, number: usize) -> &AtomicU64 {
        // In range: the numbers of the layout. The memory was checked for all its cells when it was
        // created or attached.
        &self.memory.cells().0[number]
    }

    fn cells(&self, first: usize, count: usize) -> &[AtomicU64] {
        // In range, as in `cell`.
        &self.memory.cells().0[first..first + count]
    }
}
