//! Packets of the control socket, and handles as texts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check panics")]

use super::check::assert_harmless;
use bgw_core::internals::{Left, PROTOCOL, Reply, Request, RollPart, RollRequest};
use bgw_core::{Pid, Refusal, RollOutcome, ShutdownMode, StartTime, WorkerHandle};

pub(super) fn requests() -> Vec<Vec<u8>> {
    let handle = WorkerHandle::new(3, 70, 2);
    let part = RollPart { list: 4, workers: vec![handle; 3] };
    let (stop_first, last) = (true, part.clone());
    let roll = RollRequest { at_once: 2, ready_within: 5000, stop_first, before: 9, last };
    let all = [
        Request::RestartNow(handle),
        Request::Kill(handle),
        Request::LastLines(handle),
        Request::Queue { waits: true, gifts: 3 },
        Request::Left { from: 7 },
        Request::ToRoll(Box::new(part)),
        Request::Roll(Box::new(roll)),
        Request::Hello { protocol: PROTOCOL, layout_tag: u64::MAX, read_only: true },
        Request::Shutdown(ShutdownMode::Fast),
        Request::Advance(StartTime::RecoveryFinished),
        Request::Reload,
        Request::Ping,
        Request::Functions { from: 3 },
    ];
    all.map(|request| request.encode().to_vec()).to_vec()
}

/// A request that is read has the bytes that it was read from.
pub(super) fn check_request(bytes: &[u8]) {
    match Request::decode(bytes) {
        Ok(request) => assert_eq!(request.encode().to_vec(), bytes),
        Err(error) => assert_harmless(&error.to_string()),
    }
}

pub(super) fn replies() -> Vec<Vec<u8>> {
    let handle = WorkerHandle::new(3, 70, 2);
    let left = Left { worker: handle, pid: 42, told_for: 1500, killed_in: u64::MAX };
    let all = [
        Reply::Queue,
        Reply::Left(vec![left; 2]),
        Reply::Granted(handle),
        Reply::LastLines("one\ntwo\n".to_owned()),
        Reply::Rolled(vec![RollOutcome::Done, RollOutcome::ShuttingDown]),
        Reply::Welcome {
            protocol: PROTOCOL,
            postmaster: Pid::this(),
            owner: Pid::this(),
            liveness: 1,
            read_only: false,
        },
        Reply::RolledIn { count: 70 },
        Reply::Done,
        Reply::Functions(vec!["main".to_owned(), "other".to_owned()]),
        Reply::Refused { reason: Refusal::Layout, detail: "another layout".to_owned() },
    ];
    all.map(|reply| reply.encode().to_vec()).to_vec()
}

/// A reply that is read comes back from its own bytes.
pub(super) fn check_reply(bytes: &[u8]) {
    match Reply::decode(bytes) {
        Ok(reply) => assert_eq!(Reply::decode(&reply.encode()), Ok(reply)),
        Err(error) => assert_harmless(&error.to_string()),
    }
}

pub(super) fn handles() -> Vec<Vec<u8>> {
    let handle = |slot, generation, incarnation| {
        WorkerHandle::new(slot, generation, incarnation).to_string().into_bytes()
    };
    vec![handle(0, 0, 0), handle(u32::MAX, shmem_slots::MAX_GENERATION, u32::MAX), handle(7, 70, 1)]
}

/// A handle that is read is printed as it was written, up to leading zeros and case.
pub(super) fn check_handle(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<WorkerHandle>() {
        Ok(handle) => assert_eq!(handle.to_string().parse(), Ok(handle)),
        Err(error) => assert_harmless(&error.to_string()),
    }
}
