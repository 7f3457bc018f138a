//! The rows: every behaviour of PostgreSQL's background workers, every bug that it or its users had,
//! every scenario of its own tests, and what goes beyond it.
//!
//! A row that makes no sense outside a database server says by what it is met here.

/// One behaviour to be proven.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// As its tests name it: `B76`.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What meets the row here, where PostgreSQL's own thing does not exist. Empty: the thing itself.
    pub(crate) met_by: &'static str,
}

const fn row(id: &'static str, title: &'static str) -> Row {
    Row { id, title, met_by: "" }
}

const fn met(id: &'static str, title: &'static str, met_by: &'static str) -> Row {
    Row { id, title, met_by }
}

/// `B` behaviours, `R` bugs, `S` scenarios, `X` extensions, `D` promises beyond PostgreSQL.
pub(crate) const ROWS: &[Row] = &[
    row("B01", "static registration before the postmaster runs; started in its phase"),
    row("B02", "static registration refused afterwards, with the reason"),
    row("B03", "static worker with a notify target refused"),
    row("B04", "more static workers than slots: refused, the rest starts"),
    row("B05", "dynamic registration from a backend returns a handle"),
    row("B06", "dynamic registration from within a worker"),
    row("B07", "dynamic registration from the postmaster itself refused"),
    row("B08", "no free slot: refused at once, distinct reason"),
    row("B09", "the handle may be dropped; the worker goes on"),
    row("B10", "status NotYetStarted before the postmaster tried"),
    row("B11", "status Started with the right pid"),
    row("B12", "status Stopped after the exit for good"),
    row("B13", "Stopped between exit and restart; Started again with the new pid"),
    row("B14", "Stopped when unregistered without ever starting"),
    row("B15", "a stale handle answers Stopped"),
    row("B16", "wait for startup returns Started with the pid"),
    row("B17", "wait for startup returns Stopped when it ended or cannot start"),
    row("B18", "wait for startup returns PostmasterDied"),
    row("B19", "wait for shutdown returns Stopped, or PostmasterDied"),
    row("B20", "waits can be interrupted by the waiter's own signals"),
    row("B21", "SIGUSR1 to the notify target at the start"),
    row("B22", "SIGUSR1 to the notify target at the exit"),
    row("B23", "no notify target: nobody is signalled"),
    row("B24", "a notify target that is no live child or peer is never signalled"),
    row("B25", "notifications stop when the target exits"),
    row("B26", "terminate of a running worker: SIGTERM, then never restarted"),
    row("B27", "terminate before the start: never starts, waiter told"),
    row("B28", "terminate after the exit, twice, or with a stale handle: harmless"),
    row("B29", "terminate while it waits for its restart: unregistered at once"),
    row("B30", "exit 0: unregistered whatever the restart interval"),
    row("B31", "exit 1: restarted after its interval, not before"),
    row("B32", "interval 0: restarted at once"),
    row("B33", "never-restart: exit 1 unregisters it"),
    row("B34", "other exit codes and signals are crashes: the cluster resets"),
    row("B35", "after a reset restartable workers start at once, the others are gone"),
    row("B36", "after a reset old handles answer Stopped, old targets are not signalled"),
    row("B37", "restart-after-crash off: the postmaster ends instead"),
    row("B38", "a second crash during a reset is part of the same reset"),
    row("B39", "fork failure: retried after the interval; never-restart is freed and told"),
    row("B40", "start phase PostmasterStart"),
    row("B41", "start phase ConsistentState"),
    row("B42", "start phase RecoveryFinished; none starts before its phase"),
    row("B43", "database flag with PostmasterStart refused"),
    row("B44", "database flag without shared memory refused; unknown flags refused"),
    row("B45", "restart interval out of range refused"),
    row("B46", "empty type becomes the name; the type is shown in views and logs"),
    row("B47", "limits of name, type, library and function"),
    row("B48", "the main argument arrives unchanged (64 bits)"),
    row("B49", "the extra bytes arrive unchanged (128, of any value)"),
    row("B50", "entry by function name from a built-in table"),
    row("B51", "entry by library and function, loaded in the child"),
    met(
        "B52",
        "unknown library or function: logged, exit 1, policy applies",
        "a function name that the postmaster does not have is refused at registration already",
    ),
    row("B53", "signals are blocked at entry until unblocked"),
    row("B54", "default SIGTERM ends the worker with exit 1 and a message"),
    row("B55", "SIGHUP at the postmaster reaches all workers"),
    row("B56", "dispositions of the other signals at entry"),
    row("B57", "uncaught error or panic: logged, exit 1"),
    row("B58", "a worker is in its own session; its title shows its name"),
    row("B59", "connection to a database by name and user, once, only with the flag"),
    row("B60", "second connection attempt, or without the flag: clear error"),
    row("B61", "transactions: commit, rollback on error, nothing half done at death"),
    row("B62", "SIGINT cancels the running statement of a database worker"),
    row("B63", "latch: set, wait, reset; set from a handler and from another process"),
    row("B64", "wait on latch, timeout, sockets and postmaster death together"),
    row("B65", "a wait that ends the process at the postmaster's death"),
    row("B66", "parallel class: own cap; refused above it; freed when they end"),
    row("B67", "parallel class must be never-restart"),
    met(
        "B68",
        "activity view: workers with pid, type, start time, state",
        "Backend::workers(), a value for each worker, in place of a catalog view",
    ),
    row("B69", "type by pid"),
    row("B70", "postmaster death: all workers end promptly"),
    row("B71", "smart shutdown: live backends finish, may start workers, then workers stop"),
    row("B72", "fast shutdown"),
    row("B73", "immediate shutdown; kill after the grace time"),
    row("B74", "a stricter shutdown overrides a milder one, not the reverse"),
    row("B75", "registration during shutdown: on no list, waiter told Stopped"),
    row("B76", "unstarted workers with waiters are released at shutdown"),
    row("B77", "a bounded number of starts per round of the loop; events not starved"),
    row("B78", "the postmaster survives any bytes in shared memory"),
    row("B79", "second postmaster refused while the first or its children live"),
    row("B80", "exits and crashes are logged with type, pid, code or signal name"),
    met(
        "B81",
        "interruptible workers can be ended by the resource that they use",
        "by a tag of the description, in place of a database's oid",
    ),
    row("B82", "a worker's named wait is visible while it waits"),
    row("B83", "worker_spi counterpart"),
    row("B84", "ring of workers that pass messages through shared memory"),
    row("R01", "unstarted worker with a waiter at shutdown: the waiter hung"),
    row("R02", "never-restart worker whose start failed: the waiter was not told"),
    row("R03", "terminate before pick-up: waiter not told, slot leaked"),
    row("R04", "class count off for ever after a reset with parallel workers"),
    row("R05", "over-registration at the cap"),
    row("R06", "notify pid kept after a crash reset: a stranger got SIGUSR1"),
    row("R07", "notify pid of an exited backend reused: a stranger got SIGUSR1"),
    row("R08", "thousands of registrations starved the other events"),
    row("R09", "slot freed after the notification: re-registration found none"),
    row("R10", "exit 0 with a restart interval came back for ever"),
    row("R11", "SIGTERM before the handlers stood killed a worker in its set-up"),
    row("R12", "SIGTERM handler did unsafe work in signal context"),
    row("R13", "worker kept running after the postmaster's death"),
    row("R14", "crash during the crash reset began another"),
    row("R15", "smart shutdown refused the workers that live sessions needed"),
    row("R16", "child stuck in SIGQUIT made the immediate shutdown hang"),
    row("R17", "terminate with a stale handle hit the slot's next tenant"),
    row("R18", "a kill after the grace time was taken for a crash"),
    row("R19", "log flooded when no slot was free"),
    row("R20", "signal landed on a helper thread that could not handle it"),
    row("R21", "slot count changed by a stray write"),
    row("R22", "clock set back: the restart came hours late"),
    row("R23", "fork while a thread held the allocator's lock: the child hung"),
    row("R24", "descriptors of the postmaster leaked to workers"),
    row("R25", "lost latch wake-up between reset and wait"),
    row("R26", "a worker that caused a crash reset was not started again after it"),
    row("R27", "workers outlived a fast shutdown that came before the last phase"),
    met(
        "S01",
        "launch, pid, activity view, its table counts up, terminate, gone",
        "a call of the library in place of an SQL function",
    ),
    row("S02", "static workers start with the server; settings change at reload"),
    met(
        "S03",
        "launch into a named database with a named role; refusals are exit 1, logged",
        "the server's own refusals; flags that bypass them exist inside a server only",
    ),
    row("S04", "custom wait event name shown while it naps"),
    row("S05", "interruptible workers end for their resource, others block it"),
    row("S06", "a worker stopped at a given point, terminated there"),
    row("S07", "message queue through N workers in a ring"),
    met(
        "S08",
        "leader takes fewer workers than asked for; errors and its death are passed on",
        "a program with workers of the parallel class, in place of a parallel query",
    ),
    row("S09", "crash and restart: everything comes back but never-restart workers"),
    row("S10", "shutdown modes with workers idle, busy, unstarted"),
    row("X01", "the exit code stays readable until the slot is reused"),
    row("X02", "the signal and the core flag stay readable"),
    row("X03", "the number of restarts stays readable"),
    row("X04", "peak memory and CPU time stay readable"),
    row("X05", "any number of waiters, in any process of the cluster"),
    row("X06", "wait_any over many handles"),
    row("X07", "wait_all over many handles"),
    row("X08", "every wait takes a deadline"),
    row("X09", "an end that was asked for is recorded as such and is no crash"),
    row("D01", "no end is lost, however many others register meanwhile"),
    row("D02", "a wait for the end for good: unregistered, no process left"),
    row("D03", "grace times hold on every way down"),
    row("D04", "stop signals go to the worker's whole process group"),
    row("D05", "no process of the cluster is left 6 s after its postmaster was killed"),
    row("D06", "the runtime folder stays locked until the last process is gone"),
    row("D07", "a failing worker is never silent, with or without a log subscriber"),
    row("D08", "a crash reset explains itself to every handle from before it"),
    row("D09", "SIGHUP reaches only those that asked for it"),
    row("D10", "a child runs nothing of the program but its entry"),
    row("D11", "fault signals, SIGQUIT and the death signal are never blocked"),
    row("D12", "descriptors of ours are never 0, 1 or 2; commands get only what is passed"),
    row("D13", "a peer's life is its process, not only its connection"),
    row("D14", "whatever peers do, each pass of the event loop and the log stay bounded"),
    row("D15", "an observer of another user can neither write nor make writable"),
    row("D16", "only functions may be registered, unless the builder allows more"),
    row("D17", "a crash reset tears no copy of a payload or a report"),
    row("D18", "every deadline is kept; a late reply never answers the next request"),
    row("D19", "a postmaster that returns from run() is dead to its cluster"),
    row("D20", "as PID 1 of a container it reaps orphans"),
];

