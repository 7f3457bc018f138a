//! The postmaster's side: pipes, and the collector that it passes them to.

use super::collector::{Beginning, collect};
use super::message::{Brought, Collect, Destination, MAX_PACKET, Order, Report};
use super::outlet;
use crate::child::RunSetup;
use crate::companion::Companion;
use crate::failure_log::Occasional;
use crate::gifts::Envelope;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::fork::NewChild;
use crate::sys::title::Title;
use bgw_core::internals::scm;
use bgw_core::{BackgroundWorker, Output, OutputDescriptor, Pid};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use shmem_slots::Key;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many reports are read before other events are handled.
const REPORTS_IN_A_ROW: usize = 16;
/// How often the last reports are read: a socket has room for fewer.
const LAST_REPORTS: usize = 64;
/// How long the collector may take to write what is left when the cluster has ended.
const FINISH_LIMIT: Duration = Duration::from_secs(5);

/// The output of one run.
#[derive(Debug)]
struct Stream {
    order: Collect,
    pipe: OwnedFd,
    /// Where its lines go, if that is a descriptor.
    given: Option<Given>,
}

/// A descriptor that lines go to.
#[derive(Debug)]
pub(crate) enum Given {
    /// One that the worker's registrant has given. Nobody has it open here.
    Envelope(Rc<Envelope>),
    /// One of the launcher's.
    Descriptor(OwnedFd),
}

impl Given {
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Envelope(envelope) => envelope.as_fd(),
            Self::Descriptor(descriptor) => Some(descriptor.as_fd()),
        }
    }

    fn destination(&self, to: &OutputDescriptor) -> Destination {
        let in_envelope = matches!(self, Self::Envelope(_));
        Destination::Descriptor(Brought { in_envelope, drops: to.drops_when_full() })
    }
}

/// A question that a program has asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    number: u64,
    /// The session's request.
    request: u32,
    key: Key,
    /// The collector has it.
    sent: bool,
}

/// What a report of the collector's comes to.
#[derive(Debug)]
pub(crate) enum News {
    /// Lines of a worker's output were lost; 0: nobody knows how many.
    /// `log`: it is to be logged.
    Lost { key: Key, lines: u64, why: String, log: bool },
    /// The answer to this request.
    LastLines { session: u64, request: u32, text: String },
}

/// The outputs of all workers.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// Of the files. `None`: there are none.
    folder: Option<Arc<OwnedFd>>,
    lock: Option<Arc<OwnedFd>>,
    floor: DescriptorFloor,
    streams: BTreeMap<u64, Stream>,
    /// The collector has the streams below this number.
    sent_below: u64,
    /// There is something to send.
    unsent: bool,
    next: u64,
    /// By session: what it has asked last.
    questions: BTreeMap<u64, Question>,
    /// By berth: what its process writes to, its standard error last.
    writers: BTreeMap<u32, Vec<OwnedFd>>,
    collector: Companion,
    control: Option<OwnedFd>,
    /// The collector's end of it. The child of the fork needs it until it has descriptors of its
    /// own.
    their_control: Option<OwnedFd>,
    /// How often lines were lost.
    losses: Occasional,
}

impl Outputs {
    pub(crate) const fn new(
        folder: Option<Arc<OwnedFd>>,
        lock: Option<Arc<OwnedFd>>,
        floor: DescriptorFloor,
    ) -> Self {
        Self {
            folder,
            lock,
            floor,
            streams: BTreeMap::new(),
            sent_below: 0,
            unsent: false,
            next: 0,
            questions: BTreeMap::new(),
            writers: BTreeMap::new(),
            collector: Companion::new("output collector"),
            control: None,
            their_control: None,
            losses: Occasional::new(),
        }
    }

