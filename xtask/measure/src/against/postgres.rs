//! PostgreSQL's own background workers, measured in the same run, for the rows that it has.
//!
//! The extension in `peers/postgres` is built in a temporary folder, and a throwaway cluster loads
//! it from there; nothing is installed. It measures from inside a backend by the same steps as
//! ours, with as many samples, workers and slots. It runs after our own measurements.

use crate::arguments::Arguments;
use crate::clock::{Placement, pin};
use crate::cluster::Result;
use crate::peer::Peer;
use crate::report::{Figure, Report};
use crate::{asking, many, starting};
use postgres::Client;
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use throwaway_postgres::{ThrowawayCluster, programs};

const SOURCE: &str = include_str!("../../peers/postgres/bgwbench.c");
const MAKEFILE: &str = include_str!("../../peers/postgres/Makefile");
const FUNCTIONS: &str = include_str!("../../peers/postgres/functions.sql");

const INSTALL: &str = "install PostgreSQL's server and its headers, version 15 or later \
                       (on Debian 12: apt-get install postgresql postgresql-server-dev-15)";

/// The extension, after its build.
pub(crate) struct Bench {
    folder: TempDir,
}

/// A server with the extension.
pub(crate) struct Server {
    // Declared before the cluster: the connection closes before the server stops.
    client: Client,
    cluster: ThrowawayCluster,
}

impl Bench {
    /// The error says what to install.
    pub(crate) fn build() -> Result<Self> {
        let lacking = |what: &str| format!("--against postgres: {what}; {INSTALL}");
        let programs = programs().map_err(|_| lacking("there is no PostgreSQL server"))?;
        // The one of the server's version; some systems have it only in the path.
        let beside = programs.join("pg_config");
        let config = if beside.is_file() { beside } else { "pg_config".into() };
        let said = Command::new(&config).arg("--pgxs").output();
        let said = said.map_err(|error| lacking(&format!("pg_config: {error}")))?;
        let pgxs = String::from_utf8_lossy(&said.stdout);
        if !Path::new(pgxs.trim_end()).is_file() {
            return Err(lacking("the server's headers and makefiles (pgxs) are not there").into());
        }
        let folder = tempfile::Builder::new().prefix("bgwbench-").tempdir()?;
        // The server may run as another user.
        set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        write(folder.path().join("bgwbench.c"), SOURCE)?;
        write(folder.path().join("Makefile"), MAKEFILE)?;
        let mut make = Command::new("make");
        make.arg("--silent").arg("-C").arg(folder.path()).arg("with_llvm=no");
        make.arg(format!("PG_CONFIG={}", config.display())).env_remove("MAKEFLAGS");
        let built = make.output().map_err(|error| format!("make: {error}; install make"))?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            return Err(format!("building bgwbench failed:\n{said}{INSTALL}").into());
        }
        Ok(Self { folder })
    }

    /// Adds PostgreSQL's figures to the rows of the report.
    pub(crate) fn measure(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        // As many slots as our own cluster had.
        let mut server = self.start(64)?;
        server.asking(arguments, report)?;
        server.starting(arguments, report)?;
        server.churn(arguments, report)?;
        drop(server);
        if many::crowd_names().iter().any(|name| report.has(name)) {
            self.start(many::CROWD + 64)?.crowd(arguments, report)?;
        }
        Ok(())
    }

    pub(crate) fn start(&self, slots: u32) -> Result<Server> {
        println!("starting a PostgreSQL server with {slots} worker slots");
        let cluster = ThrowawayCluster::start_with(&[
            &format!("dynamic_library_path={}:$libdir", self.folder.path().display()),
            "shared_preload_libraries=bgwbench",
            &format!("max_worker_processes={slots}"),
            // Nothing else runs.
            "max_logical_replication_workers=0",
            "autovacuum=off",
            "statement_timeout=120s",
        ])?;
        let mut client = cluster.client("postgres")?;
        client.batch_execute(FUNCTIONS)?;
        Ok(Server { client, cluster })
    }
}

