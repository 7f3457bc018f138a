//! The parent: runs the kept inputs and then new ones until the time is over.

use crate::child::Stretch;
use crate::targets::Target;
use crate::{input, shrink};
use std::error::Error;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Inputs of one child.
const STRETCH: u64 = 5000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many inputs passed. An error says what failed, and where the input is kept.
pub(crate) fn run(target: Target, seed: u64, seconds: u64) -> Result<u64> {
    let kept = kept(target)?;
    for file in &kept {
        let ended = child(target, "--input", &file.to_string_lossy(), seed)?;
        if !ended.status.success() {
            return Err(format!("kept input {}: {}", file.display(), words(&ended)).into());
        }
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut from = 0;
    while Instant::now() < end {
        let stretch = Stretch { from, count: STRETCH, loud: false };
        if !child(target, "--stretch", &stretch.to_string(), seed)?.status.success() {
            return Err(found(target, seed, Stretch { loud: true, ..stretch })?.into());
        }
        from += STRETCH;
    }
    Ok(kept.len() as u64 + from)
}

/// The files of inputs that failed once.
fn kept(target: Target) -> Result<Vec<PathBuf>> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

fn folder(target: Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.to_string())
}

/// Finds the input of a stretch that fails, shortens it and keeps it.
fn found(target: Target, seed: u64, stretch: Stretch) -> Result<String> {
    let again = child(target, "--stretch", &stretch.to_string(), seed)?;
    let numbers = String::from_utf8_lossy(&again.stdout);
    let Some(number) = numbers.lines().last().filter(|_| !again.status.success()) else {
        return Ok(format!("inputs {stretch} failed once, and passed when they ran again"));
    };
    let bytes = input::of(seed, number.parse()?, &target.examples());
    let scratch = std::env::temp_dir().join(format!("bgw-fuzz-{}", std::process::id()));
    let fails = |bytes: &[u8]| -> Result<bool> {
        fs::write(&scratch, bytes)?;
        Ok(!child(target, "--input", &scratch.to_string_lossy(), seed)?.status.success())
    };
    let alone = fails(&bytes)?;
    let short = if alone { shrink::shortest(bytes, &fails)? } else { bytes };
    fails(&short)?;
    let ended = child(target, "--input", &scratch.to_string_lossy(), seed)?;
    fs::remove_file(&scratch)?;
    if !alone {
        return Ok(format!("input {number} fails after those of {stretch}, and passes alone"));
    }
    let file = folder(target).join(format!("{seed}-{number}"));
    fs::create_dir_all(folder(target))?;
    fs::write(&file, &short)?;
    Ok(format!("input {number}, kept as {}: {}", file.display(), words(&ended)))
}

/// Runs this program as a child.
fn child(target: Target, mode: &str, what: &str, seed: u64) -> Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--target", &target.to_string(), "--seed", &seed.to_string(), mode, what]);
    Ok(command.env("RUST_BACKTRACE", "0").output()?)
}

/// How a child ended, and the first of what it printed.
fn words(ended: &Output) -> String {
    let errors = String::from_utf8_lossy(&ended.stderr);
    let first = errors.lines().filter(|line| !line.trim().is_empty()).take(3);
    let first = first.collect::<Vec<_>>().join(" ");
    // The alarm.
    match ended.status.signal() {
        Some(14) => "it hangs".to_owned(),
        _ => format!("{}: {first}", ended.status),
    }
}
