//! A worker's description as it lies in a slot: plain bytes of fixed size, no pointers.
//!
//! What most workers have comes first, and the long text (a library's path, a command line) last,
//! so that it takes no memory where it is not used.
//!
//! Trust. Decoding takes any bytes: the result has passed the same validation as a description from
//! the builder, or is an error that names the field.

use super::clock_record::ClockRecord;
use super::corrupt::CorruptRecord;
use super::gift_record::GiftRecord;
use super::output_record::OutputRecord;
use super::recycle_record::RecycleRecord;
use super::relations_record::RelationsRecord;
use super::restart_record::RestartRecord;
use super::text::{get, put};
use crate::pid::Pid;
use crate::sys::clock::monotonic_nanos;
use crate::worker::call::{CallInput, lies_in_extra};
use crate::worker::job::Orphaned;
use crate::worker::limits::{EXTRA_LEN, FUNCTION_LIMIT, NAME_LIMIT, TAG_LIMIT, TYPE_LIMIT};
use crate::worker::validate::{Draft, validate};
use crate::worker::{BackgroundWorker, EntryPoint, Grace, StartTime, WorkerFlags};
use bytemuck::{Pod, Zeroable};
use std::time::Duration;

const TEXT_LEN: usize = 1024;
const GRACE_OF_CLUSTER: i32 = -1;
const GRACE_FOREVER: i32 = -2;
const GRACE_BOUNDED: i32 = -3;
/// The bit that says that a command attaches.
const ATTACHED: u64 = 1;

const FUNCTION: u32 = 1;
const LIBRARY: u32 = 2;
const COMMAND: u32 = 3;

/// The bytes of one registration.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct WorkerRecord {
    main_arg: u64,
    flags: u32,
    start_time: u32,
    entry: u32,
    notify: u32,
    registered_by: u32,
    /// How many bytes of `text` count.
    text_len: u32,
    stop: i32,
    grace_millis: i32,
    /// What becomes of a job when its submitter has ended; 0: it is none.
    job: u32,
    /// How many bytes its input has.
    input_len: u32,
    /// The type of the function that it calls; 0: it is not a call.
    call: u64,
    pub(super) relations: RelationsRecord,
    pub(super) gifts: GiftRecord,
    pub(super) restarts: RestartRecord,
    extra: [u8; EXTRA_LEN],
    name: [u8; NAME_LIMIT + 1],
    /// Empty when it is the name.
    worker_type: [u8; TYPE_LIMIT + 1],
    function: [u8; FUNCTION_LIMIT + 1],
    tag: [u8; TAG_LIMIT + 1],
    /// Behind what most workers have: few have clocks, or are recycled.
    clocks: ClockRecord,
    pub(super) recycle: RecycleRecord,
    pub(super) output: OutputRecord,
    /// Zero; room for more. The record is whole cache lines long: the search for its last word that
    /// is not zero is fast then.
    reserved: [u64; 3],
    bits: u64,
    /// When it was registered, as its registrant says: nanoseconds of the monotonic clock. Orders
    /// those that have relations; else 0.
    registered_at: u64,
    /// A library's path, or a program and its arguments with a NUL between two. Then the names of
    /// its relations, and of what it is given.
    text: [u8; TEXT_LEN],
}

const _: () = assert!(std::mem::offset_of!(WorkerRecord, text) == 704);