    /// Puts what the next process of berth `berth`, of the worker `key`, writes to into `setup`,
    /// unless that is what the postmaster writes to. It stays open until [`Outputs::run_ended`].
    /// `given` is the descriptor that its lines are to go to, if that is where they go.
    pub(crate) fn begin_run(
        &mut self,
        (key, berth): (Key, u32),
        worker: &BackgroundWorker,
        given: Option<Given>,
        setup: &mut RunSetup,
    ) -> io::Result<()> {
        // A validated number is 100 at most.
        let stream = (key, worker.last_lines() as u8);
        let writers = match worker.output() {
            Output::Null if worker.last_lines() == 0 => {
                vec![self.floor.move_above(File::options().write(true).open("/dev/null")?)?]
            }
            Output::Null => vec![self.open_stream(stream, Destination::Nowhere, None)?],
            Output::File(file) => {
                let to = Destination::File(file.clone());
                let mut writers = vec![self.open_stream(stream, to, None)?];
                if let Some(errors) = file.of_errors() {
                    writers.push(self.open_stream(stream, Destination::File(errors), None)?);
                }
                writers
            }
            Output::Descriptor(to) => {
                // It was there when the worker was registered.
                let given = given.ok_or(io::ErrorKind::NotFound)?;
                vec![self.open_stream(stream, given.destination(to), Some(given))?]
            }
            _ => return Ok(()),
        };
        let ends = [(libc::STDOUT_FILENO, writers.first()), (libc::STDERR_FILENO, writers.last())];
        for (stream, writer) in ends {
            let writer = writer.ok_or(io::ErrorKind::NotFound)?;
            setup.placements.add(writer.as_raw_fd(), stream);
        }
        self.writers.insert(berth, writers);
        Ok(())
    }

    fn open_stream(
        &mut self,
        (key, last_lines): (Key, u8),
        to: Destination,
        given: Option<Given>,
    ) -> io::Result<OwnedFd> {
        let (pipe, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (pipe, writer) = (self.floor.move_above(pipe)?, self.floor.move_above(writer)?);
        // Of this end alone: the worker waits when the pipe is full.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let order = Collect { stream: self.next, key, last_lines, to };
        self.streams.insert(self.next, Stream { order, pipe, given });
        self.next += 1;
        self.unsent = true;
        self.collector.want();
        Ok(writer)
    }

    /// The process of berth `berth` has ended, or was never started.
    pub(crate) fn run_ended(&mut self, berth: u32) {
        self.writers.remove(&berth);
    }

    /// A session asks for the last lines of a worker. False: nobody knows any.
    pub(crate) fn ask(&mut self, session: u64, request: u32, key: Key) -> bool {
        let known = self.control.is_some() || self.collector.due().is_some();
        if known {
            let question = Question { number: self.next, request, key, sent: false };
            self.next += 1;
            self.questions.insert(session, question);
            self.unsent = true;
        }
        known
    }

    /// A session has closed.
    pub(crate) fn forget_session(&mut self, session: u64) {
        self.questions.remove(&session);
    }

    /// Forks a collector by `fork`, whose child calls what it gets, and ends with the result.
    /// Returns its pidfd and its socket.
    pub(crate) fn start(
        &mut self,
        title: &[&str],
        fork: impl FnOnce(&mut dyn FnMut(&mut Title) -> i32) -> io::Result<NewChild>,
    ) -> io::Result<(&OwnedFd, &OwnedFd)> {
        self.collector.begin();
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(kind.0, kind.1, None, flags)?;
        let ours = self.floor.move_above(ours)?;
        let theirs = self.their_control.insert(self.floor.move_above(theirs)?);
        let (folder, lock) = (self.folder.as_ref(), self.lock.as_ref());
        let (folder, lock) = (folder.map(AsFd::as_fd), lock.map(AsFd::as_fd));
        let begin = Beginning { control: theirs.as_fd(), folder, lock };
        let child = fork(&mut |shown| collect(&begin, shown, title))?;
        let pidfd = self.collector.begun(child)?;
        Ok((pidfd, self.control.insert(ours)))
    }

    /// When the next collector is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.collector.due()
    }

    pub(crate) fn is_due(&self) -> bool {
        self.collector.is_due()
    }

