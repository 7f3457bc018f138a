//! The output collector: a child of the postmaster that reads pipes and writes files.

use super::file::{Dropped, Sink};
use super::lines::Lines;
use super::message::{Collect, MAX_PACKET, Order, Report};
use super::tail::Tails;
use crate::fault;
use crate::sys::descriptors;
use crate::sys::title::Title;
use bgw_core::OutputFile;
use bgw_core::internals::scm;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{read, setsid};
use shmem_slots::Key;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many bytes of a stream are read before others are looked at.
const READ_IN_A_ROW: usize = 64 << 10;
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
const REMEMBERED: usize = 1024;
/// The entry of the postmaster's socket in the epoll. No stream has this number.
const CONTROL: u64 = u64::MAX;

/// What a collector begins with: numbers, since it does not have the postmaster's state.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    pub(super) control: BorrowedFd<'a>,
    /// The folder that the files are in.
    pub(super) folder: Option<BorrowedFd<'a>>,
    /// Of the runtime folder. It is locked while anybody holds this open.
    pub(super) lock: Option<BorrowedFd<'a>>,
}

#[derive(Debug)]
struct Stream {
    pipe: OwnedFd,
    lines: Lines,
    key: Key,
    file: Option<OutputFile>,
    /// Not reported yet.
    dropped: Option<Dropped>,
}

/// The collector.
#[derive(Debug)]
struct Collector<'a> {
    control: BorrowedFd<'a>,
    folder: Option<BorrowedFd<'a>>,
    epoll: Epoll,
    streams: BTreeMap<u64, Stream>,
    tails: Tails,
    /// The files that are written to, by name.
    sinks: BTreeMap<String, Sink>,
    /// Reports that the postmaster has no room for yet.
    reports: Vec<Report>,
    next_report: Instant,
    /// No more orders come: when it ends at the latest.
    ends: Option<Instant>,
    buffer: Vec<u8>,
    whole: Vec<u8>,
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
                // What has come since.
                let left: Vec<u64> = self.streams.keys().copied().collect();
                left.into_iter().for_each(|stream| self.read_all(stream));
                return Ok(());
            }
            self.report(now);
            let count = match self.epoll.wait(&mut ready, self.timeout(now)) {
                Err(Errno::EINTR) => 0,
                waited => waited?,
            };
            for event in ready.iter().take(count) {
                match event.data() {
                    CONTROL => self.take_orders()?,
                    stream => drop(self.read_some(stream)),
                }
            }
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let unreported = self.streams.values().any(|stream| stream.dropped.is_some());
        let report = (unreported || !self.reports.is_empty()).then_some(self.next_report);
        match report.into_iter().chain(self.ends).min() {
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
            let pipe = packet.fds.into_iter().next();
            match (Order::decode(&packet.bytes), pipe) {
                (Some(Order::Collect(stream)), Some(pipe)) => self.add(stream, pipe)?,
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

    fn add(&mut self, stream: Collect, pipe: OwnedFd) -> io::Result<()> {
        let Collect { stream: number, key, last_lines, file } = stream;
        self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        if last_lines > 0 {
            self.tails.begin(key, last_lines);
        }
        let stream = Stream { pipe, lines: Lines::default(), key, file, dropped: None };
        self.streams.insert(number, stream);
        fault::point("collector:ordered");
        Ok(())
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

    /// Reads a stream until it is empty. A line that has begun is a line then.
    fn read_all(&mut self, number: u64) {
        while self.read_some(number) {}
        if let Some(stream) = self.streams.get_mut(&number) {
            self.whole.clear();
            stream.lines.end(&mut self.whole);
            self.write(number);
        }
    }

    /// Reads a stream once, and writes the lines that are whole. True if there may be more.
    fn read_some(&mut self, number: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else { return false };
        let read = match read(&stream.pipe, &mut self.buffer) {
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
            self.close(number);
        }
        read > 0
    }

    /// Writes the lines of a stream that are whole.
    fn write(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        self.tails.take(stream.key, &self.whole);
        let (Some(folder), Some(file)) = (self.folder, &stream.file) else { return };
        let sink = self.sinks.entry(file.name().to_owned()).or_default();
        if let Some(new) = sink.append(folder.as_fd(), file, &self.whole) {
            let before = stream.dropped.map_or(0, |dropped| dropped.lines);
            stream.dropped = Some(Dropped { lines: before.saturating_add(new.lines), ..new });
        }
    }

    fn close(&mut self, number: u64) {
        // Closing the pipe is not enough: the postmaster has it, too.
        let Some(stream) = self.streams.remove(&number) else { return };
        let _ = self.epoll.delete(&stream.pipe);
        if !self.streams.values().any(|other| other.key == stream.key) {
            self.tails.end(stream.key);
        }
        if let Some(Dropped { lines, errno }) = stream.dropped {
            self.reports.push(Report::Lost(number, lines, errno));
        }
        self.reports.push(Report::Closed(number));
        let name = stream.file.as_ref().map(OutputFile::name);
        let is_of_file =
            |other: &Stream| other.file.as_ref().is_some_and(|file| Some(file.name()) == name);
        if let Some(name) = name.filter(|_| !self.streams.values().any(is_of_file)) {
            self.forget(name);
        }
        fault::point("collector:closed");
        // Those of closed streams at once: the postmaster has descriptors to free.
        self.send_reports();
    }

    /// Nobody writes to this file now. How many lines it has lost is remembered, to be written to
    /// it later.
    fn forget(&mut self, name: &str) {
        let few = self.sinks.len() <= REMEMBERED;
        match self.sinks.get_mut(name).filter(|sink| few && sink.has_lost()) {
            Some(sink) => sink.close(),
            None => drop(self.sinks.remove(name)),
        }
    }

    /// Reports what was lost, if it is time.
    fn report(&mut self, now: Instant) {
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

    fn send_reports(&mut self) {
        let send = |report: &Report| scm::send(self.control, &report.encode(), &[]);
        // The rest is tried again: the postmaster is busy. If it is dead nobody listens.
        let sent = self.reports.iter().take_while(|report| send(report).is_ok()).count();
        self.reports.drain(..sent);
    }
}
