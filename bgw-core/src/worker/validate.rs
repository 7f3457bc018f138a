//! The validation of descriptions: the same for a builder and for a slot. Pure.

use super::description::BackgroundWorker;
use super::limits::{
    COMMAND_LIMIT, EXTRA_LEN, FUNCTION_LIMIT, LIBRARY_LIMIT, MAX_RESTART, NAME_LIMIT, TAG_LIMIT,
    TYPE_LIMIT,
};
use super::policy::{EntryPoint, RestartPolicy, StartTime, WorkerFlags};
use crate::pid::Pid;
use std::time::Duration;

/// A description that is not validated yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) worker_type: String,
    pub(crate) flags: WorkerFlags,
    pub(crate) start_time: StartTime,
    pub(crate) restart: RestartPolicy,
    pub(crate) entry: Option<EntryPoint>,
    pub(crate) main_arg: u64,
    pub(crate) extra: [u8; EXTRA_LEN],
    pub(crate) extra_len: usize,
    pub(crate) notify: Option<Pid>,
    pub(crate) tag: String,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            name: String::new(),
            worker_type: String::new(),
            flags: WorkerFlags::empty(),
            start_time: StartTime::default(),
            restart: RestartPolicy::default(),
            entry: None,
            main_arg: 0,
            extra: [0; EXTRA_LEN],
            extra_len: 0,
            notify: None,
            tag: String::new(),
        }
    }
}

/// Why a description is invalid: the field, its value, the limit.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWorker {
    /// A text is too long.
    #[error("{field} is {len} bytes long, the limit is {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A text is empty.
    #[error("{field} is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A text that is shown holds a control character: below 0x20, or 0x7f to 0x9f.
    #[error(
        "{field} holds a control character ({code:#04x} at byte {at}), which could forge log lines and titles"
    )]
    ControlCharacter {
        /// The field.
        field: &'static str,
        /// Its place, in bytes.
        at: usize,
        /// Its code point.
        code: u32,
    },
    /// A text that goes to the system holds a NUL byte.
    #[error("{field} holds a NUL byte at {at}")]
    NulByte {
        /// The field.
        field: &'static str,
        /// Its place, in bytes.
        at: usize,
    },
    /// The flags hold bits without a meaning.
    #[error("flags holds unknown bits {bits:#x}")]
    UnknownFlags {
        /// The bits.
        bits: u32,
    },
    /// A worker with a database connection has no `SHMEM_ACCESS`.
    #[error("flags holds DATABASE_CONNECTION without SHMEM_ACCESS, which it needs")]
    DatabaseWithoutSharedMemory,
    /// A worker with a database connection would start too early.
    #[error(
        "start_time is PostmasterStart, but a worker with DATABASE_CONNECTION cannot start before ConsistentState"
    )]
    DatabaseAtPostmasterStart,
    /// The restart interval is too long.
    #[error("restart is after {interval:?}, the limit is {limit:?}")]
    RestartOutOfRange {
        /// The interval.
        interval: Duration,
        /// The limit.
        limit: Duration,
    },
    /// A parallel worker would be restarted.
    #[error("restart must be Never for a worker with CLASS_PARALLEL")]
    ParallelMustNeverRestart,
    /// There is nothing to run.
    #[error("entry is missing: name a function, a library or a command")]
    NoEntryPoint,
}

shmem_slots::debug_as_chain!(InvalidWorker);

impl InvalidWorker {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::TooLong { field, .. }
            | Self::Empty { field }
            | Self::ControlCharacter { field, .. }
            | Self::NulByte { field, .. } => field,
            Self::UnknownFlags { .. } | Self::DatabaseWithoutSharedMemory => "flags",
            Self::DatabaseAtPostmasterStart => "start_time",
            Self::RestartOutOfRange { .. } | Self::ParallelMustNeverRestart => "restart",
            Self::NoEntryPoint => "entry",
        }
    }
}

