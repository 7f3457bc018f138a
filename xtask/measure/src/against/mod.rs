//! Others that do the same, measured in the same run for the rows that they have, too. Ours is over
//! by then: nothing of it runs beside them.

mod postgres;
mod scripts;

use crate::arguments::Arguments;
use crate::cluster::Result;
use crate::peer::Peer;
use crate::report::Report;
pub(crate) use postgres::Bench;
use scripts::Script;

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
