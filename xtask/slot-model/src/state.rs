//! What the model consists of: slots, registrants, waiters, the postmaster and worker processes.
//!
//! Each party is a program counter and the few values that it has read. One step of the model is
//! one access to shared memory, or one system call. Fields called `ghost` are seen by the
//! properties alone; no step of the protocol reads them.

pub(crate) use crate::job::Job;
pub(crate) use crate::spare_state::{Spare, SpareAt, Takers, TakersAt, Then};
use shmem_slots::{Key, Snapshot};

/// One slot in shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// Its word.
    pub(crate) word: Snapshot,
    /// Its bit among the change hints.
    pub(crate) changed: bool,
    /// Its bit among the hints of ended slots.
    pub(crate) ended: bool,
    /// What the last claimer wrote.
    pub(crate) payload: Option<Job>,
    /// The last two reports, the newer one first, each with the generation that it is about.
    pub(crate) reports: [Option<(u64, Job)>; 2],
    /// When the last tenancy ended, counted by the postmaster.
    pub(crate) ended_at: u8,
    /// Ghost: the newest generation that any key has.
    pub(crate) ghost_newest: u64,
}

/// A program that registers workers, waits for each, and reads how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Registrant {
    /// False once it was killed.
    pub(crate) alive: bool,
    /// Its program counter.
    pub(crate) at: RegistrantAt,
    /// The registration under way.
    pub(crate) job: Job,
    /// The handle of that registration, from its publication on.
    pub(crate) key: Option<Key>,
    /// It has asked for the end of this worker.
    pub(crate) terminated: bool,
    /// How often it may still lose a race for a slot.
    pub(crate) tries: u8,
    /// Ghost: the slots that were not free at some moment since the claim began.
    pub(crate) ghost_taken: u8,
}

/// Where a registrant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RegistrantAt {
    /// Looks for a free slot; `looked` are those that it has looked at, `oldest` is the one among
    /// them that ended first.
    Looking { looked: u8, oldest: Option<(u8, usize, Snapshot)> },
    /// Is about to mark `slot` as changed.
    Mark { slot: usize, seen: Snapshot },
    /// Is about to swap its claim in.
    Swap { slot: usize, seen: Snapshot },
    /// Has claimed `slot`, and marks it only now (a broken variant).
    MarkLate { slot: usize, word: Snapshot },
    /// Is about to write the description.
    Write { slot: usize, word: Snapshot },
    /// Is about to publish it.
    Publish { slot: usize, word: Snapshot },
    /// Could not publish: is about to give the slot back, if it still has it.
    GiveBack { slot: usize, word: Snapshot },
    /// Has offered the slot: is about to set the alarm.
    Alarm,
    /// Is about to give the slot to a spare.
    Give,
    /// Has given it to this spare, and is about to wake it.
    WakeSpare { spare: usize },
    /// Has set the terminate flag, and is about to mark the slot.
    MarkTerminate,
    /// Is about to ring.
    Ring,
    /// Looks at the word of its handle.
    Look,
    /// Is about to sleep, unless the word has changed.
    Sleep { seen: Snapshot },
    /// Sleeps until the slot's waiters are woken.
    Asleep,
    /// Has seen the end: is about to read the report.
    Report,
    /// Has the report: is about to release the slot.
    Release,
    /// Has no more to do.
    Done,
}

/// Another process that waits for the end of one registration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    /// Whose handle it got.
    pub(crate) job: Job,
    /// Its program counter.
    pub(crate) at: WaiterAt,
    /// It holds the slot.
    pub(crate) holds: bool,
    /// False once it was killed.
    pub(crate) alive: bool,
    /// Ghost: it held the slot and saw that the tenant had not ended.
    pub(crate) ghost_saw_it_run: bool,
}

/// Where a waiter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WaiterAt {
    /// Has no handle yet.
    Start,
    /// Is about to hold the slot.
    Hold,
    /// Looks at the word.
    Look,
    /// Is about to sleep, unless the word has changed.
    Sleep { seen: Snapshot },
    /// Sleeps.
    Asleep,
    /// Has seen the end: is about to read the report.
    Report,
    /// Has the report: is about to give its hold back.
    GiveBack,
    /// Is about to free the slot, if it was the last that held it.
    Settle,
    /// Got an answer.
    Done,
}

/// The postmaster, the manager of the slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Postmaster {
    /// False once it was killed.
    pub(crate) alive: bool,
    /// Its program counter.
    pub(crate) at: PostmasterAt,
    /// Its private list: the registration in each slot.
    pub(crate) list: Vec<Option<Entry>>,
    /// The registrants whose end it has noticed; behind them, the waiters.
    pub(crate) gone: u8,
    /// A worker has crashed: all are to end, then the slots are reset.
    pub(crate) resetting: bool,
    /// How many ends it has reported.
    pub(crate) ends: u8,
    /// What it does with spares that may be woken by others.
    pub(crate) takers: Takers,
}

/// One registration on the postmaster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// Its tenancy.
    pub(crate) key: Key,
    /// What to start.
    pub(crate) job: Job,
    /// Its end was asked for.
    pub(crate) terminate: bool,
    /// A process was forked for it.
    pub(crate) started: bool,
}

