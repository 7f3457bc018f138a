//! From settings to a running server.
//!
//! The order matters. Descriptors that children keep are opened before the descriptor floor is set,
//! the postmaster's own after it. The forker is created before the robust list is replaced.
//! Whatever a backend may see is published before the first connection is accepted.

use super::poller::{Poller, Token};
use super::random::Random;
use super::roll_answers::RollAnswers;
use super::state::Server;
use crate::child::log_panics_of_workers;
use crate::children::{Children, Spares, Spawner, SpawnerSettings};
use crate::error::RunError;
use crate::events::Events;
use crate::fault;
use crate::gifts::{Closers, Gifts, Office};
use crate::guardian::Guardian;
use crate::notify::Notices;
use crate::outputs::Outputs;
use crate::rules::Cluster;
use crate::segments::Segments;
use crate::sessions::{Kind, Listener, Sessions, Welcome};
use crate::settings::Settings;
use crate::slot_table::SlotTable;
use crate::sys::descriptor_limit::highest_limit;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::environment::HiddenVariables;
use crate::sys::exec::Commands;
use crate::sys::fork::{Forker, ThreadCounter};
use crate::sys::private_box::PrivateBox;
use crate::sys::roster::Roster;
use crate::sys::signals;
use crate::templates::Templates;
use bgw_core::internals::{WorkerSlots, pidfd, process};
use bgw_core::{Attachment, BackgroundWorker, ControlSocket, Pid};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Initial capacity for events and actions; compact, so that few pages are copied after a fork.
const CAPACITY: usize = 8;
/// Places in the roster that are never needed, as far as known.
const SPARE_PLACES: u32 = 16;

impl Server {
    /// Makes this process the postmaster. All signals are blocked.
    pub(crate) fn begin(
        settings: Settings,
        launcher: Option<ControlSocket>,
    ) -> Result<PrivateBox<Self>, RunError> {
        fault::arm_by_environment();
        let threads = ThreadCounter::new().map_err(RunError::system("opening /proc/self/task"))?;
        let proof = threads
            .prove()
            .map_err(RunError::system("counting the threads"))?
            .map_err(|threads| RunError::Threads { threads })?;
        let hidden_variables = HiddenVariables::hide(&proof);
        signals::keep_ended_children().map_err(RunError::system("resetting SIGCHLD"))?;
        let pid = Pid::this();
        // Children keep it: it stays below the floor.
        let pidfd = Arc::new(pidfd::open(pid).map_err(RunError::system("pidfd_open"))?);
        // Its descriptor is passed on to workers, too; its mapping is this process's alone.
        let events = Events::new(settings.events).map_err(RunError::Events)?;
        let floor =
            DescriptorFloor::above_all_open().map_err(RunError::system("reading /proc/self/fd"))?;
        let floor = floor.with_raised_limit(settings.raised_limit);
        let moving = || RunError::system("moving a descriptor");
        let threads = threads.moved_above(floor).map_err(moving())?;
        let listener = settings.listener.map(|socket| floor.move_above(socket)).transpose();
        let listener = listener.map_err(moving())?;
        let output_dir = settings.output_dir.map(|folder| floor.move_above(folder)).transpose();
        let output_dir = output_dir.map_err(moving())?.map(Arc::new);
        let poller = Poller::new(settings.doorbell, settings.alarm, floor);
        let poller = poller.map_err(RunError::system("creating the signalfd and the epoll"))?;
        let region_read_only = reopen_read_only(settings.cells.slots(), floor)
            .map_err(RunError::system("opening the region read-only"))?;
        // If its number was below the floor, that is a gap from here on.
        let launcher = launcher.map(|socket| floor.move_above(socket).map(ControlSocket::from));
        let launcher = launcher.transpose().map_err(moving())?;
        let gaps = floor.fill_gaps().map_err(RunError::system("opening /dev/null"))?;
        let floor = floor.with_placeholders(&gaps);
        let listener = listener.map(|socket| Listener::new(socket.into(), floor));
        let forker = Forker::new(settings.run_atfork_handlers);
        let commands = (!settings.run_atfork_handlers).then(Commands::new).flatten();
        fault::point("begin:before_liveness");
        let liveness = settings.cells.hold_liveness();
        let liveness = liveness.map_err(RunError::system("set_robust_list"))?;
        log_panics_of_workers();
        let functions = settings.functions.listed();
        let lines = functions.iter().map(|function| function.line()).collect();
        let descriptor_names = settings.descriptors.iter().map(|(name, _)| name.clone()).collect();
        let attachment = Attachment::inherit(
            Arc::clone(settings.cells.slots()),
            Arc::clone(poller.doorbell()),
            pid,
            Arc::clone(&pidfd),
            functions.into(),
            settings.descriptors,
        )
        .for_workers(process::worker_pid())
        .with_alarm(Arc::clone(poller.alarm()))
        .with_events(events.ring().cloned())
        .with_line(settings.door.map(Arc::new));
        // A berth has one process, or what it has left.
        let places = settings.cells.slots().sets().saturating_add(settings.warm_spares as u32);
        let places = places.saturating_add(Templates::places(&settings.templates));
        let roster = Roster::new(places.saturating_add(SPARE_PLACES)).map(Arc::new);
        let roster = roster.map_err(RunError::system("mapping the roster"))?;
        let lock = settings.runtime_dir.as_ref().map(|dir| Arc::clone(dir.lock()));
        let slots = Arc::clone(settings.cells.slots());
        let capacity = slots.capacity();
        let welcome = Welcome {
            slots: Arc::clone(&slots),
            region_read_only,
            postmaster_pidfd: Arc::clone(&pidfd),
            doorbell: Arc::clone(poller.doorbell()),
            alarm: Arc::clone(poller.alarm()),
            postmaster: pid,
            functions: lines,
            events: events.ring().cloned(),
        };
        let folder = settings.runtime_dir.as_ref().map(|dir| dir.path());
        let descriptors = highest_limit().map_err(RunError::system("reading RLIMIT_NOFILE"))?;
        let office = Office::new(descriptors);
        office.set_watcher(&poller.epoll);
        let notices = Notices::new(folder, floor, Rc::clone(&office));
        let mut random = Random::new();
        let segments = Segments::new(
            settings.segment_bytes,
            descriptors,
            random.next(),
            floor,
            Rc::clone(&office),
        );
        let server = Self {
            cluster: Cluster::new(settings.policy).with_groups(settings.groups).with_templates(
                settings.templates.iter().map(|made| (*made.name).into()).collect(),
            ),
            slot_table: SlotTable::new(
                settings.cells,
                pid,
                settings.registrable,
                Gifts::new(descriptor_names, Rc::clone(&office)),
            ),
            events,
            children: Children::new(Arc::clone(&roster)),
            spares: Spares::new(settings.warm_spares, settings.direct_starts, Arc::clone(&roster)),
            spawner: Box::new(Spawner::new(SpawnerSettings {
                attachment,
                functions: settings.functions,
                threads,
                floor,
                forker,
                commands,
                roster: Arc::clone(&roster),
                runtime_dir: folder.and_then(absolute),
            })),
            notices,
            outputs: Outputs::new(output_dir, lock.clone(), floor),
            closers: Closers::new(pid, Rc::clone(&office)),
            templates: Templates::new(settings.templates, floor, Arc::clone(&roster)),
            guardian: Guardian::new(roster, pidfd, slots, lock),
            rolls: RollAnswers::new(floor, capacity),
            sessions: Sessions::new(settings.max_sessions, floor, office, listener, welcome),
            poller,
            runtime_dir: settings.runtime_dir,
            liveness,
            _placeholders: gaps,
            _hidden_variables: hidden_variables,
            queue: VecDeque::with_capacity(CAPACITY),
            over: VecDeque::new(),
            left: Vec::new(),
            takers_due: None,
            random,
            segments,
            actions: Vec::with_capacity(CAPACITY),
        };
        let server = PrivateBox::new(server);
        let mut server = server.map_err(RunError::system("mapping the postmaster's state"))?;
        if launcher.is_some() {
            server.show_title();
        }
        server.publish();
        fault::point("begin:before_listen");
        server.watch_all().map_err(RunError::system("epoll_ctl"))?;
        for worker in settings.static_workers {
            fault::point("begin:before_static");
            server.register_static(worker);
        }
        if let Some(socket) = launcher {
            let session = server.open_session(socket, Kind::Program);
            let session =
                session.map_err(RunError::system("accepting the launcher's connection"))?;
            server.sessions.shut_down_with(session.filter(|_| settings.stop_with_launcher));
        }
        // Before any worker, and last: when the beginning fails there is no guardian.
        server.start_guardian().map_err(RunError::system("forking the guardian"))?;
        fault::point("begin:done");
        Ok(server)
    }

