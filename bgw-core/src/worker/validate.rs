//! The validation of descriptions: the same for a builder and for a slot. Pure.

use super::call::{CallInput, check_call};
use super::caller::Caller;
use super::clocks::{ClockDraft, check_clocks};
use super::description::BackgroundWorker;
use super::gift::{Gift, Others, check_gifts};
use super::invalid::InvalidWorker;
use super::job::Orphaned;
use super::limits::{
    COMMAND_LIMIT, EXTRA_LEN, FUNCTION_LIMIT, LIBRARY_LIMIT, MAX_GRACE, NAME_LIMIT, TAG_LIMIT,
    TYPE_LIMIT,
};
use super::output::{OUTPUT_NAME_LIMIT, Output, check_last_lines, check_output};
use super::policy::{EntryPoint, StartTime, WorkerFlags};
use super::recycle::{Recycle, check_recycle};
use super::relations::Relations;
use super::stop::{Grace, StopSignal};
use super::surroundings::{Input, Surroundings, check_fit};
use super::text::{not_empty, shown_text, system_text};
use super::validate_relations::{check_names, check_relations, check_template};
use super::validate_restart::{RestartDraft, check_restarts};
use crate::pid::Pid;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

/// A description that is not validated yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) worker_type: String,
    pub(crate) flags: WorkerFlags,
    pub(crate) start_time: StartTime,
    pub(crate) restart: RestartDraft,
    pub(crate) recycle: Option<Recycle>,
    pub(crate) clocks: ClockDraft,
    /// A number: a slot may hold any.
    pub(crate) stop: i32,
    pub(crate) grace: Grace,
    pub(crate) relations: Relations,
    pub(crate) gifts: Vec<Gift>,
    pub(crate) entry: Option<EntryPoint>,
    pub(crate) main_arg: u64,
    pub(crate) extra: [u8; EXTRA_LEN],
    pub(crate) extra_len: usize,
    pub(crate) notify: Option<Pid>,
    pub(crate) tag: String,
    pub(crate) output: Output,
    pub(crate) last_lines: u32,
    pub(crate) attached: bool,
    /// A draft is on the stack: few have any.
    pub(crate) surroundings: Option<Box<Surroundings>>,
    pub(crate) job: Option<Orphaned>,
    pub(crate) call: Option<CallInput>,
}

impl Default for Draft {
    // A draft is large, and is to be made where it is used.
    #[inline]
    fn default() -> Self {
        Self {
            name: String::new(),
            worker_type: String::new(),
            flags: WorkerFlags::empty(),
            start_time: StartTime::default(),
            restart: RestartDraft::default(),
            recycle: None,
            clocks: ClockDraft::default(),
            stop: StopSignal::default().number(),
            grace: Grace::default(),
            relations: Relations::default(),
            gifts: Vec::new(),
            entry: None,
            main_arg: 0,
            extra: [0; EXTRA_LEN],
            extra_len: 0,
            notify: None,
            tag: String::new(),
            output: Output::default(),
            last_lines: 0,
            attached: false,
            surroundings: None,
            job: None,
            call: None,
        }
    }
}