pub(crate) fn validate(draft: Draft) -> Result<BackgroundWorker, InvalidWorker> {
    shown_text("name", &draft.name, NAME_LIMIT)?;
    not_empty("name", &draft.name)?;
    shown_text("worker_type", &draft.worker_type, TYPE_LIMIT)?;
    shown_text("tag", &draft.tag, TAG_LIMIT)?;
    check_flags(&draft)?;
    let restart = check_restart(&draft)?;
    if draft.extra_len > EXTRA_LEN {
        let (len, limit) = (draft.extra_len, EXTRA_LEN);
        return Err(InvalidWorker::TooLong { field: "extra", len, limit });
    }
    let entry = draft.entry.ok_or(InvalidWorker::NoEntryPoint)?;
    check_entry(&entry)?;
    let worker_type =
        if draft.worker_type.is_empty() { draft.name.clone() } else { draft.worker_type };
    Ok(BackgroundWorker {
        name: draft.name,
        worker_type,
        flags: draft.flags,
        start_time: draft.start_time,
        restart,
        entry,
        main_arg: draft.main_arg,
        extra: draft.extra,
        notify: draft.notify,
        tag: draft.tag,
    })
}

fn check_flags(draft: &Draft) -> Result<(), InvalidWorker> {
    let unknown = draft.flags.bits() & !WorkerFlags::all().bits();
    if unknown != 0 {
        return Err(InvalidWorker::UnknownFlags { bits: unknown });
    }
    if draft.flags.contains(WorkerFlags::DATABASE_CONNECTION) {
        if !draft.flags.contains(WorkerFlags::SHMEM_ACCESS) {
            return Err(InvalidWorker::DatabaseWithoutSharedMemory);
        }
        if draft.start_time == StartTime::PostmasterStart {
            return Err(InvalidWorker::DatabaseAtPostmasterStart);
        }
    }
    Ok(())
}

fn check_restart(draft: &Draft) -> Result<RestartPolicy, InvalidWorker> {
    let RestartPolicy::After(interval) = draft.restart else { return Ok(RestartPolicy::Never) };
    if interval > MAX_RESTART {
        return Err(InvalidWorker::RestartOutOfRange { interval, limit: MAX_RESTART });
    }
    if draft.flags.contains(WorkerFlags::CLASS_PARALLEL) {
        return Err(InvalidWorker::ParallelMustNeverRestart);
    }
    // A slot holds milliseconds, and both sides must see the same.
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    Ok(RestartPolicy::After(Duration::from_millis(millis)))
}

fn check_entry(entry: &EntryPoint) -> Result<(), InvalidWorker> {
    match entry {
        EntryPoint::Function(name) => {
            shown_text("function", name, FUNCTION_LIMIT)?;
            not_empty("function", name)
        }
        EntryPoint::Library { path, function } => {
            system_text("library", path, LIBRARY_LIMIT)?;
            not_empty("library", path)?;
            shown_text("function", function, FUNCTION_LIMIT)?;
            not_empty("function", function)
        }
        EntryPoint::Command { program, args } => {
            let len = args.iter().map(|arg| arg.len() + 1).sum::<usize>() + program.len();
            if len > COMMAND_LIMIT {
                let limit = COMMAND_LIMIT;
                return Err(InvalidWorker::TooLong { field: "command", len, limit });
            }
            not_empty("command", program)?;
            for text in std::iter::once(program).chain(args) {
                system_text("command", text, COMMAND_LIMIT)?;
            }
            Ok(())
        }
    }
}

fn not_empty(field: &'static str, text: &str) -> Result<(), InvalidWorker> {
    if text.is_empty() { Err(InvalidWorker::Empty { field }) } else { Ok(()) }
}

/// A text that logs and titles show.
fn shown_text(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidWorker> {
    system_text(field, text, limit)?;
    // Above ASCII, too: terminals take U+009B for the start of an escape sequence.
    match text.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => {
            Err(InvalidWorker::ControlCharacter { field, at, code: character.into() })
        }
        None => Ok(()),
    }
}

/// A text that goes to the system.
fn system_text(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidWorker> {
    if text.len() > limit {
        return Err(InvalidWorker::TooLong { field, len: text.len(), limit });
    }
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(InvalidWorker::NulByte { field, at }),
        None => Ok(()),
    }
}
