//! One wait for one worker, and when it is over. Pure but for the waker.

use super::subscriber::Subscriber;
use crate::until::{Until, has_ended};
use bgw_core::WorkerHandle;
use bgw_core::internals::{RunState, flag, run_state};
use shmem_slots::{Key, Snapshot};
use std::sync::Arc;
use std::task::Waker;

/// How a worker is, as far as whoever watches it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    state: RunState,
    ready: bool,
    ended: bool,
}

impl Stage {
    /// A worker that was registered just now.
    pub(super) const REGISTERED: Self =
        Self { state: RunState::NotYetStarted, ready: false, ended: false };

    pub(super) const fn has_ended(self) -> bool {
        self.ended
    }

    const OVER: Self = Self { state: RunState::Stopped, ready: false, ended: true };

    /// The stage that the slot's word stands for; `None`: the slot has another tenant.
    pub(super) fn of(word: Option<Snapshot>) -> Self {
        word.map_or(Self::OVER, |word| Self {
            state: run_state(word),
            ready: word.flags() & flag::READY != 0,
            ended: has_ended(word),
        })
    }
}

/// Who waits, and for what.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A future, to be woken once its wait is over.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only futures wait so"))]
    Future { until: Until, waker: Waker },
    /// A descriptor, to be rung at each change.
    Descriptor { subscriber: Arc<Subscriber>, handle: WorkerHandle, seen: Stage },
}

impl Waiter {
    /// Looks at the word of its slot, or at `None` if the slot has another tenant. A future whose
    /// wait is over goes to `woken`. False when nothing is left to wait for.
    pub(super) fn look(&mut self, word: Option<Snapshot>, woken: &mut Vec<Waker>) -> bool {
        match self {
            Self::Future { until, waker } => {
                if word.is_some_and(|word| !until.is_over(word)) {
                    return true;
                }
                woken.push(waker.clone());
                false
            }
            Self::Descriptor { subscriber, handle, seen } => {
                let now = Stage::of(word);
                if now != *seen {
                    *seen = now;
                    subscriber.tell(*handle);
                }
                !now.ended
            }
        }
    }

    /// Nothing will come any more, or every wait is to be cut short.
    pub(super) fn give_up(self, woken: &mut Vec<Waker>) {
        match self {
            Self::Future { waker, .. } => woken.push(waker),
            Self::Descriptor { subscriber, handle, .. } => subscriber.tell(handle),
        }
    }

    pub(super) const fn is_future(&self) -> bool {
        matches!(self, Self::Future { .. })
    }

    pub(super) fn is_of(&self, whose: &Arc<Subscriber>) -> bool {
        matches!(self, Self::Descriptor { subscriber, .. } if Arc::ptr_eq(subscriber, whose))
    }
}

/// A waiter, and the registration that it waits for.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) waiter: Waiter,
}
