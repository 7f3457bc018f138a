//! `map_files`: a pool of workers counts the words of all files below a folder.
//!
//! `Pool::map` takes the paths one by one and has a bounded number of them in hand, so a folder of
//! any size needs little memory here. A file that cannot be read, or whose worker dies, costs its
//! own count: the outcome says why, and the others go on. It exits with 0 when all were counted.

use bgw_backend::{Backend, PoolOptions, Worker, WorkerError, pooled};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Counts the words of all files below a folder.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder.
    folder: PathBuf,
    /// How many workers run, at most.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

/// Runs in a worker, for one file after the other.
fn count_words(_: &mut Worker, path: PathBuf) -> Result<u64, WorkerError> {
    let bytes = fs::read(path)?;
    let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(words.count() as u64)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    logging::to_stderr("error");
    let Arguments { folder, workers } = Arguments::parse();
    let mut launched = Postmaster::builder()
        .max_workers(workers + 1)
        .segment_bytes(16 << 20)
        .call("count words", pooled(count_words))
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;
    let options = PoolOptions::new("count words").workers(1..=workers);
    let pool = backend.create_pool::<PathBuf, u64>(&options)?;

    let mut paths = Vec::new();
    files_below(&folder, &mut paths)?;
    let (mut words, mut failed) = (0, 0);
    for (done, counted) in pool.map(&paths).as_they_come().enumerate() {
        let (place, outcome) = counted?;
        match outcome.into_output() {
            Ok(count) => words += count,
            Err(why) => {
                failed += 1;
                let path = paths.get(place).map_or(Path::new("?"), PathBuf::as_path);
                eprintln!("{}: {why}", path.display());
            }
        }
        show(done + 1, paths.len());
    }
    let verdict = if failed == 0 { "ok" } else { "failed" };
    println!("map_files: {verdict}, {} files, {failed} failed, {words} words", paths.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Draws the progress bar, if somebody looks.
fn show(done: usize, all: usize) {
    const WIDTH: usize = 40;
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() {
        return;
    }
    let full = done * WIDTH / all.max(1);
    let end = if done == all { "\n" } else { "" };
    // A terminal that is gone costs the bar alone.
    let _ = write!(terminal, "\r[{:<WIDTH$}] {done} of {all}{end}", "#".repeat(full));
}

/// All files below `folder`; links are not followed.
fn files_below(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}
