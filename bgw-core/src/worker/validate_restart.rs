//! The validation of what a description says about restarts. Pure.

use super::caller::Caller;
use super::invalid::InvalidWorker;
use super::limits::{COMMAND_DESCRIPTORS, MAX_RESTART};
use super::policy::{Ready, RestartOn, RestartPolicy, WorkerFlags};
use super::restarts::{BRAKED_BELOW, Delays, ExitCodes, GiveUp, Restarts, THOUSANDTHS, millis};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest time, in milliseconds.
const DAY: u32 = 86_400_000;
const FACTORS: RangeInclusive<f64> = 1.0..=10.0;
const JITTERS: RangeInclusive<f64> = 0.0..=0.5;
const COUNTS: RangeInclusive<u32> = 1..=100;

/// What a description says about restarts, not validated yet. `None` is "not said".
#[derive(Clone, Debug, Default)]
pub(crate) struct RestartDraft {
    pub(crate) policy: RestartPolicy,
    pub(crate) on: Option<RestartOn>,
    pub(crate) final_codes: ExitCodes,
    pub(crate) jitter: Option<f64>,
    pub(crate) reset_after: Option<Duration>,
    pub(crate) give_up: Option<(u32, Duration)>,
    pub(crate) start_attempts: Option<u32>,
    pub(crate) unbraked: bool,
    pub(crate) ready: Option<Ready>,
}

impl RestartDraft {
    /// With `delays`, and the defaults of what is not said. Numbers are in range.
    pub(crate) fn resolved(&self, delays: Option<Delays>) -> Restarts {
        let (jitter, reset_after) = match delays {
            None => (0, 0),
            Some(Delays::Fixed(_)) => (0, BRAKED_BELOW),
            Some(Delays::Backoff { max, .. }) => (THOUSANDTHS / 10, max.max(1_000)),
        };
        Restarts {
            delays,
            on: self.on.unwrap_or_default(),
            final_codes: self.final_codes,
            jitter: self.jitter.map_or(jitter, thousandths),
            reset_after: self.reset_after.map_or(reset_after, whole_millis),
            give_up: self.give_up.map(|(restarts, within)| GiveUp {
                restarts: u8::try_from(restarts).unwrap_or(u8::MAX),
                within: whole_millis(within),
            }),
            start_attempts: self.start_attempts.map(|n| u8::try_from(n).unwrap_or(u8::MAX)),
            unbraked: self.unbraked,
            ready: self.ready,
        }
    }
}

/// The policy's numbers, each moved into its range.
pub(super) fn nearest(policy: RestartPolicy) -> Option<Delays> {
    match policy {
        RestartPolicy::Never => None,
        RestartPolicy::Fixed(interval) => Some(Delays::Fixed(whole_millis(interval))),
        RestartPolicy::Backoff { min, max, factor } => {
            let min = whole_millis(min).max(1);
            let max = whole_millis(max).max(min);
            // Not a number counts as the smallest.
            let factor = factor.max(*FACTORS.start()).min(*FACTORS.end());
            Some(Delays::Backoff { min, max, factor: thousandths(factor) })
        }
    }
}

/// What is below a millisecond is dropped: a slot holds milliseconds, and both sides must see the
/// same.
fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).min(DAY)
}

/// True for a share that jitter may be.
pub(super) fn share_is_allowed(share: f64) -> bool {
    JITTERS.contains(&share)
}

/// `share` is in a range of a few units.
pub(super) fn thousandths(share: f64) -> u16 {
    (share * f64::from(THOUSANDTHS)).round() as u16
}

pub(super) fn check_restarts(
    draft: &RestartDraft,
    flags: WorkerFlags,
    caller: Caller,
) -> Result<Restarts, InvalidWorker> {
    let RestartDraft { policy, final_codes, .. } = *draft;
    check_policy(policy)?;
    if policy == RestartPolicy::Never {
        refuse_without_restart(draft)?;
    } else if flags.contains(WorkerFlags::CLASS_PARALLEL) {
        return Err(InvalidWorker::ParallelMustNeverRestart);
    }
    if final_codes.contains(0) {
        return Err(out_of_range("final_codes", 0, "1 to 255"));
    }
    let shared = flags.contains(WorkerFlags::SHMEM_ACCESS);
    if let Some(code) = final_codes.first_from(2).filter(|_| shared) {
        let needs = "a worker without SHMEM_ACCESS; with it, the limit is 1";
        return Err(unfit("final_codes", code.to_string(), needs));
    }
    if let Some(jitter) = draft.jitter.filter(|jitter| !JITTERS.contains(jitter)) {
        return Err(out_of_range("jitter", jitter, "0 to 0.5"));
    }
    check_time("reset_after", draft.reset_after)?;
    check_ready(draft, caller)?;
    if draft.unbraked && !matches!(policy, RestartPolicy::Fixed(d) if d < millis(BRAKED_BELOW)) {
        return Err(unfit("unbraked", "set".to_owned(), "restart Fixed, with a limit of below 1s"));
    }
    let restarts = draft.resolved(nearest(policy));
    check_give_up(draft, &restarts)?;
    Ok(restarts)
}

