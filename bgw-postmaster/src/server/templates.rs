//! Templates: loads and orders that are due, and workers that start in what templates have forked
//! (`templates/mod.rs`).

use super::poller::Token;
use super::state::Server;
use crate::child::{RunSetup, live_as_template};
use crate::children::Spare;
use crate::fault;
use crate::rules::Event;
use crate::sys::wait;
use crate::templates::{Gone, Heard, Order, Sleeper, Start, Want};
use bgw_core::internals::{Reply, WorkerRecord, pidfd};
use bgw_core::{ControlSocket, LastWords, Pid, Refusal, StopSignal};
use shmem_slots::Key;
use std::io;
use std::time::Instant;

/// What came of a start from a template.
pub(super) enum FromTemplate {
    Started(Pid),
    /// The worker waits, or has failed: the rules know.
    NotNow,
    /// It is not forked from a template.
    None,
}

impl Server {
    /// The number of the template that the worker of `key` is forked from.
    fn template_of(&self, key: Key) -> Option<usize> {
        let entry = self.cluster.registry().get(key)?;
        self.templates.named(entry.worker.template()?)
    }

    /// Starts a worker in what its template has forked, or has it wait for that.
    #[inline(never)]
    pub(super) fn start_from_template(&mut self, key: Key) -> io::Result<FromTemplate> {
        let Some(at) = self.template_of(key) else { return Ok(FromTemplate::None) };
        // Who waits already comes first.
        if !self.templates.is_awaited(at)
            && let Some(sleeper) = self.take_sleeper(at)
        {
            return self.start_in_sleeper(key, sleeper).map(FromTemplate::Started);
        }
        if self.templates.wait(at, key, Instant::now()) == Want::Refused {
            let why = self.templates.refusal(at);
            self.template_failed(key, why);
        }
        Ok(FromTemplate::NotNow)
    }

    fn take_sleeper(&mut self, at: usize) -> Option<Sleeper> {
        let spares = &mut self.spares;
        self.templates.take_sleeper(at, Instant::now(), |spare| spares.put_away(spare))
    }

    fn template_failed(&mut self, key: Key, why: LastWords) {
        self.slot_table.why_not_started = Some((key, why));
        let random = self.random.next();
        self.step(Event::TemplateFailed { key, random });
        self.slot_table.why_not_started = None;
    }

    fn start_in_sleeper(&mut self, key: Key, sleeper: Sleeper) -> io::Result<Pid> {
        match self.give_to_sleeper(key, &sleeper) {
            Ok((stop, berth)) => {
                let spare = sleeper.into_spare();
                let pid = spare.pid;
                self.children.insert(spare.with_worker((key, berth), stop, Instant::now()));
                fault::point("spare:kept");
                Ok(pid)
            }
            Err(error) => {
                self.spares.put_away(sleeper.into_spare());
                Err(error)
            }
        }
    }

    fn give_to_sleeper(&mut self, key: Key, sleeper: &Sleeper) -> io::Result<(StopSignal, u32)> {
        let entry = self.cluster.registry().get(key).ok_or(io::ErrorKind::NotFound)?;
        let record = WorkerRecord::encode(&entry.worker, self.slot_table.postmaster());
        let (main, restarts) = (self.spawner.main_of(entry), entry.next_restarts());
        let stop = entry.worker.stop();
        let beside = self.cluster.starts_beside(key);
        let of = self.slot_table.begin_life(key, &entry.worker, beside);
        let of = of.ok_or(io::ErrorKind::ResourceBusy)?;
        let berth = of.1.index;
        let mut setup = RunSetup::default();
        let envelope = self.slot_table.gifts.begin_run(key, &entry.worker, &mut setup);
        let begun = self.spawner.output_of(&entry.worker, envelope).and_then(|given| {
            self.outputs.begin_run((key, berth), &entry.worker, given, &mut setup)
        });
        let begun = begun
            .and_then(|()| sleeper.send(&setup))
            .and_then(|()| self.poller.watch_end_anew(&sleeper.spare.pidfd, Token::Child(berth)));
        begun.inspect_err(|_| self.outputs.run_ended(berth))?;
        fault::point("spare:before_give");
        sleeper.spare.mailbox.give(&record, main, of, restarts);
        fault::point("spare:given");
        Ok((stop, berth))
    }

    /// Loads what is due, orders what is wanted, ends what is late.
    pub(super) fn serve_templates(&mut self) {
        if !self.templates.is_empty() {
            self.serve_all_templates();
        }
    }

