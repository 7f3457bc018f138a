//! The output collector: a child of the postmaster that reads pipes and writes files.

use super::file::{Dropped, Sink};
use super::lines::{Lines, count};
use super::message::{Collect, Destination, MAX_PACKET, Order, Report};
use super::outlets::Outlets;
use super::stream::{Stream, To};
use super::tail::Tails;
use crate::fault;
use crate::sys::descriptors;
use crate::sys::title::Title;
use bgw_core::internals::{envelope, scm};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{read, setsid};
use shmem_slots::Key;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many bytes of a stream are read before others are looked at.
const READ_IN_A_ROW: usize = 56 << 10;
/// The same for one that goes to a descriptor: with what may wait for that, and with a line that
/// has begun, it is what a collector's death may cost.
const READ_FOR_OUTLET: usize = 16 << 10;
/// How many reads of a stream precede an answer with its last lines: enough for a full pipe of the
/// default size.
const READS_FOR_ANSWER: usize = 16;
/// How many orders are read before streams are looked at.
const ORDERS_IN_A_ROW: usize = 64;
/// How many descriptors one wait reports.
const BATCH: usize = 64;
/// What is lost is reported this often at most.
const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// How long it continues after the postmaster was killed: as long as workers may take to end.
const REST: Duration = Duration::from_secs(5);
/// Of how many files it remembers what they have lost.
pub(super) const REMEMBERED: usize = 1024;
/// The entry of the postmaster's socket in the epoll. No stream has this number.
const CONTROL: u64 = u64::MAX;
/// A bit of the entries of outlets. No stream has it in its number.
pub(super) const OUTLET: u64 = 1 << 63;

/// What a collector begins with: numbers, since it does not have the postmaster's state.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    pub(super) control: BorrowedFd<'a>,
    /// The folder that the files are in.
    pub(super) folder: Option<BorrowedFd<'a>>,
    /// Of the runtime folder. It is locked while anybody holds this open.
    pub(super) lock: Option<BorrowedFd<'a>>,
}

/// The collector.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    control: BorrowedFd<'a>,
    folder: Option<BorrowedFd<'a>>,
    pub(super) epoll: Epoll,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) tails: Tails,
    /// The files that are written to, by name.
    pub(super) sinks: BTreeMap<String, Sink>,
    pub(super) outlets: Outlets,
    /// Reports that the postmaster has no room for yet.
    pub(super) reports: Vec<Report>,
    pub(super) next_report: Instant,
    /// No more orders come: when it ends at the latest.
    ends: Option<Instant>,
    buffer: Vec<u8>,
    pub(super) whole: Vec<u8>,
}

/// In the forked child, with all signals blocked. Returns its exit code.
#[inline(never)]
pub(super) fn collect(begin: &Beginning<'_>, title: &mut Title, text: &[&str]) -> i32 {
    i32::from(live(begin, title, text).is_err())
}

fn live(begin: &Beginning<'_>, title: &mut Title, text: &[&str]) -> io::Result<()> {
    let kept = [Some(begin.control), begin.folder, begin.lock];
    // First of all: until then it shares the postmaster's descriptor table.
    descriptors::keep_only(kept.into_iter().flatten())?;
    setsid()?;
    title.show(text);
    fault::point("collector:begun");
    Collector::new(begin.control, begin.folder)?.run()
}

