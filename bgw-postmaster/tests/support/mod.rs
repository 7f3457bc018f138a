//! A launched postmaster, and a peer that uses `bgw-core` alone.
//!
//! The postmaster crate does not depend on the backend crate; `bgw-examples` tests both together.
//! Here a peer may also do what no backend would.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use bgw_core::internals::{ReportRecord, RunState, WorkerRecord, flag, run_state};
use bgw_core::{
    Attachment, BackgroundWorker, ControlSocket, ExitCause, ExitReport, Pid, ShutdownMode,
};
use bgw_postmaster::{Launched, Postmaster, PostmasterBuilder};
use process_test::wait_until;
use shmem_slots::Key;
use std::path::Path;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub launched: Launched,
    pub peer: Attachment,
}

pub fn builder() -> PostmasterBuilder {
    Postmaster::builder().max_workers(16).function("quick", |_| Ok(())).function("sleep", |me| {
        bgw_core::internals::signals::unblock_all()?;
        loop {
            let interrupts = bgw_core::internals::process::interrupts().count();
            if bgw_core::internals::process::interrupts()
                .pending()
                .contains(bgw_core::internals::Pending::TERMINATE)
            {
                return Ok(());
            }
            let events =
                bgw_core::WaitEvents::LATCH_SET | bgw_core::WaitEvents::EXIT_ON_POSTMASTER_DEATH;
            bgw_core::internals::wait_in_worker(me, events, &mut [], None, interrupts)?;
        }
    })
}

impl Cluster {
    pub fn with(builder: PostmasterBuilder) -> Self {
        let mut launched = builder.build().unwrap().launch().unwrap();
        let peer = attach(launched.take_control().unwrap());
        Self { launched, peer }
    }

    pub fn new() -> Self {
        Self::with(builder())
    }

    /// Registers as a backend does.
    pub fn register(&self, worker: &BackgroundWorker) -> Key {
        let key = publish(&self.peer, &WorkerRecord::encode(worker, Pid::this()), 0);
        self.peer.ring().unwrap();
        key
    }

    pub fn run_state(&self, key: Key) -> RunState {
        self.peer.slots().look(key).map_or(RunState::Stopped, run_state)
    }

    pub fn started(&self, key: Key) -> Pid {
        let mut found = None;
        wait_until("the worker runs", PATIENCE, || {
            found = match self.run_state(key) {
                RunState::Started(pid) => Some(pid),
                _ => None,
            };
            found.is_some()
        });
        found.unwrap()
    }

    pub fn stopped(&self, key: Key) -> Option<ExitReport> {
        wait_until("the worker has ended", PATIENCE, || self.run_state(key) == RunState::Stopped);
        let report = self.peer.slots().read_report_with(key, ReportRecord::annex_len);
        report.ok().map(|(record, annex)| record.decode(&annex).unwrap())
    }

    pub fn terminate(&self, key: Key) {
        self.peer.slots().set_flags(key, flag::TERMINATE).unwrap();
        self.peer.ring().unwrap();
    }

    pub fn end(self) {
        self.launched.shutdown(ShutdownMode::Fast).unwrap();
        assert_eq!(self.launched.wait().unwrap(), ExitCause::Exited(0));
    }
}

pub fn attach(socket: ControlSocket) -> Attachment {
    Attachment::attach(socket, false, Some(Instant::now() + PATIENCE)).unwrap()
}

/// Attaches to the postmaster of this folder, as another program does.
pub fn second_peer(folder: &Path) -> Attachment {
    attach(ControlSocket::connect(&folder.join("control.sock"), None).unwrap())
}

pub fn publish(peer: &Attachment, record: &WorkerRecord, flags: u8) -> Key {
    let mut claim = peer.slots().claim(peer.owner().get()).unwrap();
    claim.write(record).unwrap();
    claim.publish(flags).unwrap()
}

pub fn worker(function: &str) -> BackgroundWorker {
    BackgroundWorker::builder(function).function(function).build().unwrap()
}
