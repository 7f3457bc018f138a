//! Measures what the facility is for (asking, starting, stopping, many at once), each figure beside
//! the kernel's own limit, taken in the same run by the same means; with `--against` what others take, too.
//!
//! Samples of ours and of the limit alternate, so that a machine that becomes slower becomes slower for
//! both. Ratios matter; absolute figures are the machine's. Nothing here is asserted: it is a report.
//! Started by `cargo xtask bench --report`.

mod against;
mod asking;
mod clock;
mod cluster;
mod footprint;
mod json;
mod limits;
mod many;
mod plot;
mod report;
mod scaling;
mod starting;
mod sys;

use against::{Peer, Peers};
use clap::Parser;
use cluster::Result;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures starts, stops, status and memory beside the kernel's own limits.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Fewer samples: rough figures in a fraction of the time
    #[arg(long)]
    quick: bool,
    /// Write the report as Markdown, too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How the cost of each event grows with slots and live workers, in place of the report
    #[arg(long, conflicts_with = "filter")]
    scaling: bool,
    /// With --scaling: draw it, as SVG files in this folder
    #[arg(long, value_name = "FOLDER", requires = "scaling")]
    plots: Option<PathBuf>,
    /// Measure these, too, where they can do the same: a column each
    #[arg(long, value_name = "PEER", value_enum, value_delimiter = ',')]
    against: Vec<Peer>,
}

impl Arguments {
    /// How many samples, out of how many there would be.
    pub(crate) const fn samples(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (name, done) = if arguments.scaling {
        ("scaling", scale(&arguments))
    } else {
        ("report", measure(&arguments))
    };
    match done {
        Ok(rows) => {
            println!("{name}: ok, {rows} rows");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("{name}: failed: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn scale(arguments: &Arguments) -> Result<usize> {
    let peers = Peers::find(arguments)?;
    let axes = scaling::measure(arguments, peers.postgres.as_ref())?;
    let markdown = format!("{}\n\n{}", report::machine(), scaling::markdown(&axes));
    println!("\n{markdown}");
    write(arguments, &markdown, &json::scaling(&axes)?)?;
    if let Some(folder) = &arguments.plots {
        plot::write(&axes, folder)?;
    }
    Ok(axes.iter().map(|axis| axis.ours.len() + axis.postgres.len()).sum())
}

/// The files that were asked for.
fn write(arguments: &Arguments, markdown: &str, json: &str) -> Result<()> {
    for (file, text) in [(&arguments.markdown, markdown), (&arguments.json, json)] {
        if let Some(file) = file {
            std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<usize> {
    let mut report = Report::new(arguments.filter.clone());
    let peers = Peers::find(arguments)?;
    type Part = fn(&Arguments, &mut Report) -> Result<()>;
    let parts: [Part; 4] = [asking::measure, starting::measure, many::measure, footprint::measure];
    for part in parts {
        part(arguments, &mut report)?;
    }
    peers.measure(arguments, &mut report)?;
    let markdown = report.markdown();
    println!("\n{markdown}");
    write(arguments, &markdown, &json::report(&report)?)?;
    Ok(report.rows().len())
}
