//! The owner of all templates: their processes, who waits for them, and what they have forked that
//! sleeps.

use super::kept::{Gone, Heard, Kept, ended_by, words};
use super::life::Want;
use super::process::{Order, Process, Sleeper};
use crate::children::Spare;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::roster::{Place, Roster};
use crate::template::NamedTemplate;
use bgw_core::internals::pidfd;
use bgw_core::{ControlSocket, LastWords, Pid};
use shmem_slots::Key;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many processes, for each template, the roster has room for: old, new and killed templates,
/// orders, spares.
const PLACES: u32 = 16;
/// How long the postmaster, which ends itself, waits for the templates that it has killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// All templates.
#[derive(Debug)]
pub(crate) struct Templates {
    all: Vec<Kept>,
    /// Killed or dead, and not reaped.
    leaving: Vec<Process>,
    /// Sockets that are not listened to any more.
    closed: Vec<OwnedFd>,
    next: u64,
    floor: DescriptorFloor,
    roster: Arc<Roster>,
}

/// A template that is about to be forked: what it needs.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) made: Rc<NamedTemplate>,
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Start {
    /// The number of its socket, for the child.
    pub(crate) fn socket(&self) -> RawFd {
        self.theirs.as_raw_fd()
    }
}

impl Templates {
    pub(crate) fn new(
        made: Vec<Rc<NamedTemplate>>,
        floor: DescriptorFloor,
        roster: Arc<Roster>,
    ) -> Self {
        let now = Instant::now();
        Self {
            all: made.into_iter().map(|made| Kept::new(made, now)).collect(),
            leaving: Vec::new(),
            closed: Vec::new(),
            next: 0,
            floor,
            roster,
        }
    }

