//! How streams end, and the collector with them.

use super::collector::{Collector, OUTLET, REMEMBERED};
use super::file::Dropped;
use super::message::Report;
use super::stream::Stream;
use crate::fault;
use bgw_core::OutputFile;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::time::{Duration, Instant};

/// How long it waits at its end for those who read from descriptors, all together.
const LAST_WAIT: Duration = Duration::from_secs(3);

impl Collector<'_> {
    /// An outlet takes more.
    pub(super) fn outlet_ready(&mut self, outlet: u64) {
        let (last, dropped) = self.outlets.ready(outlet);
        self.dropped(last, dropped);
        self.outlet_changed(outlet);
    }

    /// Reads the streams of an outlet or not, as it says, and closes those that have waited for it.
    pub(super) fn outlet_changed(&mut self, outlet: u64) {
        self.outlets.watch(outlet, &self.epoll, OUTLET | outlet);
        let holds_up = self.outlets.holds_up(outlet);
        let mut over = Vec::new();
        let of_outlet = |stream: &Stream| stream.outlet() == Some(outlet);
        for (&number, stream) in self.streams.iter_mut().filter(|(_, stream)| of_outlet(stream)) {
            if stream.ended && !self.outlets.has_lines_of(outlet, number) {
                over.push(number);
            }
            let watch = !stream.ended && (!holds_up || stream.drops());
            if watch != stream.watched {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
                let changed = match watch {
                    true => self.epoll.add(&stream.pipe, event),
                    false => self.epoll.delete(&stream.pipe),
                };
                stream.watched = watch == changed.is_ok();
            }
        }
        over.into_iter().for_each(|number| self.close(number));
    }

    /// Nobody writes to a stream any more.
    pub(super) fn end_stream(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.ended = true;
        let (key, outlet) = (stream.key, stream.outlet());
        if !self.streams.values().any(|other| other.key == key && !other.ended) {
            self.tails.end(key);
        }
        match outlet {
            Some(outlet) => self.outlet_changed(outlet),
            None => self.close(number),
        }
    }

    /// All of a stream is written.
    pub(super) fn close(&mut self, number: u64) {
        // Closing the pipe is not enough: the postmaster has it, too.
        let Some(stream) = self.streams.remove(&number) else { return };
        if stream.watched {
            let _ = self.epoll.delete(&stream.pipe);
        }
        // Before the report: with that the postmaster closes it, which may take time.
        if let Some(outlet) = stream.outlet() {
            if !self.streams.values().any(|other| other.outlet() == Some(outlet)) {
                self.outlets.close(outlet, &self.epoll);
            }
        }
        if let Some(Dropped { lines, errno }) = stream.dropped {
            self.reports.push(Report::Lost(number, lines, errno));
        }
        self.reports.push(Report::Closed(number));
        let name = stream.file().map(OutputFile::name);
        let is_of_file =
            |other: &Stream| other.file().is_some_and(|file| Some(file.name()) == name);
        if let Some(name) = name.filter(|_| !self.streams.values().any(is_of_file)) {
            self.forget(name);
        }
        fault::point("collector:closed");
        // Those of closed streams at once: the postmaster has descriptors to free.
        self.send_reports();
    }

    /// Nobody writes to this file now. How many lines it has lost is remembered, to be written to
    /// it later.
    pub(super) fn forget(&mut self, name: &str) {
        let few = self.sinks.len() <= REMEMBERED;
        match self.sinks.get_mut(name).filter(|sink| few && sink.has_lost()) {
            Some(sink) => sink.close(),
            None => drop(self.sinks.remove(name)),
        }
    }

    /// Reads all streams until they are empty, and has what is written waited for. A line that has
    /// begun is a line then.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + LAST_WAIT;
        let left: Vec<u64> = self.streams.keys().copied().collect();
        for number in left {
            let outlet = self.streams.get(&number).and_then(Stream::outlet);
            let wait = |this: &mut Self| {
                if let Some(outlet) = outlet {
                    let dropped = this.outlets.wait(outlet, until);
                    this.dropped(number, dropped);
                }
            };
            wait(self);
            while self.read_some(number) {
                wait(self);
            }
            if let Some(stream) = self.streams.get_mut(&number) {
                self.whole.clear();
                stream.lines.end(&mut self.whole);
                self.write(number);
            }
            wait(self);
            let unwritten = outlet.and_then(|outlet| self.outlets.give_up(outlet));
            self.dropped(number, unwritten);
        }
        self.next_report = Instant::now();
        self.report(self.next_report);
    }
}
