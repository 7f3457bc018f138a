//! The oracle: what one process after the other would have seen, handle by handle.
//!
//! It knows no clock but the tickets: of two events the first came before the second if it ended
//! before the second began; otherwise either order is possible, and nothing is concluded.
//!
//! | rule | violated by |
//! |---|---|
//! | a status never goes back | "not yet started" after "started", anything after the end for good |
//! | a worker that is not restarted lives once | a second beginning, another pid |
//! | nothing runs after its end | a beginning after somebody saw the end |
//! | a report says what the worker did | another code or signal, a request that nobody made |
//! | a report stays the same | two observers of one life with different reports |
//! | a wait for the end for good is the last word | a report that says that it will be restarted |
//! | a wait ends | one that timed out although the end was there before it began |
//! | an end is told | a registrant whose first look at an ended worker finds no report |
//! | a generation is used once | two registrations with one name, or a later one with a lower number |

use crate::job::{Job, Restart, Terminate, Way};
use crate::journal::{Deed, Event, Kind};
use crate::seen::{Cause, Report, Seen, Why, by};
use bgw_backend::WorkerHandle;
use std::collections::{BTreeMap, HashMap};

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) handle: WorkerHandle,
    pub(crate) what: String,
}

/// What came of a journal.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) registered: usize,
    /// First looks of registrants at an ended worker.
    pub(crate) first_looks: usize,
    /// Those that found no report.
    pub(crate) ends_lost: usize,
}

/// Judges a journal. With `every_end_is_told`, a lost end is a violation, but for those of the
/// parallel class.
pub(crate) fn judge(events: &[Event], every_end_is_told: bool) -> Verdict {
    judge_all(events, every_end_is_told, false)
}

/// The same of a cluster whose workers may be killed at a fault point.
#[cfg(feature = "fault")]
pub(crate) fn judge_with_faults(events: &[Event], every_end_is_told: bool) -> Verdict {
    judge_all(events, every_end_is_told, true)
}

fn judge_all(events: &[Event], every_end_is_told: bool, faults: bool) -> Verdict {
    let mut histories: BTreeMap<WorkerHandle, History> = BTreeMap::new();
    for event in events {
        if event.handle != crate::journal::NOBODY {
            histories.entry(event.handle).or_default().events.push(*event);
        }
    }
    let resets = Resets::find(events);
    let mut verdict = Verdict::default();
    generations(events, &mut verdict.violations);
    for (handle, history) in &mut histories {
        let Some(job) = history.job() else { continue };
        verdict.registered += 1;
        history.faults = faults;
        history.template_fails = faults || resets.template_killed;
        history.disturbed = resets.hit(*handle) || resets.ended;
        history.after_reset = resets.began(*handle);
        let first = history.saws().find(|(event, _)| event.c & by::FIRST != 0);
        if let Some((_, seen)) = first {
            verdict.first_looks += 1;
            if seen == Seen::Stopped(None) {
                verdict.ends_lost += 1;
                // The parallel class has few slots: all of them may hold unread ends.
                if every_end_is_told && !job.parallel {
                    let what = "the registrant's first look finds no report".to_owned();
                    verdict.violations.push(Violation { handle: *handle, what });
                }
            }
        }
        let mut found = Vec::new();
        history.order(&mut found);
        history.lives(job, &mut found);
        history.reports(job, &mut found);
        history.waits(&mut found);
        let named = found.into_iter().map(|what| Violation { handle: *handle, what });
        verdict.violations.extend(named);
    }
    verdict
}

/// Which lives of the slots came to an end.
struct Resets {
    first: Option<u32>,
    last: Option<u32>,
    ended: bool,
    /// Somebody killed the template.
    template_killed: bool,
}

impl Resets {
    fn find(events: &[Event]) -> Self {
        let registered = || events.iter().filter(|event| event.kind == Kind::Registered);
        let incarnation = |event: &Event| event.handle.incarnation();
        let first = registered().min_by_key(|event| event.end).map(incarnation);
        let last = registered().max_by_key(|event| event.end).map(incarnation);
        let any = |deed: Deed| {
            events.iter().any(|event| event.kind == Kind::Did && event.a == deed as u64)
        };
        let (ended, template_killed) = (any(Deed::Ended), any(Deed::KilledTemplate));
        Self { first, last, ended, template_killed }
    }