    /// How many places of the roster templates need that are kept like this.
    pub(crate) fn places(made: &[Rc<NamedTemplate>]) -> u32 {
        made.iter().map(|made| PLACES + made.settings.spares as u32).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The number of the template of this name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|kept| kept.made.name == name)
    }

    /// True if `pid` is that of a template, or of a child of one that sleeps.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        let processes = self.all.iter().flat_map(|kept| kept.current.iter().chain(&kept.loading));
        let asleep = self.all.iter().flat_map(|kept| &kept.asleep);
        processes.chain(&self.leaving).any(|process| process.pid == pid)
            || asleep.map(|sleeper| sleeper.spare.pid).any(|other| other == pid)
    }

    /// When there is something to do; only what is late if the postmaster stops.
    pub(crate) fn due(&self, starts_workers: bool) -> Option<Instant> {
        let due = |kept: &Kept| kept.due(starts_workers);
        self.all.iter().filter_map(due).min()
    }

    // Loads.

    /// A template whose load is to begin now, and what it needs.
    pub(crate) fn begin_load(&mut self, now: Instant) -> Option<(usize, io::Result<Start>)> {
        let at = self.all.iter_mut().position(|kept| kept.life.begin(now))?;
        let made = Rc::clone(&self.all.get(at)?.made);
        let floor = self.floor;
        let start = || {
            let (ours, theirs) = ControlSocket::pair()?;
            let ours = ControlSocket::from(floor.move_above(ours)?);
            ours.set_nonblocking(true)?;
            let _ = ours.refuse_descriptors();
            Ok(Start { made, ours: ours.into(), theirs: floor.move_clear(theirs)? })
        };
        Some((at, start()))
    }

    /// It was forked. Returns its number, end and socket, to be watched.
    pub(crate) fn begun(
        &mut self,
        at: usize,
        start: Start,
        (pid, place): (Pid, Place),
        pidfd: OwnedFd,
    ) -> Option<(u64, &OwnedFd, Option<&OwnedFd>)> {
        self.next += 1;
        let (number, socket) = (self.next, Some(start.ours));
        let orders = VecDeque::new();
        let process = Process { number, pid, place, pidfd, socket, orders, why: None };
        let process = self.all.get_mut(at)?.loading.insert(process);
        Some((number, &process.pidfd, process.socket.as_ref()))
    }

    /// It could not be forked.
    pub(crate) fn not_begun(&mut self, at: usize, error: &io::Error, now: Instant) -> Option<Gone> {
        let kept = self.all.get_mut(at)?;
        Some(kept.load_failed(&format!("forking it failed: {error}"), now))
    }

    /// Another one is to be loaded now, and to take the place of the one before. `false`: one is
    /// being loaded. `asked` is answered when it has come to an end.
    pub(crate) fn refork(&mut self, at: usize, asked: ControlSocket, now: Instant) -> bool {
        let Some(kept) = self.all.get_mut(at).filter(|kept| kept.asked.is_none()) else {
            return false;
        };
        let begins = kept.life.refork(now);
        if begins {
            kept.asked = Some(asked);
        }
        begins
    }

    // Who waits.

    /// The worker of `key` waits for a child of the template, or is refused.
    pub(crate) fn wait(&mut self, at: usize, key: Key, now: Instant) -> Want {
        let Some(kept) = self.all.get_mut(at) else { return Want::Refused };
        let want = kept.life.want(now);
        if want == Want::Wait && !kept.waiting.contains(&key) {
            kept.waiting.push_back(key);
        }
        want
    }

    /// Why whoever comes now is refused.
    pub(crate) fn refusal(&self, at: usize) -> LastWords {
        let kept = self.all.get(at);
        let name = kept.map_or("", |kept| kept.made.name.as_str());
        let why =
            kept.and_then(|kept| kept.failure.as_deref()).unwrap_or("its processes have died");
        words(name, &format!("{why}; it is loaded again after a pause"))
    }

    /// The first who waits.
    pub(crate) fn next_waiting(&mut self, at: usize) -> Option<Key> {
        self.all.get_mut(at)?.waiting.pop_front()
    }

    /// True if somebody waits.
    pub(crate) fn is_awaited(&self, at: usize) -> bool {
        self.all.get(at).is_some_and(|kept| !kept.waiting.is_empty())
    }

    /// Who waits is told of a failure: all of them, since each would have met it.
    pub(crate) fn give_up(&mut self, at: usize, why: &str) -> (VecDeque<Key>, LastWords) {
        let Some(kept) = self.all.get_mut(at) else { return (VecDeque::new(), words("", why)) };
        (std::mem::take(&mut kept.waiting), words(&kept.made.name, why))
    }

    /// Takes those off who do not wait any more.
    pub(crate) fn retain(&mut self, waits: impl Fn(Key) -> bool) {
        self.all.iter_mut().for_each(|kept| kept.waiting.retain(|&key| waits(key)));
    }

    // What sleeps.

    /// A child of the template that has not died in its sleep. Those that have are `put_away`.
    pub(crate) fn take_sleeper(
        &mut self,
        at: usize,
        now: Instant,
        mut put_away: impl FnMut(Spare),
    ) -> Option<Sleeper> {
        let kept = self.all.get_mut(at)?;
        loop {
            let sleeper = kept.asleep.pop()?;
            if matches!(pidfd::wait_for_end(&sleeper.spare.pidfd, Some(now)), Ok(false)) {
                return Some(sleeper);
            }
            kept.lose(now);
            put_away(sleeper.spare);
        }
    }

    pub(crate) fn add_sleeper(&mut self, at: usize, sleeper: Sleeper) {
        if let Some(kept) = self.all.get_mut(at) {
            kept.asleep.push(sleeper);
        }
    }

    /// The poller reports the end of spare `number`, which may be one of ours.
    pub(crate) fn sleeper_ended(&mut self, number: u64, now: Instant) -> Option<Spare> {
        for kept in &mut self.all {
            let has_number = |sleeper: &Sleeper| sleeper.spare.number == number;
            if let Some(place) = kept.asleep.iter().position(has_number) {
                kept.lose(now);
                return Some(kept.asleep.swap_remove(place).spare);
            }
        }
        None
    }

    /// A child that was given a worker has died before it took it (`true`), or not.
    pub(crate) fn taken(&mut self, at: usize, lost: bool, now: Instant) {
        match self.all.get_mut(at) {
            Some(kept) if lost => kept.lose(now),
            Some(kept) => {
                (kept.lost, kept.order_after) = (0, None);
                kept.life.served();
            }
            None => {}
        }
    }

    /// One more sleeps than are wanted.
    pub(crate) fn surplus(&mut self) -> Option<Spare> {
        let kept = self.all.iter_mut().find(|kept| {
            kept.waiting.is_empty() && kept.asleep.len() > kept.made.settings.spares
        })?;
        kept.asleep.pop().map(|sleeper| sleeper.spare)
    }

    // Orders.

    /// Has the templates fork as many children as are wanted.
    pub(crate) fn order(&mut self, now: Instant) {
        for kept in &mut self.all {
            while kept.is_short() && kept.order_after.is_none_or(|at| at <= now) {
                let deadline = now.checked_add(kept.made.settings.fork_timeout).unwrap_or(now);
                let Some(process) = &mut kept.current else { break };
                let ordered = self.roster.take().and_then(|place| {
                    let ordered = process.order(place, deadline, self.floor);
                    ordered.inspect_err(|_| self.roster.release(place))
                });
                if let Err(error) = ordered {
                    tracing::warn!("template \"{}\" was told nothing: {error}", kept.made.name);
                    kept.lose(now);
                }
            }
        }
    }

    /// What template process `number` says, a bounded part of it, and which template it is of.
    pub(crate) fn hear(&mut self, number: u64, now: Instant) -> Option<(usize, Vec<Heard>)> {
        let at = self.all.iter().position(|kept| kept.has(number))?;
        let kept = self.all.get_mut(at)?;
        let heard = kept.hear(number, now, &mut self.leaving, &mut self.closed);
        Some((at, heard))
    }

    /// Sockets that need not be watched any more.
    pub(crate) fn take_closed(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.closed)
    }

    /// Who has asked for the load that has come to an end.
    pub(crate) fn take_asked(&mut self, at: usize) -> Option<ControlSocket> {
        self.all.get_mut(at)?.asked.take()
    }

    /// The children of the one before that sleep: they have what that one has loaded.
    pub(crate) fn take_asleep(&mut self, at: usize) -> Vec<Spare> {
        let asleep = self.all.get_mut(at).map(|kept| std::mem::take(&mut kept.asleep));
        asleep.into_iter().flatten().map(|sleeper| sleeper.spare).collect()
    }

    /// What the current one of the template has said cannot be true.
    pub(crate) fn end_liar(&mut self, at: usize) {
        let Some(kept) = self.all.get_mut(at) else { return };
        if let Some(process) = &mut kept.current {
            self.closed.extend(process.nonsense(&kept.made.name));
        }
    }

    // Ends.

    /// Kills those that are late.
    pub(crate) fn end_late(&mut self, now: Instant) {
        for kept in &mut self.all {
            kept.end_late(now);
        }
    }

    /// The poller reports the end of template process `number`. `None`: it has not ended.
    pub(crate) fn ended(&mut self, number: u64, now: Instant) -> Option<Gone> {
        let roster = Arc::clone(&self.roster);
        let release = |place| roster.release(place);
        if let Some(at) = self.leaving.iter().position(|process| process.number == number) {
            self.leaving.get(at)?.reap(release)?;
            let orders = self.leaving.swap_remove(at).orders;
            return Some(Gone { orders, failed: None, answer: None });
        }
        let kept = self.all.iter_mut().find(|kept| kept.has(number))?;
        let loads = kept.loading.as_ref().is_some_and(|process| process.number == number);
        let process = if loads { &mut kept.loading } else { &mut kept.current };
        let cause = process.as_ref()?.reap(release)?;
        let process = process.take()?;
        if loads {
            let why = process.why.unwrap_or_else(|| ended_by(cause));
            return Some(kept.load_failed(&why, now));
        }
        tracing::warn!(
            "template \"{}\" (PID {}) {cause}; loading another one",
            kept.made.name,
            process.pid
        );
        let failed = kept.life.died(now).then(|| {
            let why = "one process after the other has died soon after it had loaded";
            (std::mem::take(&mut kept.waiting), words(&kept.made.name, why))
        });
        Some(Gone { orders: process.orders, failed, answer: None })
    }

    /// Ends all: the postmaster itself ends. Returns what sleeps, to be put away, and the orders
    /// under way. One whose tracer holds its end back is left to the tracer.
    pub(crate) fn end_all(&mut self) -> (Vec<Spare>, Vec<Order>) {
        let (mut spares, mut orders) = (Vec::new(), Vec::new());
        let mut processes = std::mem::take(&mut self.leaving);
        for kept in std::mem::take(&mut self.all) {
            processes.extend(kept.current.into_iter().chain(kept.loading));
            spares.extend(kept.asleep.into_iter().map(|sleeper| sleeper.spare));
        }
        processes.iter().for_each(Process::kill);
        let deadline = Instant::now() + END_LIMIT;
        for process in processes {
            let _ = pidfd::wait_for_end(&process.pidfd, Some(deadline));
            if process.reap(|place| self.roster.release(place)).is_none() {
                tracing::warn!("template process {} is traced, left to its tracer", process.pid);
            }
            orders.extend(process.orders);
        }
        (spares, orders)
    }
}
