//! A worker's description as it lies in a slot: plain bytes of fixed size, no pointers.
//!
//! The first 512 bytes hold everything that most workers have; the long text (a library's path, a
//! command line) is last, so that it takes no memory where it is not used.
//!
//! Trust. Decoding takes any bytes: the result has passed the same validation as a description from
//! the builder, or is an error that names the field.

use super::corrupt::CorruptRecord;
use crate::pid::Pid;
use crate::worker::limits::{EXTRA_LEN, FUNCTION_LIMIT, NAME_LIMIT, TAG_LIMIT, TYPE_LIMIT};
use crate::worker::validate::{Draft, validate};
use crate::worker::{BackgroundWorker, EntryPoint, RestartPolicy, StartTime, WorkerFlags};
use bytemuck::{Pod, Zeroable};
use std::time::Duration;

const TEXT_LEN: usize = 1024;
const NEVER: i64 = -1;

const FUNCTION: u32 = 1;
const LIBRARY: u32 = 2;
const COMMAND: u32 = 3;

/// The bytes of one registration.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct WorkerRecord {
    main_arg: u64,
    restart_millis: i64,
    flags: u32,
    start_time: u32,
    entry: u32,
    notify: u32,
    registered_by: u32,
    /// How many bytes of `text` count.
    text_len: u32,
    reserved: [u64; 3],
    extra: [u8; EXTRA_LEN],
    name: [u8; NAME_LIMIT + 1],
    /// Empty when it is the name.
    worker_type: [u8; TYPE_LIMIT + 1],
    function: [u8; FUNCTION_LIMIT + 1],
    tag: [u8; TAG_LIMIT + 1],
    /// A library's path, or a program and its arguments with a NUL between two.
    text: [u8; TEXT_LEN],
}

const _: () = assert!(std::mem::offset_of!(WorkerRecord, text) == 512);

fn put(field: &mut [u8], text: &str) {
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}

fn get(name: &'static str, field: &[u8]) -> Result<String, CorruptRecord> {
    // The last byte never counts, so a field without a NUL is cut there.
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len().saturating_sub(1));
    let text = field.get(..end).unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| CorruptRecord::Text { field: name })
}

impl WorkerRecord {
    /// The bytes of `worker`, registered by process `registered_by`.
    #[must_use]
    pub fn encode(worker: &BackgroundWorker, registered_by: Pid) -> Self {
        let mut record = Self::zeroed();
        record.main_arg = worker.main_arg();
        record.restart_millis = match worker.restart() {
            RestartPolicy::Never => NEVER,
            // A validated interval is a day at most.
            RestartPolicy::After(interval) => i64::try_from(interval.as_millis()).unwrap_or(NEVER),
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
        record
    }

    /// Who registered it, as it says itself; for views.
    #[must_use]
    pub const fn registered_by(&self) -> Option<Pid> {
        Pid::new(self.registered_by)
    }

    /// The description, checked.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no builder and encoder would have written.
    pub fn decode(&self) -> Result<BackgroundWorker, CorruptRecord> {
        let number = |field, found: i64| CorruptRecord::Number { field, found };
        let start_time = StartTime::from_code(self.start_time)
            .ok_or_else(|| number("start_time", self.start_time.into()))?;
        let restart = match self.restart_millis {
            NEVER => RestartPolicy::Never,
            millis => {
                let found = u64::try_from(millis).map_err(|_| number("restart", millis))?;
                RestartPolicy::After(Duration::from_millis(found))
            }
        };
        let notify = match self.notify {
            0 => None,
            pid => Some(Pid::new(pid).ok_or(number("notify", pid.into()))?),
        };
        let draft = Draft {
            name: get("name", &self.name)?,
            worker_type: get("worker_type", &self.worker_type)?,
            flags: WorkerFlags::from_bits_retain(self.flags),
            start_time,
            restart,
            entry: Some(self.entry()?),
            main_arg: self.main_arg,
            extra: self.extra,
            extra_len: EXTRA_LEN,
            notify,
            tag: get("tag", &self.tag)?,
        };
        Ok(validate(draft)?)
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
