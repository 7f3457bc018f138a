//! Others that do the same, measured in the same run for the rows that they have, too. Ours is over by
//! then: nothing of it runs beside them.

mod postgres;
mod scripts;

use crate::Arguments;
use crate::cluster::Result;
use crate::report::Report;
pub(crate) use postgres::Bench;
use scripts::Script;

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// PostgreSQL's own background workers; its server and its headers must be installed
    Postgres,
    /// The forkserver of Python's multiprocessing; python3 must be installed
    Python,
    /// supervisord, asked by XML-RPC; it must be installed, and python3
    Supervisord,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::Python, Self::Supervisord];

    /// As the report calls it, in JSON and on the command line.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Python => "python",
            Self::Supervisord => "supervisord",
        }
    }

    /// As a reader calls it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Python => "Python forkserver",
            Self::Supervisord => "supervisord",
        }
    }
}

/// Those that were asked for, ready to be measured.
pub(crate) struct Peers {
    pub(crate) postgres: Option<Bench>,
    scripts: Vec<Script>,
}

impl Peers {
    /// An error says what is to be installed; before the long work.
    pub(crate) fn find(arguments: &Arguments) -> Result<Self> {
        let wants = |peer| arguments.against.contains(&peer);
        let mut scripts = Vec::new();
        if wants(Peer::Python) {
            scripts.push(Script::python()?);
        }
        if wants(Peer::Supervisord) {
            scripts.push(Script::supervisord()?);
        }
        let postgres = wants(Peer::Postgres).then(Bench::build).transpose()?;
        Ok(Self { postgres, scripts })
    }

    /// Fills in what they take, for the rows that there are.
    pub(crate) fn measure(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        if let Some(postgres) = &self.postgres {
            postgres.measure(arguments, report)?;
        }
        self.scripts.iter().try_for_each(|script| script.measure(arguments, report))
    }
}