/// Where the postmaster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PostmasterAt {
    /// Waits for the next event.
    Idle,
    /// Is about to look at the slots whose change marks it has read.
    Drain { marks: u8 },
    /// Has taken the mark of a published slot, and is about to look at it again.
    Drained { marks: u8, slot: usize, seen: Snapshot },
    /// Has looked for what a spare was given: is about to take `slot` in, whose word was `word`.
    TakeIn { marks: u8, slot: usize, word: Snapshot },
    /// Looks after spares that may be woken by others.
    Takers(TakersAt),
    /// Has forked: is about to publish the pid and to wake those who wait for it.
    Started { slot: usize },
    /// Is about to write the report of an end.
    EndReport { slot: usize },
    /// Is about to number the end, to hint at it, and to clear the change mark.
    EndHints { slot: usize, keeper: u32 },
    /// Is about to publish the end.
    EndWord { slot: usize, keeper: u32 },
    /// Is about to free the slot, unless somebody keeps or holds it.
    EndSettle { slot: usize },
    /// Is about to wake those who wait for the end.
    EndWake { slot: usize },
    /// Gives back what a dead registrant holds in `slot`.
    Sweep { registrant: u8, slot: usize },
    /// Begins a new life of the slots.
    ResetBegin,
    /// Is about to look at the word of `slot`.
    ResetLook { slot: usize },
    /// Is about to swap in a word with a generation that no key has.
    ResetSwap { slot: usize, seen: Snapshot },
    /// Is about to wake those who wait.
    ResetWake { slot: usize },
}

/// A worker process, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    /// Not started.
    None,
    /// Runs.
    Running,
    /// Has ended and is not reaped; whether it crashed.
    Ended { crashed: bool },
    /// Reaped.
    Reaped,
}

/// What became of a registration, for the properties.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fate {
    /// Its process.
    pub(crate) process: Process,
    /// Ghost: how often a process was started for it.
    pub(crate) ghost_starts: u8,
    /// Ghost: its slot, once claimed.
    pub(crate) ghost_key: Option<Key>,
    /// Ghost: a reset took its slot.
    pub(crate) ghost_reset: bool,
    /// Ghost: another registration took its slot before the registrant had read the end.
    pub(crate) ghost_overwritten: bool,
    /// Ghost: the postmaster has published its end.
    pub(crate) ghost_ended: bool,
    /// Ghost: the registrant, or a waiter that held the slot in time, lost the end, with no reason.
    pub(crate) ghost_lost: bool,
    /// Ghost: the registrant read the report of its own worker.
    pub(crate) ghost_told: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The slots.
    pub(crate) slots: Vec<Slot>,
    /// The programs that register.
    pub(crate) registrants: Vec<Registrant>,
    /// The processes that wait besides.
    pub(crate) waiters: Vec<Waiter>,
    /// The manager.
    pub(crate) postmaster: Postmaster,
    /// The spares that whoever registers may wake.
    pub(crate) spares: Vec<Spare>,
    /// What became of each registration: by registrant, then by number.
    pub(crate) fates: Vec<Vec<Fate>>,
    /// The doorbell rang.
    pub(crate) bell: bool,
    /// The alarm is set, or has rung.
    pub(crate) alarm: bool,
    /// Spares that may still be killed.
    pub(crate) spare_deaths: u8,
    /// Spares that may still be stopped.
    pub(crate) stops: u8,
    /// Keys that may still be scribbled.
    pub(crate) scribbles: u8,
    /// Shutdowns that are still to come.
    pub(crate) shutdowns: u8,
    /// A shutdown was asked for.
    pub(crate) shutdown: bool,
    /// Ghost: the gate is closed.
    pub(crate) ghost_closed: bool,
    /// Ghost: a worker began, or ran, behind the closed gate.
    pub(crate) ghost_began_late: bool,
    /// Ghost: a spare took a slot that is not the one which it was given.
    pub(crate) ghost_stranger: bool,
    /// Ghost: a process that had had a worker before a reset got another one after it.
    pub(crate) ghost_remembers: bool,
    /// Ghost: a run of a spare was taken on.
    pub(crate) ghost_taken_on: bool,
    /// Ghost: what a spare had begun was withdrawn.
    pub(crate) ghost_withdrawn: bool,
    /// Registrants that may still be killed.
    pub(crate) deaths: u8,
    /// Workers that may still crash.
    pub(crate) crashes: u8,
    /// Postmasters that may still be killed.
    pub(crate) postmaster_deaths: u8,
    /// Ghost: a generation was given out twice.
    pub(crate) ghost_reused: bool,
    /// Ghost: an unread end was taken although there was a free slot, or freed by a reset.
    pub(crate) ghost_needless: bool,
    /// Ghost: a claim of before a reset wrote into the slot of a later tenant.
    pub(crate) ghost_torn: bool,
    /// Ghost: somebody read a report that was not his worker's.
    pub(crate) ghost_wrong_report: bool,
    /// Ghost: a claim of a dead registrant was swept.
    pub(crate) ghost_swept: bool,
}

impl State {
    /// What became of `job`.
    pub(crate) fn fate(&self, job: Job) -> &Fate {
        &self.fates[usize::from(job.registrant)][usize::from(job.number)]
    }

    /// The same, to be changed.
    pub(crate) fn fate_mut(&mut self, job: Job) -> &mut Fate {
        &mut self.fates[usize::from(job.registrant)][usize::from(job.number)]
    }
}
