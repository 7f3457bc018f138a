//! Peers that a Python script measures. The script prints a line for each row: a name and samples.

use crate::arguments::Arguments;
use crate::clock::Placement;
use crate::cluster::Result;
use crate::peer::Peer;
use crate::report::{Figure, Report};
use crate::{many, pooling, starting};
use std::path::Path;
use std::process::{Command, Stdio};

const FORKSERVER: &str = include_str!("../../peers/python/forkserver.py");
const XMLRPC: &str = include_str!("../../peers/supervisord/xmlrpc.py");

/// A script and what it needs.
pub(crate) struct Script {
    peer: Peer,
    source: &'static str,
    /// The command that runs supervisord.
    supervisord: Vec<String>,
}

fn runs(command: &[&str]) -> bool {
    let Some((program, args)) = command.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn need_python(peer: Peer) -> Result<()> {
    if runs(&["python3", "-c", "import multiprocessing.connection, xmlrpc.client"]) {
        return Ok(());
    }
    let key = peer.key();
    Err(format!("--against {key}: there is no python3; install it (apt-get install python3)")
        .into())
}

impl Script {
    pub(super) fn python() -> Result<Self> {
        need_python(Peer::Python)?;
        Ok(Self { peer: Peer::Python, source: FORKSERVER, supervisord: Vec::new() })
    }

    pub(super) fn supervisord() -> Result<Self> {
        need_python(Peer::Supervisord)?;
        let ways: [&[&str]; 2] = [&["supervisord"], &["python3", "-m", "supervisor.supervisord"]];
        let way = ways.into_iter().find(|way| runs(&[*way, &["--version"][..]].concat()));
        let way = way.ok_or(
            "--against supervisord: there is no supervisord; install it (apt-get install supervisor, \
             or pip install supervisor)",
        )?;
        let supervisord = way.iter().map(|&word| word.to_owned()).collect();
        Ok(Self { peer: Peer::Supervisord, source: XMLRPC, supervisord })
    }

    pub(super) fn measure(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        let rows = self.rows();
        if !rows.iter().any(|(_, row)| report.has(row)) {
            return Ok(());
        }
        println!("measuring {}", self.peer.title());
        let folder = tempfile::Builder::new().prefix("bgwbench-").tempdir()?;
        let file = folder.path().join("measure.py");
        std::fs::write(&file, self.source)?;
        let mut command = Command::new("python3");
        command.arg(&file).args(self.arguments(arguments, folder.path()));
        let done = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
        if !done.status.success() {
            return Err(format!("measuring {} failed: {}", self.peer.title(), done.status).into());
        }
        let said = String::from_utf8_lossy(&done.stdout);
        for (name, row) in rows {
            report.set_peer(&row, self.peer, Figure::of(samples(&said, &name)?));
        }
        Ok(())
    }

    /// The script's names and the rows that they belong to.
    fn rows(&self) -> Vec<(String, String)> {
        let [first, started, stopped] = starting::names(starting::Start::Forked, Placement::Free);
        let mut rows = vec![("started".to_owned(), started), ("stopped".to_owned(), stopped)];
        if self.peer == Peer::Python {
            rows.push(("first".to_owned(), first));
            rows.extend(
                [
                    ("job", pooling::ONE),
                    ("jobs-empty", pooling::EMPTY),
                    ("jobs-longer", pooling::LONGER),
                ]
                .map(|(name, row)| (name.to_owned(), row.to_owned())),
            );
            rows.extend(
                many::IN_FLIGHT.map(|number| (format!("churn-{number}"), many::churn_name(number))),
            );
        }
        rows
    }

    fn arguments(&self, arguments: &Arguments, folder: &Path) -> Vec<String> {
        if self.peer == Peer::Supervisord {
            // Each sample takes some hundred milliseconds.
            let samples = arguments.samples(30).to_string();
            let folder = folder.to_string_lossy().into_owned();
            return [samples, folder].into_iter().chain(self.supervisord.iter().cloned()).collect();
        }
        let counts = [arguments.samples(200), arguments.samples(500), arguments.samples(5)];
        counts.into_iter().chain(many::IN_FLIGHT).map(|count| count.to_string()).collect()
    }
}

/// The samples after `name`.
fn samples(said: &str, name: &str) -> Result<Vec<f64>> {
    let mut lines = said.lines().filter_map(|line| line.split_once(' '));
    let (_, numbers) = lines
        .find(|(found, _)| *found == name)
        .ok_or_else(|| format!("the script printed no line {name}"))?;
    let parsed: std::result::Result<Vec<f64>, _> =
        numbers.split_whitespace().map(str::parse).collect();
    Ok(parsed.map_err(|error| format!("the script's numbers of {name}: {error}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if lines are confused, or if text passes for a number.
    #[test]
    fn the_lines_of_a_script_are_read_by_name() {
        let said = "first 1 2.5\nchurn-1 9\nchurn-12 8\nbad x\n";
        assert_eq!(samples(said, "first").unwrap(), [1.0, 2.5]);
        assert_eq!(samples(said, "churn-1").unwrap(), [9.0]);
        assert!(samples(said, "started").unwrap_err().to_string().contains("no line started"));
        assert!(samples(said, "bad").is_err());
    }
}