/// Takes the draft's contents, and has the caller's error: both sides are large, and a caller's
/// stack may be costly.
pub(crate) fn validate<E: From<InvalidWorker>>(draft: &mut Draft) -> Result<BackgroundWorker, E> {
    shown_text("name", &draft.name, NAME_LIMIT)?;
    not_empty("name", &draft.name)?;
    shown_text("worker_type", &draft.worker_type, TYPE_LIMIT)?;
    shown_text("tag", &draft.tag, TAG_LIMIT)?;
    if let Some(name) = draft.output.name() {
        shown_text("output", name, OUTPUT_NAME_LIMIT)?;
        not_empty("output", name)?;
    }
    check_output(&draft.output)?;
    let last_lines = check_last_lines(draft.last_lines, &draft.output)?;
    check_flags(draft)?;
    let caller = Caller::of(draft.entry.as_ref(), draft.attached)?;
    let restarts = check_restarts(&draft.restart, draft.flags, caller)?;
    let declared = restarts.ready.is_some();
    let recycle = check_recycle(draft.recycle.as_ref(), draft.restart.policy, caller, declared)?;
    let clocks = check_clocks(&draft.clocks, restarts.ready, caller)?;
    if draft.extra_len > EXTRA_LEN {
        let (len, limit) = (draft.extra_len, EXTRA_LEN);
        return Err(InvalidWorker::TooLong { field: "extra", len, limit }.into());
    }
    check_relations(&draft.name, &draft.relations, draft.flags, &draft.restart)?;
    let entry = draft.entry.take().ok_or(InvalidWorker::NoEntryPoint)?;
    check_entry(&entry)?;
    check_template(&draft.relations, &entry)?;
    let input =
        draft.surroundings.as_ref().map_or(&Input::Inherit, |surroundings| &surroundings.input);
    let others = Others { ready: restarts.ready, input, output: &draft.output };
    check_gifts(&draft.gifts, &entry, others)?;
    check_names(&draft.relations, &draft.gifts, &entry)?;
    let names = (&draft.relations, draft.gifts.as_slice());
    check_call(draft.call.as_ref(), &draft.extra, names, &entry)?;
    let surroundings = draft.surroundings.take().filter(|surroundings| !surroundings.are_default());
    if let Some(surroundings) = &surroundings {
        check_fit(surroundings, &entry)?;
    }
    let stop = check_stop(draft.stop, &entry)?;
    let grace = check_grace(draft.grace)?;
    let name = take(&mut draft.name);
    let worker_type = take(&mut draft.worker_type);
    let worker_type = if worker_type == name { String::new() } else { worker_type };
    Ok(BackgroundWorker {
        name,
        worker_type,
        flags: draft.flags,
        start_time: draft.start_time,
        restarts,
        recycle,
        clocks,
        stop,
        grace,
        relations: take(&mut draft.relations),
        gifts: take(&mut draft.gifts),
        entry,
        main_arg: draft.main_arg,
        extra: draft.extra,
        notify: draft.notify,
        tag: take(&mut draft.tag),
        output: take(&mut draft.output),
        last_lines,
        attached: draft.attached,
        surroundings: surroundings.map(Arc::from),
        job: draft.job.take(),
        call: draft.call.take(),
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

fn check_stop(number: i32, entry: &EntryPoint) -> Result<StopSignal, InvalidWorker> {
    let field = "stop";
    let Some(stop) = StopSignal::from_number(number) else { return Err(no_stop_signal(number)) };
    if !stop.is_for_functions() && !matches!(entry, EntryPoint::Command { .. }) {
        let needs = "a command; for a function it is SIGTERM, SIGINT, SIGHUP or SIGUSR2";
        return Err(InvalidWorker::Unfit { field, value: stop.to_string(), needs });
    }
    Ok(stop)
}

#[cold]
fn no_stop_signal(number: i32) -> InvalidWorker {
    let name = nix::sys::signal::Signal::try_from(number);
    let value = name.map_or_else(|_| format!("signal {number}"), |name| name.to_string());
    let limit =
        "SIGTERM, SIGINT, SIGHUP or SIGUSR2, for a command also SIGQUIT, SIGUSR1 or SIGWINCH";
    InvalidWorker::OutOfRange { field: "stop", value, limit }
}

fn check_grace(grace: Grace) -> Result<Grace, InvalidWorker> {
    let Grace::After(time) = grace else { return Ok(grace) };
    if time > MAX_GRACE {
        let (value, limit) = (format!("{time:?}"), "a day, or Grace::Forever");
        return Err(InvalidWorker::OutOfRange { field: "grace", value, limit });
    }
    // A slot holds milliseconds, and both sides must see the same. A day of them fits.
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Grace::After(Duration::from_millis(millis)))
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
