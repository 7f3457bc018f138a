//! Other programs with the same job, measured in the same run for the rows that they have. They run
//! after our own measurements, so neither disturbs the other.

mod postgres;
mod scripts;

use crate::arguments::Arguments;
use crate::cluster::Result;
use crate::peer::Peer;
use crate::report::Report;
pub(crate) use postgres::Bench;
use scripts::Script;

/// The requested programs, ready to be measured.
pub(crate) struct Peers {
    pub(crate) postgres: Option<Bench>,
    scripts: Vec<Script>,
}

impl Peers {
    /// Fails before the long work if something is not installed; the error says what.
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

    /// Adds their figures to the rows of the report.
    pub(crate) fn measure(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        if let Some(postgres) = &self.postgres {
            postgres.measure(arguments, report)?;
        }
        self.scripts.iter().try_for_each(|script| script.measure(arguments, report))
    }
}
