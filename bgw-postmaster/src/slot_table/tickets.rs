//! A slot that becomes free goes to whoever has waited for it longest, without being free in
//! between.
//!
//! A waiter holds one end of a socket pair. It sends its description there and shuts its side down
//! when it gives up. The kernel orders that against the answer: an answer that could be sent is
//! read by the waiter, even after its deadline, and nothing can be sent to a waiter that has given
//! up, so its slot goes to the next one.

use super::intake::Refused;
use super::queue::Turn;
use super::table::{Registrant, SlotTable};
use super::waiter::{Said, Wanted, said_by};
use crate::fault;
use crate::rules::{Event, NotifyTarget, Registry};
use bgw_core::internals::{
    CorruptRecord, Reply, ReportRecord, SlotClass, Surroundings, WorkerRecord, WorkerSlots,
};
use bgw_core::{BackgroundWorker, Pid, Refusal};
use shmem_slots::Region;
use std::sync::Arc;

type Claim<'a> = shmem_slots::Claim<'a, WorkerRecord, ReportRecord, Region>;

impl SlotTable {
    /// Ticket `number` has said something: what it waits for, or that it waits no longer.
    pub(crate) fn ticket_spoke(
        &mut self,
        number: u64,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        let (waiter, waits) = self.tickets.get(number)?;
        match said_by(waiter) {
            Ok(None) => {}
            Ok(Some(Said { record, rest })) if !waits => {
                let pid = waiter.pid;
                match self.check_wanted(&record, &rest, pid) {
                    Ok(worker) => {
                        if let Some(name) = waiter.missing_gift(&worker) {
                            let detail = format!("the descriptor \"{name}\" did not arrive");
                            let waiter = self.tickets.give_up(number)?;
                            waiter.refuse(Refusal::Malformed, &detail);
                            return None;
                        }
                        let class = self.classes.of(&worker).unwrap_or(SlotClass::Common);
                        let waits = waiter.waits;
                        self.tickets.wait(number, class, Wanted { record, worker, pid });
                        fault::point("ticket:waits");
                        // Before the look at the slots.
                        self.say_whether_somebody_waits(true);
                        let served = self.serve_from_free(registry, resolve);
                        if !waits && let Some(waiter) = self.tickets.give_up(number) {
                            waiter.refuse(Refusal::NoFreeSlot, "all are taken");
                        }
                        return served;
                    }
                    Err(refused) => {
                        let waiter = self.tickets.give_up(number)?;
                        waiter.refuse(Refusal::NotAllowed, &refused.to_string());
                    }
                }
            }
            Ok(Some(_)) | Err(_) => drop(self.tickets.give_up(number)),
        }
        None
    }

    /// Checks a description of process `pid`, and what does not lie in a slot with it.
    fn check_wanted(
        &self,
        record: &WorkerRecord,
        rest: &[u8],
        pid: Pid,
    ) -> Result<Box<BackgroundWorker>, Refused> {
        let mut worker = self.check_worker(record, Some(pid))?;
        if !rest.is_empty() {
            let surroundings = Surroundings::decode(rest)?;
            worker.set_surroundings(surroundings).map_err(CorruptRecord::from)?;
        }
        Ok(worker)
    }

    /// Gives the next one that waits a slot that is free, if there is any. A slot that has a worker
    /// on the list is not, whatever it looks like.
    pub(crate) fn serve_from_free(
        &mut self,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        // Those that have waited longest first: another one may have a slot that they may not.
        let classes = self.tickets.classes();
        classes.into_iter().find_map(|class| self.serve_class(class, registry, &resolve))
    }

    /// Gives a slot that those of `class` may have to the next one that waits for it.
    fn serve_class(
        &mut self,
        class: SlotClass,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        if !self.tickets_wait([class].into_iter()) {
            return None;
        }
        let slots = Arc::clone(&self.slots);
        for _ in 0..=slots.capacity() {
            let ranges = self.classes.ranges(class);
            let claim = slots.claim_in_either(ranges, self.postmaster.get()).ok()?;
            let Some(entry) = registry.at(claim.key().index) else {
                return self.serve(&slots, claim, resolve);
            };
            // Not given back: nobody else is to have it for a moment.
            std::mem::forget(claim);
            self.restore(entry);
        }
        None
    }

    /// Puts the worker of the next one that waits into a claimed slot. If nobody does, the slot
    /// becomes free.
    #[inline(never)]
    pub(super) fn serve<'a>(
        &mut self,
        slots: &'a WorkerSlots,
        mut claim: Claim<'a>,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        loop {
            let takers = self.classes.takers(claim.key().index);
            if !self.tickets_wait(takers.clone()) {
                return None;
            }
            let Turn { mut channel, worker: wanted } = self.tickets.next(takers)?;
            claim.write(&wanted.record).ok()?;
            let registered_at = wanted.record.registered_at();
            let lasting = wanted.worker.job().is_some();
            let published = if lasting { claim.publish_lasting(0) } else { claim.publish_kept(0) };
            let key = published.ok()?;
            let target = resolve(wanted.pid);
            let registrant = Registrant::new(key, wanted.pid, target, lasting);
            self.note_registrant(registrant, wanted.record.ends_with_submitter());
            fault::point("ticket:published");
            // The fact before the news. Once it is sent, it reaches the one that waits.
            let handle = self.handle(key);
            if channel.socket.send_reply(&Reply::Granted(handle), &[]).is_ok() {
                fault::point("ticket:granted");
                self.gifts.keep(key, channel.envelopes);
                let (worker, terminate) = (wanted.worker, false);
                let notify = worker.notify().and_then(resolve);
                return Some(Event::Registered { key, worker, notify, terminate, registered_at });
            }
            self.forget_job(key);
            self.registrants.take(key.index as usize);
            claim = slots.end_and_claim(key, self.postmaster.get(), || {}).ok()?;
        }
    }

    /// True if anyone waits who may have slot `index`.
    pub(super) fn somebody_waits(&mut self, index: u32) -> bool {
        !self.tickets.is_empty() && self.tickets_wait(self.classes.takers(index))
    }

    /// True if anyone of these classes waits. Waiters that have given up, or are dead, are removed
    /// first: no kept end is given up for them.
    #[inline(never)]
    fn tickets_wait(&mut self, classes: impl Iterator<Item = SlotClass> + Clone) -> bool {
        while let Some(first) = self.tickets.first(classes.clone()) {
            if first.still_waits() {
                return true;
            }
            self.tickets.next(classes.clone());
        }
        false
    }

    /// Says it to those who give back the slot of a job, so that they ring.
    pub(crate) fn say_whether_somebody_waits(&mut self, waits: bool) {
        if self.waiting != waits {
            self.waiting = waits;
            self.cells.set_waiting(waits);
        }
    }

    /// Tells everybody that waits why it gets no slot.
    pub(crate) fn refuse_all(&mut self, reason: Refusal, detail: &str) {
        for waiter in self.tickets.take_all() {
            waiter.refuse(reason, detail);
        }
    }
}