/// As an SQL argument.
fn int(number: usize) -> Result<i32> {
    Ok(i32::try_from(number)?)
}

/// Pins a session's backend to a core, or unpins it.
fn pin_backend(client: &mut Client, core: Option<usize>) -> Result<()> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    Ok(pin(pid, core)?)
}

impl Server {
    fn asking(&mut self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        let samples = int(arguments.samples(2000))?;
        for (name, beside) in [(asking::ALONE, false), (asking::TWO, true)] {
            if !report.has(name) {
                continue;
            }
            let other = beside.then(|| self.ask_beside()).transpose()?;
            pin_backend(&mut self.client, Some(0))?;
            let row = self.client.query_one("SELECT status($1, $2)", &[&samples, &beside])?;
            pin_backend(&mut self.client, None)?;
            if let Some(other) = other {
                other.join().map_err(|_| "the session that asks beside panicked")??;
            }
            report.set_peer(name, Peer::Postgres, Figure::of(row.get(0)));
        }
        Ok(())
    }

    /// A session that queries on the other core until the measured one has finished.
    fn ask_beside(
        &self,
    ) -> Result<std::thread::JoinHandle<std::result::Result<(), postgres::Error>>> {
        let mut client = self.cluster.client("postgres")?;
        pin_backend(&mut client, Some(1))?;
        Ok(std::thread::spawn(move || client.batch_execute("SELECT ask_beside()")))
    }

    /// Figures for first lines, starts and ends.
    pub(crate) fn start_stop(&mut self, samples: usize) -> Result<[Figure; 3]> {
        let row = self.client.query_one("SELECT * FROM start_stop($1)", &[&int(samples)?])?;
        Ok([0, 1, 2].map(|column| Figure::of(row.get(column))))
    }

    /// The same beside `live` idle workers.
    pub(crate) fn start_stop_beside(&mut self, live: u32, samples: usize) -> Result<[Figure; 3]> {
        if live == 0 {
            return self.start_stop(samples);
        }
        self.client.query_one("SELECT hold($1)", &[&i32::try_from(live)?])?;
        let figures = self.start_stop(samples)?;
        self.client.query_one("SELECT release()", &[])?;
        Ok(figures)
    }

    fn starting(&mut self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        // PostgreSQL has no spares.
        let names = starting::names(starting::Start::Forked, Placement::Free);
        if !names.iter().any(|name| report.has(name)) {
            return Ok(());
        }
        let _warm_up = self.start_stop(8)?;
        let figures = self.start_stop(arguments.samples(400))?;
        for (name, figure) in names.iter().zip(figures) {
            report.set_peer(name, Peer::Postgres, figure);
        }
        Ok(())
    }

    fn churn(&mut self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        for in_flight in many::IN_FLIGHT {
            let name = many::churn_name(in_flight);
            if !report.has(&name) {
                continue;
            }
            let count = int(arguments.samples(1000).max(in_flight))?;
            let mut rates = Vec::new();
            for _ in 0..many::CHURNS {
                let row =
                    self.client.query_one("SELECT churn($1, $2)", &[&count, &int(in_flight)?])?;
                rates.push(row.get(0));
            }
            report.set_peer(&name, Peer::Postgres, Figure::of(rates));
        }
        Ok(())
    }

    fn crowd(&mut self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        let [beside, start_all, stop_all] = many::crowd_names();
        let crowd = i32::try_from(many::CROWD)?;
        let started = self.client.query_one("SELECT hold($1)", &[&crowd])?.get(0);
        let [first, ..] = self.start_stop(arguments.samples(300))?;
        let stopped = self.client.query_one("SELECT release()", &[])?.get(0);
        report.set_peer(&beside, Peer::Postgres, first);
        report.set_peer(&start_all, Peer::Postgres, Figure::one(started));
        report.set_peer(&stop_all, Peer::Postgres, Figure::one(stopped));
        Ok(())
    }
}