    #[inline(never)]
    fn serve_all_templates(&mut self) {
        let now = Instant::now();
        self.templates.end_late(now);
        if !self.cluster.starts_workers() {
            return;
        }
        while let Some((at, start)) = self.templates.begin_load(now) {
            let begun = start.and_then(|start| self.fork_template(at, start));
            if let Err(error) = begun
                && let Some(gone) = self.templates.not_begun(at, &error, now)
            {
                self.template_gone(gone);
            }
        }
        let cluster = &self.cluster;
        self.templates.retain(|key| cluster.may_start(key));
        self.templates.order(now);
        while let Some(spare) = self.templates.surplus() {
            self.spares.put_away(spare);
        }
    }

    fn fork_template(&mut self, at: usize, start: Start) -> io::Result<()> {
        let (made, socket) = (start.made.clone(), start.socket());
        let forked = self.spawner.start_template(|context, forker| {
            if let Err(error) = live_as_template(context, forker, &made, socket) {
                tracing::error!("template \"{}\" ends: {error}", made.name);
            }
        });
        let (child, place) = forked?;
        let pidfd = child.pidfd.inspect_err(|_| {
            let _ = wait::kill_and_peek(child.pid);
            self.spawner.release(place);
            let _ = wait::reap_by_pid(child.pid);
        })?;
        let begun = self.templates.begun(at, start, (child.pid, place), pidfd);
        let Some((number, pidfd, socket)) = begun else { return Ok(()) };
        let watched = self.poller.watch_end(pidfd, Token::Template(number));
        let watched = watched.and_then(|()| match socket {
            Some(socket) => self.poller.watch(socket, Token::TemplateSays(number)),
            None => Ok(()),
        });
        if let Err(error) = watched {
            // Its deadline ends it, if its end is not seen before.
            tracing::error!("watching template process {} failed: {error}", child.pid);
            let _ = pidfd::send(pidfd, rustix::process::Signal::KILL);
        }
        Ok(())
    }

    /// A template process says something.
    #[inline(never)]
    pub(super) fn template_says(&mut self, number: u64) {
        let Some((at, heard)) = self.templates.hear(number, Instant::now()) else { return };
        fault::point("order:heard");
        self.forget_closed();
        for heard in heard {
            match heard {
                Heard::Loaded => {
                    for spare in self.templates.take_asleep(at) {
                        self.spares.put_away(spare);
                    }
                    if let Some(mut asked) = self.templates.take_asked(at) {
                        // An error: whoever asked is gone.
                        let _ = asked.send_reply(&Reply::Done, &[]);
                    }
                }
                Heard::Forked(order) => match self.adopt(order) {
                    Ok(sleeper) => self.serve_first(at, sleeper),
                    Err(error) => {
                        tracing::error!("what a template says it has forked is none: {error}");
                        self.templates.end_liar(at);
                        self.forget_closed();
                    }
                },
                Heard::NotForked { order, why } => {
                    self.end_unreported(order);
                    let (keys, words) = self.templates.give_up(at, &why);
                    tracing::error!("{words}");
                    keys.into_iter().for_each(|key| self.template_failed(key, words.clone()));
                }
            }
        }
    }

    fn forget_closed(&mut self) {
        for socket in self.templates.take_closed() {
            // A child may have it open for a moment yet: closing it would not do.
            let _ = self.poller.forget(&socket);
        }
    }

    /// A child that a template has forked, if it is there: one of this process that nobody knows.
    fn adopt(&mut self, order: Order) -> io::Result<Sleeper> {
        let number = self.spares.next_number();
        let Order { mailbox, line, place, .. } = order;
        let found = self.find_child(mailbox.pid()).and_then(|(pid, pidfd)| {
            self.poller.watch_end(&pidfd, Token::Spare(number))?;
            Ok((pid, pidfd))
        });
        let (pid, pidfd) = found.inspect_err(|_| self.spawner.release(place))?;
        self.spawner.confirm(place, pid);
        fault::point("order:adopted");
        // It is given workers by the postmaster alone.
        Ok(Sleeper::new(Spare::new(number, pid, place, pidfd, mailbox), line))
    }