/// Whether a row counts: the number of rows proven, and the exit status.
///
/// The `D` rows are listed apart until each has a test.
pub(crate) fn counts(row: &Row) -> bool {
    COUNT_BEYOND || !row.id.starts_with('D')
}

/// Turn this on when every `D` row is proven.
const COUNT_BEYOND: bool = false;

/// The ids there are: `B01 to B84, R01 to R27, …`.
pub(crate) fn ranges() -> String {
    let ranges: Vec<String> = ROWS
        .chunk_by(|row, next| row.id[..1] == next.id[..1])
        .filter_map(|kind| Some(format!("{} to {}", kind.first()?.id, kind.last()?.id)))
        .collect();
    ranges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{ROWS, ranges};
    use std::collections::BTreeSet;

    #[test]
    fn every_number_of_every_kind_has_one_row() {
        let wanted = [("B", 84), ("R", 27), ("S", 10), ("X", 9), ("D", 20)]
            .into_iter()
            .flat_map(|(kind, count)| (1..=count).map(move |number| format!("{kind}{number:02}")));
        assert!(wanted.eq(ROWS.iter().map(|row| row.id)));
        let titles: BTreeSet<_> = ROWS.iter().map(|row| row.title).collect();
        assert_eq!(titles.len(), ROWS.len());
        assert!(ranges().starts_with("B01 to B84, R01 to R27, "), "{}", ranges());
    }
}