fn check_policy(policy: RestartPolicy) -> Result<(), InvalidWorker> {
    let longest = match policy {
        RestartPolicy::Never => return Ok(()),
        RestartPolicy::Fixed(interval) => interval,
        RestartPolicy::Backoff { min, max, .. } => min.max(max),
    };
    if longest > MAX_RESTART {
        return Err(InvalidWorker::RestartOutOfRange { interval: longest, limit: MAX_RESTART });
    }
    if let RestartPolicy::Backoff { min, max, factor } = policy {
        let backoff = |name, value: String, limit| {
            Err(out_of_range("restart", format!("Backoff with {name} {value}"), limit))
        };
        if min < millis(1) {
            return backoff("min", format!("{min:?}"), "1ms to a day");
        }
        if min > max {
            return backoff("min", format!("{min:?} and max {max:?}"), "min <= max");
        }
        if !FACTORS.contains(&factor) {
            return backoff("factor", factor.to_string(), "1.0 to 10.0");
        }
    }
    Ok(())
}

/// What makes no sense for a worker that is never restarted.
fn refuse_without_restart(draft: &RestartDraft) -> Result<(), InvalidWorker> {
    let RestartDraft { on, final_codes, jitter, reset_after, give_up, .. } = draft;
    let times = reset_after.is_some() || give_up.is_some();
    if !times && on.is_none() && jitter.is_none() && *final_codes == ExitCodes::default() {
        return Ok(());
    }
    Err(needs_restart(draft))
}

#[cold]
fn needs_restart(draft: &RestartDraft) -> InvalidWorker {
    let RestartDraft { on, final_codes, jitter, reset_after, give_up, .. } = draft;
    let needs = "a restart other than Never";
    let said = [
        ("restart_on", on.map(|on| format!("{on:?}"))),
        ("final_codes", final_codes.first_from(0).map(|code| code.to_string())),
        ("jitter", jitter.map(|jitter| jitter.to_string())),
        ("reset_after", reset_after.map(|time| format!("{time:?}"))),
        ("give_up", give_up.map(|(n, within)| format!("{n} restarts in {within:?}"))),
    ];
    let (field, value) =
        said.into_iter().find_map(|(field, value)| Some((field, value?))).unwrap_or_default();
    unfit(field, value, needs)
}

fn check_time(field: &'static str, time: Option<Duration>) -> Result<(), InvalidWorker> {
    match time.filter(|&time| time < millis(1) || time > MAX_RESTART) {
        Some(time) => Err(out_of_range(field, format!("{time:?}"), "1ms to a day")),
        None => Ok(()),
    }
}

fn check_ready(draft: &RestartDraft, caller: Caller) -> Result<(), InvalidWorker> {
    match draft.ready {
        Some(ready @ Ready::Call) if caller == Caller::Command => {
            let needs = "a function, or an attached command, which can call it";
            return Err(unfit("ready", format!("{ready:?}"), needs));
        }
        Some(Ready::Newline(descriptor)) if !COMMAND_DESCRIPTORS.contains(&descriptor) => {
            return Err(out_of_range("ready", format!("Newline({descriptor})"), "3 to 63"));
        }
        Some(ready @ (Ready::Notify | Ready::Newline(_))) if !caller.is_command() => {
            let needs = "a command; a function calls Worker::ready";
            return Err(unfit("ready", format!("{ready:?}"), needs));
        }
        _ => {}
    }
    match draft.start_attempts {
        Some(attempts) if !COUNTS.contains(&attempts) => {
            Err(out_of_range("start_attempts", attempts, "1 to 100"))
        }
        Some(attempts) if draft.ready.is_none() => {
            let needs = "a worker that declares how it says ready";
            Err(unfit("start_attempts", attempts.to_string(), needs))
        }
        _ => Ok(()),
    }
}

fn check_give_up(draft: &RestartDraft, restarts: &Restarts) -> Result<(), InvalidWorker> {
    let Some((count, within)) = draft.give_up else { return Ok(()) };
    if !COUNTS.contains(&count) {
        return Err(out_of_range("give_up", format!("{count} restarts"), "1 to 100"));
    }
    check_time("give_up", Some(within))?;
    let delays = (1..=count).filter_map(|streak| restarts.delay(streak));
    let sum: Duration = delays.sum();
    if sum >= millis(whole_millis(within)) {
        return Err(InvalidWorker::UnreachableLimit { restarts: count, within, sum });
    }
    Ok(())
}

#[cold]
pub(super) fn out_of_range(
    field: &'static str,
    value: impl ToString,
    limit: &'static str,
) -> InvalidWorker {
    InvalidWorker::OutOfRange { field, value: value.to_string(), limit }
}

#[cold]
pub(super) fn unfit(field: &'static str, value: String, needs: &'static str) -> InvalidWorker {
    InvalidWorker::Unfit { field, value, needs }
}