impl<'a> Collector<'a> {
    fn new(control: BorrowedFd<'a>, folder: Option<BorrowedFd<'a>>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        Ok(Self {
            control,
            folder,
            epoll,
            streams: BTreeMap::new(),
            tails: Tails::default(),
            sinks: BTreeMap::new(),
            outlets: Outlets::default(),
            reports: Vec::new(),
            next_report: Instant::now(),
            ends: None,
            buffer: vec![0; READ_IN_A_ROW],
            whole: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); BATCH];
        loop {
            let now = Instant::now();
            if self.ends.is_some_and(|ends| self.streams.is_empty() || ends <= now) {
                self.finish();
                return Ok(());
            }
            for outlet in self.outlets.waited_too_long(now) {
                self.outlet_changed(outlet);
            }
            self.report(now);
            let count = match self.epoll.wait(&mut ready, self.timeout(now)) {
                Err(Errno::EINTR) => 0,
                waited => waited?,
            };
            for event in ready.iter().take(count) {
                match event.data() {
                    CONTROL => self.take_orders()?,
                    outlet if outlet & OUTLET != 0 => self.outlet_ready(outlet & !OUTLET),
                    stream => drop(self.read_some(stream)),
                }
            }
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let unreported = self.streams.values().any(|stream| stream.dropped.is_some());
        let report = (unreported || !self.reports.is_empty()).then_some(self.next_report);
        let waited_for = self.outlets.waited_for();
        match report.into_iter().chain(self.ends).chain(waited_for).min() {
            None => EpollTimeout::NONE,
            Some(at) => {
                // Rounded up, so that the time has come when the wait is over.
                let left = at.saturating_duration_since(now) + Duration::from_micros(999);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    fn take_orders(&mut self) -> io::Result<()> {
        for _ in 0..ORDERS_IN_A_ROW {
            let packet = match scm::receive(self.control, MAX_PACKET) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            };
            let mut descriptors = packet.fds.into_iter();
            let (pipe, given) = (descriptors.next(), descriptors.next());
            match (Order::decode(&packet.bytes), pipe) {
                (Some(Order::Collect(stream)), Some(pipe)) => self.add(stream, pipe, given)?,
                (Some(Order::LastLines(question, key)), _) => self.answer(question, key),
                (Some(Order::Finish), _) => self.ends = Some(Instant::now()),
                // The postmaster was killed, or says what makes no sense.
                _ => {
                    self.ends.get_or_insert(Instant::now() + REST);
                    self.epoll.delete(self.control)?;
                }
            }
            if self.ends.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn add(&mut self, order: Collect, pipe: OwnedFd, given: Option<OwnedFd>) -> io::Result<()> {
        let Collect { stream: number, key, last_lines, to } = order;
        let to = match to {
            Destination::Nowhere => To::Nowhere,
            Destination::File(file) => To::File(file),
            Destination::Descriptor(brought) => {
                let open = |envelope: OwnedFd| envelope::copy(envelope).ok().flatten();
                let given = if brought.in_envelope { given.and_then(open) } else { given };
                self.open_outlet(given, brought.drops)
            }
        };
        self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        if last_lines > 0 {
            self.tails.begin(key, last_lines);
        }
        let lines = Lines::default();
        let stream = Stream { pipe, lines, key, to, dropped: None, watched: true, ended: false };
        let outlet = stream.outlet();
        self.streams.insert(number, stream);
        if let Some(outlet) = outlet {
            self.outlet_changed(outlet);
        }
        fault::point("collector:ordered");
        Ok(())
    }

    fn open_outlet(&mut self, given: Option<OwnedFd>, drops: bool) -> To {
        let given = given.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
        match given.and_then(|given| self.outlets.open(given)) {
            Ok(number) => To::Outlet(number, drops),
            Err(error) => To::Nothing(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// Answers with the last lines of a worker, those included that its pipes hold now.
    fn answer(&mut self, question: u64, key: Key) {
        let of_worker = self.streams.iter().filter(|(_, stream)| stream.key == key);
        let numbers: Vec<u64> = of_worker.map(|(&number, _)| number).collect();
        for &number in &numbers {
            // Not for ever: it may be written to all the time.
            let _ = (0..READS_FOR_ANSWER).all(|_| self.read_some(number));
        }
        let left = numbers.iter().filter_map(|number| self.streams.get(number));
        let begun: Vec<&[u8]> = left.map(|stream| stream.lines.begun()).collect();
        let text = self.tails.text(key, &begun);
        self.reports.push(Report::LastLines(question, text));
        self.send_reports();
    }

    /// Reads a stream once, and writes the lines that are whole. True if there may be more.
    pub(super) fn read_some(&mut self, number: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else { return false };
        let outlet = stream.outlet();
        let holds_up = outlet.is_some_and(|outlet| self.outlets.holds_up(outlet));
        if stream.ended || (holds_up && !stream.drops()) {
            return false;
        }
        let most = if outlet.is_some() { READ_FOR_OUTLET } else { READ_IN_A_ROW };
        let room = self.buffer.get_mut(..most).unwrap_or_default();
        let read = match read(&stream.pipe, room) {
            Err(Errno::EINTR) => return true,
            Err(Errno::EAGAIN) => return false,
            // No pipe of ours fails; one that does has no more to say.
            Err(_) | Ok(0) => 0,
            Ok(read) => read,
        };
        self.whole.clear();
        match self.buffer.get(..read) {
            Some(bytes) if read > 0 => stream.lines.take(bytes, &mut self.whole),
            _ => stream.lines.end(&mut self.whole),
        }
        fault::point("collector:read");
        self.write(number);
        fault::point("collector:written");
        if read == 0 {
            self.end_stream(number);
        }
        read > 0
    }

    /// Writes the lines of a stream that are whole.
    pub(super) fn write(&mut self, number: u64) {
        let Some(stream) = self.streams.get(&number) else { return };
        self.tails.take(stream.key, &self.whole);
        let dropped = match &stream.to {
            To::Nowhere => None,
            To::File(file) => self.folder.and_then(|folder| {
                let sink = self.sinks.entry(file.name().to_owned()).or_default();
                sink.append(folder, file, &self.whole)
            }),
            &To::Nothing(errno) => {
                let lines = count(&self.whole);
                (lines > 0).then_some(Dropped { lines, errno })
            }
            &To::Outlet(outlet, _) => {
                let before = self.outlets.state(outlet);
                let dropped = self.outlets.append(outlet, number, &self.whole);
                if self.outlets.state(outlet) != before {
                    self.outlet_changed(outlet);
                }
                dropped
            }
        };
        self.dropped(number, dropped);
    }

    /// Lines of a stream were dropped.
    pub(super) fn dropped(&mut self, number: u64, new: Option<Dropped>) {
        if let (Some(stream), Some(new)) = (self.streams.get_mut(&number), new) {
            let before = stream.dropped.map_or(0, |dropped| dropped.lines);
            stream.dropped = Some(Dropped { lines: before.saturating_add(new.lines), ..new });
        }
    }

    /// Reports what was lost, if it is time.
    pub(super) fn report(&mut self, now: Instant) {
        if self.next_report > now {
            return;
        }
        for (&number, stream) in &mut self.streams {
            if let Some(Dropped { lines, errno }) = stream.dropped.take() {
                self.reports.push(Report::Lost(number, lines, errno));
            }
        }
        if !self.reports.is_empty() {
            self.next_report = now + REPORT_PAUSE;
            self.send_reports();
        }
    }

    pub(super) fn send_reports(&mut self) {
        let send = |report: &Report| scm::send(self.control, &report.encode(), &[]);
        // The rest is tried again: the postmaster is busy. If it is dead nobody listens.
        let sent = self.reports.iter().take_while(|report| send(report).is_ok()).count();
        self.reports.drain(..sent);
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Brought;
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::{Write, pipe};
    use std::os::fd::AsFd;

    /// Breaks if a stream that is to wait for its reader is read on, so that its lines are dropped,
    /// or if one that is to drop them is not, so that its worker waits.
    #[test]
    fn a_stream_waits_for_its_reader_or_drops_as_it_is_asked_to() {
        for drops in [false, true] {
            let control = std::os::unix::net::UnixDatagram::pair().unwrap();
            let mut collector = Collector::new(control.0.as_fd(), None).unwrap();
            let (_nobody_reads, to) = pipe().unwrap();
            let (from, mut worker) = pipe().unwrap();
            for end in [from.as_fd(), worker.as_fd()] {
                fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            }
            let to_descriptor = Destination::Descriptor(Brought { in_envelope: false, drops });
            let key = Key { index: 1, generation: 1 };
            let order = Collect { stream: 7, key, last_lines: 0, to: to_descriptor };
            collector.add(order, from.into(), Some(to.into())).unwrap();
            let mut written = 0;
            // Its pipe and the reader's, and what waits between them, hold less.
            for _ in 0..100_000 {
                match worker.write(b"a line of output\n") {
                    Ok(bytes) => written += bytes,
                    Err(_) if !collector.read_some(7) => break,
                    Err(_) => {}
                }
            }
            let dropped = collector.streams[&7].dropped;
            assert!(collector.outlets.holds_up(0));
            assert_eq!(collector.streams[&7].watched, drops);
            if drops {
                assert!(written > 1_000_000, "the worker has waited after {written} bytes");
                assert_eq!(dropped.map(|dropped| dropped.errno), Some(libc::EAGAIN));
            } else {
                assert!(written < 1_000_000 && dropped.is_none(), "{written}, {dropped:?}");
            }
        }
    }
}
