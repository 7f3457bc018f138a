//! Measures status queries, starts, ends and throughput beside the kernel's own limits, in the same
//! run and by the same means; with `--against` beside other programs. `cargo xtask bench --report`
//! and `--scaling` run it.
//!
//! Samples of ours and of the limit alternate, so a machine that slows down slows down both. Ratios
//! matter; absolute figures belong to one machine. The program reports and asserts nothing.

mod against;
mod arguments;
mod asking;
mod clock;
mod cluster;
mod copying;
mod footprint;
mod jobs;
mod json;
mod limits;
mod loaded;
mod many;
mod peer;
mod plot;
mod pooling;
mod report;
mod reusing;
mod ring;
mod scaling;
mod starting;
mod sys;

use against::Peers;
use arguments::Arguments;
use clap::Parser;
use cluster::Result;
use report::Report;
use std::process::ExitCode;

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

/// Writes the requested files.
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
    let parts: [Part; 8] = [
        asking::measure,
        starting::measure,
        reusing::measure,
        pooling::measure,
        copying::measure,
        loaded::measure,
        many::measure,
        footprint::measure,
    ];
    for part in parts {
        part(arguments, &mut report)?;
    }
    peers.measure(arguments, &mut report)?;
    let markdown = report.markdown();
    println!("\n{markdown}");
    write(arguments, &markdown, &json::report(&report)?)?;
    Ok(report.rows().len())
}