    /// True if `pid` is a collector's.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.collector.is(pid)
    }

    /// The socket, and whether there is something that it had no room for.
    pub(crate) fn unsent(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().filter(|_| self.unsent).map(AsFd::as_fd)
    }

    /// Passes new streams on to the collector. What it has no room for stays.
    pub(crate) fn pass_on(&mut self) {
        let Some(control) = self.control.as_ref().filter(|_| self.unsent) else { return };
        self.unsent = false;
        for (&number, stream) in self.streams.range(self.sent_below..) {
            let order = Order::Collect(stream.order.clone());
            let given = stream.given.as_ref().and_then(Given::as_fd);
            let with: Vec<_> = std::iter::once(stream.pipe.as_fd()).chain(given).collect();
            if scm::send(control, &order.encode(), &with).is_err() {
                self.unsent = true;
                return;
            }
            self.sent_below = number + 1;
        }
        // After the streams, which they may be about.
        for question in self.questions.values_mut().filter(|question| !question.sent) {
            let order = Order::LastLines(question.number, question.key);
            if scm::send(control, &order.encode(), &[]).is_err() {
                self.unsent = true;
                return;
            }
            question.sent = true;
        }
    }

    /// The collector has said something.
    pub(crate) fn reported(&mut self, news: &mut impl FnMut(News)) {
        for _ in 0..REPORTS_IN_A_ROW {
            let Some(control) = &self.control else { return };
            let Ok(packet) = scm::receive(control, MAX_PACKET) else { return };
            match Report::decode(&packet.bytes) {
                Some(Report::Closed(number)) => drop(self.streams.remove(&number)),
                Some(Report::Lost(number, lines, errno)) => {
                    let Some(stream) = self.streams.get(&number) else { continue };
                    let key = stream.order.key;
                    let why = outlet::why(errno);
                    let log = self.losses.count().is_some();
                    news(News::Lost { key, lines, why, log });
                }
                Some(Report::LastLines(number, text)) => {
                    let asked = self.questions.iter().find(|(_, asked)| asked.number == number);
                    // Otherwise the session has closed, or has asked again.
                    let Some((&session, &Question { request, .. })) = asked else { continue };
                    self.questions.remove(&session);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    news(News::LastLines { session, request, text });
                }
                // Its end, which its pidfd reports.
                None => return self.control = None,
            }
        }
    }

    /// The poller reports a collector. If it has died another one is due, and gets all streams.
    pub(crate) fn ended(&mut self, news: &mut impl FnMut(News)) {
        if !self.collector.ended() {
            return;
        }
        self.control = None;
        self.unsent = true;
        self.questions.values_mut().for_each(|question| question.sent = false);
        for stream in self.streams.range(..self.sent_below).map(|(_, stream)| stream) {
            let why = "the output collector died".to_owned();
            let (key, log) = (stream.order.key, self.losses.count().is_some());
            news(News::Lost { key, lines: 0, why, log });
        }
        self.sent_below = 0;
    }

    /// Waits until the collector takes what is unsent. False if there is nothing, or the time is
    /// over.
    fn has_room(&self, deadline: Instant) -> bool {
        let Some(control) = self.unsent() else { return false };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut [PollFd::new(control, PollFlags::POLLOUT)], timeout), Ok(1))
    }

    /// Ends it: the postmaster ends in order, and has no children left.
    pub(crate) fn end(&mut self, news: &mut impl FnMut(News)) {
        self.writers.clear();
        let deadline = Instant::now() + FINISH_LIMIT;
        self.pass_on();
        while self.has_room(deadline) {
            self.pass_on();
        }
        let finish = |control: &OwnedFd| scm::send(control, &Order::Finish.encode(), &[]);
        if self.control.as_ref().is_some_and(|control| finish(control).is_ok()) {
            self.collector.wait(FINISH_LIMIT);
        }
        // What it has said last: no more than its socket has room for.
        for _ in 0..LAST_REPORTS {
            self.reported(news);
        }
        self.control = None;
        self.collector.end();
    }
}
