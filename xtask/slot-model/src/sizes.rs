//! The sizes that are checked. Each is small enough to be gone through whole, and has what one
//! promise needs.

use crate::config::{Broken, Config};

/// Two programs, one slot each.
const BASE: Config = Config {
    name: "",
    slots: 2,
    registrants: 2,
    jobs: 1,
    one_runs: false,
    tries: 2,
    waiters: 0,
    spares: 0,
    reuses: false,
    spare_deaths: 0,
    stops: 0,
    scribbles: 0,
    shutdowns: 0,
    deaths: 0,
    crashes: 0,
    postmaster_deaths: 0,
    terminates: false,
    drops: false,
    broken: Broken::Nothing,
};

/// One program that gives its workers to a spare.
const DIRECT: Config = Config { slots: 2, registrants: 1, spares: 1, ..BASE };

/// The same, and a worker of another program crashes meanwhile.
const RESET: Config = Config { registrants: 2, one_runs: true, crashes: 1, ..DIRECT };

/// All sizes.
pub(crate) const ALL: &[Config] = &[
    Config { name: "more registrations than slots", jobs: 2, ..BASE },
    Config { name: "one slot, two that want it", slots: 1, jobs: 2, deaths: 1, ..BASE },
    Config { name: "killed at each step", deaths: 2, drops: true, ..BASE },
    Config { name: "asked to end", slots: 1, terminates: true, deaths: 1, waiters: 1, ..BASE },
    Config { name: "crash and reset", crashes: 1, deaths: 1, ..BASE },
    Config {
        name: "reset and a next tenant",
        slots: 1,
        registrants: 1,
        jobs: 3,
        crashes: 2,
        waiters: 2,
        ..BASE
    },
    Config {
        name: "a waiter that runs late",
        registrants: 1,
        jobs: 3,
        waiters: 1,
        deaths: 1,
        ..BASE
    },
    Config { name: "the postmaster dies", postmaster_deaths: 1, waiters: 1, ..BASE },
    Config { name: "dropped handles", slots: 1, jobs: 2, drops: true, ..BASE },
    Config { name: "given to a spare", deaths: 1, ..DIRECT },
    Config { name: "a spare serves again", slots: 1, jobs: 2, reuses: true, ..DIRECT },
    Config { name: "a spare is killed", slots: 1, jobs: 2, spare_deaths: 1, ..DIRECT },
    Config { name: "a spare is stopped", slots: 1, jobs: 2, stops: 1, ..DIRECT },
    Config {
        name: "given, and asked to end",
        slots: 1,
        terminates: true,
        deaths: 1,
        spare_deaths: 1,
        ..DIRECT
    },
    Config { name: "given, reset, and a next tenant", slots: 1, jobs: 2, crashes: 1, ..DIRECT },
    Config {
        name: "given while a shutdown begins",
        slots: 1,
        shutdowns: 1,
        spare_deaths: 1,
        deaths: 1,
        ..DIRECT
    },
    Config { name: "reset while given", spare_deaths: 1, ..RESET },
    Config { name: "reset, and the spare has served", reuses: true, ..RESET },
    Config { name: "scribbled cells of spares", slots: 1, spares: 2, scribbles: 1, ..DIRECT },
];