impl WorkerRecord {
    /// The bytes of `worker`, registered by process `registered_by`.
    #[must_use]
    pub fn encode(worker: &BackgroundWorker, registered_by: Pid) -> Self {
        let mut record = Self::zeroed();
        record.main_arg = worker.main_arg();
        record.restarts = RestartRecord::encode(worker.restarts());
        record.recycle = RecycleRecord::encode(worker.recycle_limits());
        record.clocks = ClockRecord::encode(worker.clocks());
        record.stop = worker.stop().number();
        record.grace_millis = match worker.grace() {
            Grace::OfCluster => GRACE_OF_CLUSTER,
            Grace::Bounded => GRACE_BOUNDED,
            Grace::Forever => GRACE_FOREVER,
            // A validated grace is a day at most.
            Grace::After(time) => i32::try_from(time.as_millis()).unwrap_or(i32::MAX),
        };
        record.flags = worker.flags().bits();
        record.start_time = worker.start_time().code();
        record.notify = worker.notify().map_or(0, Pid::get);
        record.registered_by = registered_by.get();
        record.extra = *worker.extra();
        put(&mut record.name, worker.name());
        if worker.worker_type() != worker.name() {
            put(&mut record.worker_type, worker.worker_type());
        }
        put(&mut record.tag, worker.tag());
        record.output = OutputRecord::encode(worker);
        record.job = worker.job().map_or(0, Orphaned::code);
        record.bits = if worker.is_attached() { ATTACHED } else { 0 };
        let text = match worker.entry() {
            EntryPoint::Function(name) => {
                record.entry = FUNCTION;
                put(&mut record.function, name);
                String::new()
            }
            EntryPoint::Library { path, function } => {
                record.entry = LIBRARY;
                put(&mut record.function, function);
                path.clone()
            }
            EntryPoint::Command { program, args } => {
                record.entry = COMMAND;
                let parts = std::iter::once(program).chain(args);
                parts.map(String::as_str).collect::<Vec<_>>().join("\0")
            }
        };
        put(&mut record.text, &text);
        // A validated text is 1023 bytes at most.
        record.text_len = text.len() as u32;
        let (relations, mut names) = RelationsRecord::encode(worker.relations());
        record.relations = relations;
        if !worker.gifts().is_empty() {
            let (gifts, more) = GiftRecord::encode(worker.gifts());
            record.gifts = gifts;
            names.extend(more);
        }
        if worker.relations().have_order() {
            record.registered_at = monotonic_nanos();
        }
        if let Some(CallInput { tag, input }) = worker.call() {
            record.call = *tag;
            // A validated input is 1024 bytes at most.
            record.input_len = input.len() as u32;
            if lies_in_extra(input.len()) {
                record.extra.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
            } else {
                names.extend(input);
            }
        }
        record.put_names(&names);
        record
    }

    /// As it goes to the postmaster beside the slots.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    /// Who registered it, as it says itself; for display.
    #[must_use]
    pub const fn registered_by(&self) -> Option<Pid> {
        Pid::new(self.registered_by)
    }

    /// True if it says that it is a job.
    #[must_use]
    pub const fn is_job(&self) -> bool {
        self.job != 0
    }

    /// True if it says that it is a job that is terminated with its submitter.
    #[must_use]
    pub const fn ends_with_submitter(&self) -> bool {
        self.job == Orphaned::Terminate.code()
    }

    /// When it was registered, as its registrant says. 0 if no order matters.
    #[must_use]
    pub const fn registered_at(&self) -> u64 {
        self.registered_at
    }

    /// True if it says that the worker's name is unique: for those who skip all others.
    #[must_use]
    pub const fn is_unique(&self) -> bool {
        self.relations.is_unique()
    }

    /// The notify target, as it was registered.
    #[must_use]
    pub const fn notify(&self) -> Option<Pid> {
        Pid::new(self.notify)
    }

    /// Takes the notify target out of this copy.
    pub const fn forget_notify(&mut self) {
        self.notify = 0;
    }

    /// The description, checked.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no builder and encoder would have written.
    pub fn decode(&self) -> Result<BackgroundWorker, CorruptRecord> {
        let mut draft = Draft::default();
        self.fill(&mut draft)?;
        validate(&mut draft)
    }