    /// A forked postmaster shows what it is. A program that became one keeps its own title.
    fn show_title(&mut self) {
        let runtime_dir = self.runtime_dir.as_ref().map(|dir| dir.path().to_string_lossy());
        match runtime_dir {
            Some(path) => self.spawner.show_title(&["bgw postmaster ", &path]),
            None => self.spawner.show_title(&["bgw postmaster"]),
        }
    }

    fn publish(&self) {
        fault::point("begin:before_publish");
        self.slot_table.publish_cluster(self.cluster.phase());
        if let Some(runtime_dir) = &self.runtime_dir {
            if let Err(error) = runtime_dir.write_pid() {
                tracing::warn!("writing the pid file failed: {error}");
            }
        }
    }

    fn watch_all(&mut self) -> io::Result<()> {
        self.poller.watch_signals_and_doorbell()?;
        match self.sessions.listener() {
            Some(listener) => self.poller.watch(listener, Token::Listener),
            None => Ok(()),
        }
    }

    fn register_static(&mut self, worker: BackgroundWorker) {
        let name = worker.name().to_owned();
        match self.slot_table.register_static(worker) {
            Ok(event) => self.step(event),
            Err(error) => tracing::error!("registering static worker \"{name}\" failed: {error}"),
        }
    }
}

fn reopen_read_only(slots: &WorkerSlots, floor: DescriptorFloor) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", slots.region().as_fd().as_raw_fd());
    floor.move_above(std::fs::File::open(path)?)
}

/// For the environment of commands, whose working folder may be another one.
fn absolute(folder: &Path) -> Option<String> {
    Some(std::fs::canonicalize(folder).ok()?.to_str()?.to_owned())
}