    /// True if a reset began the handle's incarnation.
    fn began(&self, handle: WorkerHandle) -> bool {
        self.first.is_some_and(|first| first != handle.incarnation())
    }

    fn hit(&self, handle: WorkerHandle) -> bool {
        self.last.is_some_and(|last| last != handle.incarnation())
    }
}

fn generations(events: &[Event], violations: &mut Vec<Violation>) {
    let mut slots: HashMap<u32, Vec<&Event>> = HashMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Registered) {
        slots.entry(event.handle.slot()).or_default().push(event);
    }
    for mut registered in slots.into_values() {
        registered.sort_by_key(|event| event.handle.generation());
        for pair in registered.windows(2) {
            let [low, high] = pair else { continue };
            let same = low.handle.generation() == high.handle.generation();
            if same || high.end < low.begin {
                let what = format!("its generation was used again, see {}", low.handle);
                violations.push(Violation { handle: high.handle, what });
            }
        }
    }
}

/// All events of one handle, by their beginning.
#[derive(Debug, Default)]
struct History {
    events: Vec<Event>,
    /// A reset or the end of the cluster may have ended it.
    disturbed: bool,
    /// A reset began its incarnation. It may have ended a registration that it overtook, whose
    /// handle is made afterwards, in the new incarnation.
    after_reset: bool,
    /// Its process may have been killed at a fault point.
    faults: bool,
    /// Its template may have been killed.
    template_fails: bool,
}

impl History {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.kind == kind)
    }

    fn job(&self) -> Option<Job> {
        self.of(Kind::Registered).next().map(|event| Job::decode(event.a))
    }

    fn saws(&self) -> impl Iterator<Item = (&Event, Seen)> {
        self.of(Kind::Saw).map(|event| (event, Seen::decode(event.a, event.b)))
    }

    fn order(&self, found: &mut Vec<String>) {
        let rank = |seen: Seen| match seen {
            Seen::NotYetStarted => 0,
            seen if seen.is_final() => 2,
            _ => 1,
        };
        // A spare that is killed before it takes its worker gives it back.
        let given_back = self.faults || self.of(Kind::Signalled).next().is_some();
        for (later, after) in self.saws() {
            if after == Seen::NotYetStarted && given_back {
                continue;
            }
            let goes_back = self.saws().find(|(earlier, before)| {
                earlier.end < later.begin
                    && rank(*before) > rank(after)
                    && after != Seen::PostmasterDied
            });
            if let Some((_, before)) = goes_back {
                found.push(format!("{after:?} was seen after {before:?}"));
                return;
            }
        }
    }

    fn lives(&self, job: Job, found: &mut Vec<String>) {
        let lives: Vec<&Event> = self.of(Kind::Began).collect();
        if job.restart == Restart::Never && lives.len() > 1 {
            found.push(format!("it was started {} times and is never restarted", lives.len()));
        }
        let ended = self.saws().filter(|(_, seen)| seen.is_final()).map(|(event, _)| event.end);
        if let Some(ended) = ended.min()
            && lives.iter().any(|life| life.begin > ended)
        {
            found.push("it began after its end was seen".to_owned());
        }
        if let Some(told) = self.of(Kind::Terminated).map(|event| event.end).min() {
            let after = lives.iter().filter(|life| life.begin > told).count();
            if after > 1 {
                found.push(format!("it was started {after} times after its end was requested"));
            }
        }
        let [only] = lives[..] else { return };
        for (_, seen) in self.saws() {
            let pid = match seen {
                Seen::Started { pid } => pid,
                Seen::Stopped(Some(report)) => report.pid,
                _ => 0,
            };
            // A spare that is killed before it begins is replaced: the worker has not run.
            let spare_killed =
                self.faults || self.of(Kind::Signalled).any(|event| event.a == u64::from(pid));
            let other = pid != 0 && u64::from(pid) != only.a && !spare_killed;
            if job.restart == Restart::Never && other {
                found.push(format!("process {pid} was seen, and it ran as {}", only.a));
                return;
            }
        }
    }

    fn reports(&self, job: Job, found: &mut Vec<String>) {
        let mut lives: HashMap<u32, Report> = HashMap::new();
        for (_, seen) in self.saws() {
            let Seen::Stopped(Some(report)) = seen else { continue };
            if let Some(why) = self.contradicts(job, report) {
                found.push(format!("{why}: {report:?}"));
                return;
            }
            // An attempt to start it: another one follows, or its end.
            if matches!(report.cause, Cause::NotStarted(_)) && !report.unregistered {
                continue;
            }
            let first = lives.entry(report.restarts).or_insert(report);
            if (first.cause, first.pid) != (report.cause, report.pid) {
                found.push(format!("two reports of one life: {first:?}, {report:?}"));
                return;
            }
        }
    }

    /// Why a report cannot be true.
    fn contradicts(&self, job: Job, report: Report) -> Option<&'static str> {
        let terminated = self.of(Kind::Terminated).next().is_some();
        let by_reset = self.after_reset && report.cause == Cause::NotStarted(Why::Reset);
        if report.requested && !terminated && !self.disturbed && !by_reset {
            return Some("nobody has requested this end");
        }
        if report.restarts > 0 && job.restart == Restart::Never {
            return Some("a restart of a worker that is never restarted");
        }
        if (report.pid == 0) != matches!(report.cause, Cause::NotStarted(_)) {
            return Some("a process where there was none, or none where there was one");
        }
        let signals = || self.of(Kind::Signalled).map(|event| event.b);
        let by_signal = signals().any(|signal| by_signal(job, signal as u8, report.cause));
        let possible = by_itself(job) == Some(report.cause)
            || by_signal
            || (self.faults && report.cause == Cause::Signaled(9))
            || (self.template_fails
                && job.template
                && report.cause == Cause::NotStarted(Why::Template))
            || (terminated && by_terminate(job, report.cause))
            || (self.disturbed && by_end_of_cluster(job, report.cause))
            || by_reset;
        (!possible).then_some("the worker cannot have ended so")
    }

    fn waits(&self, found: &mut Vec<String>) {
        for (event, seen) in self.saws().filter(|(event, _)| event.c & by::END != 0) {
            // A reset ends a registration whose report says that it will be restarted.
            if !seen.is_final() && seen != Seen::PostmasterDied && !self.disturbed {
                let at = event.at;
                found.push(format!("a wait for its end for good ended at {at} ms with {seen:?}"));
                return;
            }
        }
        for wait in self.of(Kind::TimedOut) {
            let there = self.saws().find(|(saw, seen)| seen.is_final() && saw.end < wait.begin);
            if let Some((_, seen)) = there {
                found.push(format!("a wait timed out after somebody saw {seen:?}"));
                return;
            }
        }
    }
}

