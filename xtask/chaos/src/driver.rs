//! Round after round, each in a process of its own, until the time is up; a round that fails is
//! made smaller as long as it fails.

use crate::crew::mix;
use crate::report;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the driver is asked for.
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) hostile: bool,
    pub(crate) actors: u32,
}

/// How long a round acts.
const ROUND: Duration = Duration::from_secs(3);
/// How long a round may take with all its waits, on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(240);
/// How often a failing round is made smaller.
const SMALLER: u32 = 5;

#[derive(Clone, Copy)]
struct Size {
    actors: u32,
    time: Duration,
}

/// A seed that nobody chose.
pub(crate) fn a_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() % 1_000_000
}

/// Runs rounds. The last line says what was found.
pub(crate) fn run(plan: &Plan) -> Result<bool, String> {
    println!("chaos: seed {}, {} actors, {} s", plan.seed, plan.actors, plan.seconds);
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let size = Size { actors: plan.actors, time: ROUND.min(left) };
        let seed = mix(plan.seed, rounds);
        let (good, text) = round(plan, seed, size)?;
        print!("[{rounds}] {text}");
        if !good {
            smaller(plan, seed, size)?;
            println!("again: cargo xtask chaos --seed {} --seconds {}", plan.seed, plan.seconds);
            println!("chaos: failed in round {rounds}, seed {}", plan.seed);
            return Ok(false);
        }
        rounds += 1;
    }
    println!("chaos: ok, {rounds} rounds, seed {}", plan.seed);
    Ok(true)
}

/// The same round with fewer actors and less time, as long as it fails: its history is shorter.
fn smaller(plan: &Plan, seed: u64, mut size: Size) -> Result<(), String> {
    let mut smallest = None;
    for _ in 0..SMALLER {
        size = Size { actors: (size.actors / 2).max(4), time: size.time / 2 };
        let (good, text) = round(plan, seed, size)?;
        if good {
            break;
        }
        smallest = Some((size, text));
    }
    if let Some((size, text)) = smallest {
        println!("with {} actors and {:?} as well:\n{text}", size.actors, size.time);
    }
    Ok(())
}

/// One round in a process of its own, under a watchdog.
fn round(plan: &Plan, seed: u64, size: Size) -> Result<(bool, String), String> {
    let file = || tempfile::tempfile().map_err(|error| format!("no file for output: {error}"));
    let (mut out, mut err) = (file()?, file()?);
    let clone = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["--round", &seed.to_string(), "--actors", &size.actors.to_string()])
        .args(["--milliseconds", &size.time.as_millis().to_string()])
        .args(plan.hostile.then_some("--hostile"))
        .stdin(Stdio::null())
        .stdout(clone(&out)?)
        .stderr(clone(&err)?);
    let mut child = command.spawn().map_err(|error| format!("starting a round failed: {error}"))?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if began.elapsed() > WATCHDOG => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    if status.is_none() {
        text = format!("BROKEN: the round hangs\n{}", report::hang(child.id()));
        let _ = child.kill();
        let _ = child.wait();
    }
    text.push_str(&content(&mut out));
    let said = content(&mut err);
    let broken: Vec<&str> = said.lines().filter(|line| line.contains("BROKEN")).collect();
    for line in broken.iter().take(20) {
        text.push_str(&format!("{line}\n"));
    }
    let good = status.is_some_and(|status| status.success()) && broken.is_empty();
    if !good && !text.contains("BROKEN") {
        let ordinary = |line: &&str| line.starts_with("worker ");
        let lines: Vec<&str> = said.lines().filter(|line| !ordinary(line)).collect();
        for line in &lines[lines.len().saturating_sub(15)..] {
            text.push_str(&format!("stderr: {line}\n"));
        }
    }
    Ok((good, text))
}

/// All that was written into a file.
pub(crate) fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
