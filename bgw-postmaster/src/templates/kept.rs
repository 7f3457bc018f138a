//! One template: its processes, who waits for it, and what it has forked that sleeps.

use super::life::{Life, pause};
use super::process::{Hearing, Order, Process, Sleeper};
use crate::child::Said;
use crate::template::NamedTemplate;
use bgw_core::{ControlSocket, ExitCause, LastWords};
use shmem_slots::Key;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many children a template is told to fork before it has reported the first.
const ORDERS: usize = 8;
/// The longest pause after children of it that were lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How many messages of a template are read before other events are handled.
const MESSAGES_IN_A_ROW: usize = 16;

/// One template.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) made: Rc<NamedTemplate>,
    pub(super) life: Life,
    /// The one that forks.
    pub(super) current: Option<Process>,
    /// The one that loads.
    pub(super) loading: Option<Process>,
    /// Why the last load has failed, until one succeeds.
    pub(super) failure: Option<String>,
    /// Workers that wait for a child of it, in their order.
    pub(super) waiting: VecDeque<Key>,
    pub(super) asleep: Vec<Sleeper>,
    /// How many of its children in a row died before they took a worker, or could not be forked.
    pub(super) lost: u32,
    /// No child is ordered before.
    pub(super) order_after: Option<Instant>,
    /// Who waits for the load under way.
    pub(super) asked: Option<ControlSocket>,
}

/// What a template has said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It can fork. With the number of the one before, if there was one.
    Loaded,
    /// It has forked this child, as it says.
    Forked(Order),
    /// It has not forked, and says why.
    NotForked { order: Order, why: String },
}

/// A template process that has ended.
#[derive(Debug)]
pub(crate) struct Gone {
    /// What it has not reported. A child of it may be there all the same.
    pub(crate) orders: VecDeque<Order>,
    /// Those who waited for it in vain, and why.
    pub(crate) failed: Option<(VecDeque<Key>, LastWords)>,
    /// Who has asked for it, and why it could not be loaded.
    pub(crate) answer: Option<(ControlSocket, String)>,
}

impl Kept {
    pub(super) fn new(made: Rc<NamedTemplate>, now: Instant) -> Self {
        let at_start = (!made.settings.on_first_use).then_some(now);
        Self {
            life: Life::new(made.settings.load_timeout, at_start),
            made,
            current: None,
            loading: None,
            failure: None,
            waiting: VecDeque::new(),
            asleep: Vec::new(),
            lost: 0,
            order_after: None,
            asked: None,
        }
    }

    /// When there is something to do; only what is late if the postmaster stops.
    pub(super) fn due(&self, starts_workers: bool) -> Option<Instant> {
        let orders = self.current.iter().filter_map(|process| process.orders.front());
        let late = orders.map(|order| order.deadline);
        if !starts_workers {
            return late.chain(self.life.deadline()).min();
        }
        let order = self.order_after.filter(|_| self.is_short());
        late.chain(self.life.next()).chain(order).min()
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.current.iter().chain(&self.loading).any(|process| process.number == number)
    }

    /// True if more children are wanted than sleep or are ordered, and one can be ordered.
    pub(super) fn is_short(&self) -> bool {
        let Some(process) = &self.current else { return false };
        let wanted = self.waiting.len().saturating_add(self.made.settings.spares);
        process.orders.len() < ORDERS && self.asleep.len() + process.orders.len() < wanted
    }

    /// A child is lost, or was not forked: the next one is ordered after a pause.
    pub(super) fn lose(&mut self, now: Instant) {
        self.lost = self.lost.saturating_add(1);
        self.order_after = now.checked_add(pause(self.lost).min(LONGEST_PAUSE));
    }

    /// The one that loads is the one that forks. The one before ends.
    /// Returns its socket.
    pub(super) fn loaded(&mut self, leaving: &mut Vec<Process>, now: Instant) -> Option<OwnedFd> {
        let before = self.current.take().map(|mut before| {
            before.kill();
            let socket = before.socket.take();
            leaving.push(before);
            socket
        });
        self.current = self.loading.take();
        self.life.loaded(now);
        self.failure = None;
        (self.lost, self.order_after) = (0, None);
        tracing::info!("template \"{}\" is loaded", self.made.name);
        before.flatten()
    }

    pub(super) fn load_failed(&mut self, why: &str, now: Instant) -> Gone {
        tracing::error!("template \"{}\" could not be loaded: {why}", self.made.name);
        self.failure = Some(why.to_owned());
        let tell = self.life.load_failed(now);
        let text = words(&self.made.name, why);
        let answer = self.asked.take().map(|asked| (asked, text.to_string()));
        let failed = tell.then(|| (std::mem::take(&mut self.waiting), text));
        Gone { orders: VecDeque::new(), failed, answer }
    }

    /// What process `number` says, a bounded part of it.
    pub(super) fn hear(
        &mut self,
        number: u64,
        now: Instant,
        leaving: &mut Vec<Process>,
        closed: &mut Vec<OwnedFd>,
    ) -> Vec<Heard> {
        let mut heard = Vec::new();
        for _ in 0..MESSAGES_IN_A_ROW {
            let loads = self.loading.as_ref().is_some_and(|process| process.number == number);
            let process = if loads { &mut self.loading } else { &mut self.current };
            let Some(process) = process else { break };
            match process.hear() {
                Hearing::Nothing => break,
                Hearing::Said(Said::Failed(why)) if loads => process.why = Some(why),
                Hearing::Said(Said::Loaded) if loads => {
                    closed.extend(self.loaded(leaving, now));
                    heard.push(Heard::Loaded);
                }
                Hearing::Said(said) if !loads => match process.answered(said) {
                    Some((order, None)) => heard.push(Heard::Forked(order)),
                    Some((order, Some(why))) => {
                        self.lose(now);
                        heard.push(Heard::NotForked { order, why });
                    }
                    None => {
                        closed.extend(process.nonsense(&self.made.name));
                        break;
                    }
                },
                Hearing::Said(_) | Hearing::Nonsense => {
                    closed.extend(process.nonsense(&self.made.name));
                    break;
                }
                Hearing::Closed => {
                    process.kill();
                    closed.extend(process.socket.take());
                    break;
                }
            }
        }
        heard
    }

    /// Kills what is late.
    pub(super) fn end_late(&mut self, now: Instant) {
        let name = &self.made.name;
        if self.life.is_late(now)
            && let Some(process) = &mut self.loading
        {
            let limit = self.made.settings.load_timeout;
            tracing::warn!("template \"{name}\" has not loaded within {limit:?}; killing it");
            process.why = Some(format!("it did not load within {limit:?}"));
            process.kill();
        }
        let late = |process: &&mut Process| {
            process.orders.front().is_some_and(|order| order.deadline <= now)
        };
        if let Some(process) = self.current.as_mut().filter(late) {
            let limit = self.made.settings.fork_timeout;
            tracing::warn!("template \"{name}\" has not forked within {limit:?}; killing it");
            process.kill();
            // It is killed again if it is not gone by then.
            let again = now.checked_add(limit.max(Duration::from_millis(100))).unwrap_or(now);
            process.orders.iter_mut().for_each(|order| order.deadline = again);
        }
    }
}

pub(super) fn ended_by(cause: ExitCause) -> String {
    format!("its process {cause}")
}

/// Why a worker of the template called `name` is not started.
pub(super) fn words(name: &str, why: &str) -> LastWords {
    LastWords::of_error(&*Box::<dyn std::error::Error>::from(format!("template \"{name}\": {why}")))
}