/// How it ends when nobody does anything to it.
fn by_itself(job: Job) -> Option<Cause> {
    job.after?;
    Some(match job.way {
        Way::Return => Cause::Exited(0),
        Way::Fail | Way::Panic => Cause::Exited(1),
        Way::Exit(code) => Cause::Exited(code),
        // It returns before it looks whether a signal came.
        Way::Raise(15) => Cause::Exited(0),
        Way::Raise(signal) => Cause::Signaled(signal),
    })
}

/// What SIGTERM makes of it.
fn by_sigterm(job: Job, cause: Cause) -> bool {
    match (job.command, job.terminate) {
        (true, _) => cause == Cause::Signaled(15),
        (false, Terminate::Heeds) => cause == Cause::Exited(0),
        (false, Terminate::Default) => cause == Cause::Exited(1),
        (false, Terminate::Ignores) => false,
    }
}

fn by_terminate(job: Job, cause: Cause) -> bool {
    // Killed when its grace time was over, also if it was slow.
    let killed = cause == Cause::Signaled(9);
    killed || cause == Cause::NotStarted(Why::Terminated) || by_sigterm(job, cause)
}

fn by_signal(job: Job, signal: u8, cause: Cause) -> bool {
    match signal {
        15 => by_sigterm(job, cause),
        1 => job.command && cause == Cause::Signaled(1),
        _ => cause == Cause::Signaled(signal),
    }
}

/// SIGTERM or SIGQUIT, and SIGKILL at last.
fn by_end_of_cluster(job: Job, cause: Cause) -> bool {
    let quit = [Cause::Exited(2), Cause::Signaled(3), Cause::Signaled(9)];
    let never = [Why::Reset, Why::ShuttingDown, Why::Terminated].map(Cause::NotStarted);
    quit.contains(&cause) || never.contains(&cause) || by_sigterm(job, cause)
}

#[cfg(test)]
mod tests;