    fn find_child(&self, pid: Option<Pid>) -> io::Result<(Pid, std::os::fd::OwnedFd)> {
        let pid = pid.ok_or_else(|| io::Error::other("there is no pid"))?;
        let is_known = self.children.knows(pid)
            || self.spares.contains(pid)
            || self.templates.contains(pid)
            || self.guardian.is(pid)
            || self.outputs.is(pid)
            || self.closers.contains(pid);
        if is_known || pid == self.slot_table.postmaster() {
            return Err(io::Error::other("the pid is another process's"));
        }
        let pidfd = self.spawner.above_floor(pidfd::open(pid)?)?;
        // ECHILD: no child of ours. Otherwise its number stays its own until it is reaped here.
        wait::peek(&pidfd)?;
        Ok((pid, pidfd))
    }

    /// Whoever waits first gets it.
    fn serve_first(&mut self, at: usize, sleeper: Sleeper) {
        while let Some(key) = self.templates.next_waiting(at) {
            if !self.cluster.may_start(key) {
                continue;
            }
            let started = self.start_in_sleeper(key, sleeper);
            let random = self.random.next();
            return self.step(match started {
                Ok(pid) => Event::Forked { key, pid, random },
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    Event::ForkFailed { key, errno, random }
                }
            });
        }
        self.templates.add_sleeper(at, sleeper);
    }

    /// A template process may have ended.
    #[inline(never)]
    pub(super) fn template_ended(&mut self, number: u64) {
        // What it has said last.
        self.template_says(number);
        if let Some(gone) = self.templates.ended(number, Instant::now()) {
            self.template_gone(gone);
            self.orphans_behind_ended();
        }
    }

    fn template_gone(&mut self, gone: Gone) {
        gone.orders.into_iter().for_each(|order| self.end_unreported(order));
        if let Some((mut asked, detail)) = gone.answer {
            let refused = Reply::Refused { reason: Refusal::TemplateFailed, detail };
            // An error: whoever asked is gone.
            let _ = asked.send_reply(&refused, &[]);
        }
        let Some((keys, words)) = gone.failed else { return };
        for key in keys {
            self.template_failed(key, words.clone());
        }
    }

    /// The child of an order may be there although nobody has reported it.
    fn end_unreported(&mut self, order: Order) {
        if order.mailbox.pid().is_none() {
            return self.spawner.release(order.place);
        }
        match self.adopt(order) {
            Ok(sleeper) => self.spares.put_away(sleeper.into_spare()),
            Err(error) => tracing::warn!("a template has left a pid that is none: {error}"),
        }
    }

    /// A child of a template that slept has died, if spare `number` was one.
    pub(super) fn sleeper_ended(&mut self, number: u64) -> bool {
        let Some(spare) = self.templates.sleeper_ended(number, Instant::now()) else {
            return false;
        };
        tracing::warn!("process {} of a template died in its sleep", spare.pid);
        self.spares.put_away(spare);
        true
    }

    /// Whether the process of a worker that has ended had taken it.
    pub(super) fn sleeper_taken(&mut self, key: Key, lost: bool) {
        if let Some(at) = self.template_of(key) {
            self.templates.taken(at, lost, Instant::now());
        }
    }

    /// The postmaster ends.
    pub(super) fn end_templates(&mut self) {
        let (spares, orders) = self.templates.end_all();
        spares.into_iter().for_each(|spare| self.spares.put_away(spare));
        orders.into_iter().for_each(|order| self.end_unreported(order));
    }

    /// Loads a template anew for a peer, and answers on a connection of its own.
    pub(super) fn refork(&mut self, session: u64, name: &str) {
        match self.begin_refork(name) {
            Ok(theirs) => self.reply(session, &Reply::Done, Some(&theirs)),
            Err((reason, detail)) => {
                self.reply(session, &Reply::Refused { reason, detail }, None);
            }
        }
    }

    fn begin_refork(&mut self, name: &str) -> Result<ControlSocket, (Refusal, String)> {
        let refuse = |detail: String| (Refusal::NotAllowed, detail);
        if !self.cluster.starts_workers() {
            let detail = "the postmaster shuts down".to_owned();
            return Err((Refusal::ShuttingDown, detail));
        }
        let at = self.templates.named(name);
        let at = at.ok_or_else(|| refuse(format!("there is no template \"{name}\"")))?;
        let (ours, theirs) = self.rolls.pair().map_err(|error| refuse(error.to_string()))?;
        if !self.templates.refork(at, ours, Instant::now()) {
            return Err(refuse(format!("template \"{name}\" is being loaded already")));
        }
        Ok(theirs)
    }
}