    /// In place and out of line, for a postmaster: a page of its stack that is written to between
    /// two forks costs a copy.
    #[inline(never)]
    fn fill(&self, draft: &mut Draft) -> Result<(), CorruptRecord> {
        let number = |field, found: i64| CorruptRecord::Number { field, found };
        draft.name = get("name", &self.name)?;
        draft.worker_type = get("worker_type", &self.worker_type)?;
        draft.flags = WorkerFlags::from_bits_retain(self.flags);
        draft.start_time = StartTime::from_code(self.start_time)
            .ok_or_else(|| number("start_time", self.start_time.into()))?;
        draft.restart = self.restarts.draft()?;
        draft.recycle = self.recycle.draft();
        draft.clocks = self.clocks.draft()?;
        draft.stop = self.stop;
        draft.grace = match self.grace_millis {
            GRACE_OF_CLUSTER => Grace::OfCluster,
            GRACE_BOUNDED => Grace::Bounded,
            GRACE_FOREVER => Grace::Forever,
            millis => {
                let found = u64::try_from(millis).map_err(|_| number("grace", millis.into()))?;
                Grace::After(Duration::from_millis(found))
            }
        };
        draft.relations = self.relations.draft(self.rest())?;
        draft.gifts = self.gifts.draft(self.behind_relations())?;
        draft.entry = Some(self.entry()?);
        draft.main_arg = self.main_arg;
        draft.call = self.call_input()?;
        draft.extra = if draft.call.is_some() { [0; EXTRA_LEN] } else { self.extra };
        draft.extra_len = EXTRA_LEN;
        draft.notify = match self.notify {
            0 => None,
            pid => Some(Pid::new(pid).ok_or(number("notify", pid.into()))?),
        };
        draft.tag = get("tag", &self.tag)?;
        draft.output = self.output.output()?;
        draft.last_lines = self.output.last_lines();
        draft.job = Orphaned::from_code(self.job).map_err(|()| number("job", self.job.into()))?;
        draft.attached = match self.bits {
            0 => false,
            ATTACHED => true,
            other => return Err(number("bits", other as i64)),
        };
        Ok(())
    }

    /// Puts the names behind the text of the entry point.
    pub(super) fn put_names(&mut self, names: &[u8]) {
        let len = usize::try_from(self.text_len).unwrap_or(usize::MAX);
        for (to, from) in self.text.iter_mut().skip(len).zip(names) {
            *to = *from;
        }
    }

    /// What follows on the text of the entry point.
    fn rest(&self) -> &[u8] {
        let len = usize::try_from(self.text_len).unwrap_or(usize::MAX);
        self.text.get(len..).unwrap_or_default()
    }

    /// What follows on the names of the relations.
    fn behind_relations(&self) -> &[u8] {
        self.rest().get(usize::from(self.relations.names_len)..).unwrap_or_default()
    }

    fn call_input(&self) -> Result<Option<CallInput>, CorruptRecord> {
        if self.call == 0 {
            return Ok(None);
        }
        let wrong = CorruptRecord::Number { field: "input_len", found: self.input_len.into() };
        let len = usize::try_from(self.input_len).unwrap_or(usize::MAX);
        let behind = || {
            let rest = self.behind_relations();
            rest.get(usize::from(self.gifts.names_len)..).unwrap_or_default()
        };
        let place = if lies_in_extra(len) { &self.extra } else { behind() };
        let input = place.get(..len).ok_or(wrong)?.to_vec();
        Ok(Some(CallInput { tag: self.call, input }))
    }

    fn entry(&self) -> Result<EntryPoint, CorruptRecord> {
        let function = || get("function", &self.function);
        let len = usize::try_from(self.text_len).unwrap_or(usize::MAX);
        let text = self
            .text
            .get(..len)
            .ok_or(CorruptRecord::Number { field: "text_len", found: self.text_len.into() })?;
        let text = || {
            String::from_utf8(text.to_vec())
                .map_err(|_| CorruptRecord::Text { field: "library or command" })
        };
        match self.entry {
            FUNCTION => Ok(EntryPoint::Function(function()?)),
            LIBRARY => Ok(EntryPoint::Library { path: text()?, function: function()? }),
            COMMAND => {
                let text = text()?;
                let mut parts = text.split('\0').map(str::to_owned);
                let program = parts.next().unwrap_or_default();
                Ok(EntryPoint::Command { program, args: parts.collect() })
            }
            other => Err(CorruptRecord::Number { field: "entry", found: other.into() }),
        }
    }
}
