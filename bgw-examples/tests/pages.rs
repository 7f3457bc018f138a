//! The promise: what README.md and GUIDE.md show is what runs. Their code is that of programs here,
//! what these print is what the pages say, and the figures are those of PERFORMANCE.md.
//!
//! Would catch: code on a page that no longer compiles, an output that has changed its words, a
//! figure of an older report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::kill;
use process_test::{Pid, Signal, tests, wait_until};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const PAGES: [&str; 3] = ["../README.md", "GUIDE.md", "FROM_POSTGRESQL.md"];

fn main() -> ExitCode {
    let tests = tests![
        code_on_a_page_is_that_of_a_program_here,
        the_front_page_shows_what_its_programs_print,
        the_guide_shows_what_its_programs_print,
        figures_on_the_front_page_are_those_of_the_report,
        the_methods_that_the_front_page_names_exist,
    ];
    process_test::main(
        tests.into_iter().map(|test| test.watchdog(Duration::from_secs(120))).collect(),
    )
}

/// A fenced block of a page.
struct Block {
    page: &'static str,
    /// The comment in the line above: which file or output it is.
    source: String,
    kind: String,
    lines: Vec<String>,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(here(page)).unwrap();
        let (mut inside, mut above) = (false, "");
        for line in text.lines() {
            match line.strip_prefix("```") {
                Some(kind) if !inside => {
                    let source = above.trim_start_matches("<!-- ").trim_end_matches(" -->");
                    let source = if source == above { "" } else { source };
                    let (source, kind) = (source.to_owned(), kind.to_owned());
                    blocks.push(Block { page, source, kind, lines: Vec::new() });
                    inside = true;
                }
                Some(_) => inside = false,
                None if inside => blocks.last_mut().unwrap().lines.push(line.to_owned()),
                None => {}
            }
            above = line;
        }
        assert!(!inside, "{page}: a block has no end");
    }
    blocks
}

/// Would fail for a block that names no file, or differs from it in a line.
fn code_on_a_page_is_that_of_a_program_here() {
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.kind == "rust") {
        let (page, source) = (block.page, &block.source);
        let text = fs::read_to_string(here(source))
            .unwrap_or_else(|error| panic!("{page}: code of {source:?}: {error}"));
        let file: Vec<&str> = text.lines().map(str::trim).collect();
        let shown: Vec<&str> = block.lines.iter().map(|line| line.trim()).collect();
        let mut from = 0;
        for piece in shown.split(|line| *line == "// ...") {
            let at = file.get(from..).unwrap().windows(piece.len()).position(|part| part == piece);
            let at = at.unwrap_or_else(|| panic!("{page}: {source} does not have {piece:#?}"));
            from += at + piece.len();
        }
        count += 1;
    }
    assert!(count >= 9, "{count} blocks");
}

/// What differs from run to run is left out: time stamps, numbers but exit codes and signals.
fn normal(line: &str) -> String {
    let levels = [" INFO ", " WARN ", " ERROR "];
    let begin = levels.iter().find_map(|level| line.find(level)).map_or(0, |at| at + 1);
    let line = line.get(begin..).unwrap();
    let mut normal = String::new();
    let mut word = "";
    for part in line.split_inclusive([' ', '(', ')']) {
        let kept = matches!(word.trim_end(), "code" | "signal");
        let handle = part.split_once('@').filter(|(slot, _)| slot.parse::<f64>().is_ok());
        if kept {
            normal.push_str(part);
        } else if let Some((_, incarnation)) = handle {
            normal.push_str("HANDLE");
            normal.push_str(incarnation.get(8..).unwrap_or_default());
        } else {
            let digits = part.split(|c: char| c.is_ascii_digit()).filter(|text| !text.is_empty());
            let only_digits = part.trim_end().bytes().all(|byte| byte.is_ascii_digit());
            let numbered = part.bytes().any(|byte| byte.is_ascii_digit());
            normal.push_str(&digits.collect::<Vec<_>>().join("N"));
            normal.push_str(if numbered && !only_digits { "#" } else { "" });
        }
        word = part;
    }
    normal.split_whitespace().collect::<Vec<_>>().join(" ").replace("[ ", "[")
}

/// Compares all output that the pages show of `program` with what it `printed`.
fn shown_is_printed(program: &str, printed: &str) {
    let printed: BTreeSet<String> = printed.lines().map(normal).collect();
    let mut count = 0;
    for block in blocks() {
        let shown = matches!(block.kind.as_str(), "text" | "console");
        assert!(!shown || block.source.starts_with("output of "), "{}: output of?", block.page);
        let names = block.source.trim_start_matches("output of ").split(" and ");
        if !shown || !names.into_iter().any(|name| name == program) {
            continue;
        }
        for line in block.lines {
            // A command, what curl says, what was left out.
            let other = ["$ ", "curl: ", "…"].iter().any(|begin| line.starts_with(begin));
            if other || line.is_empty() {
                continue;
            }
            let page = block.page;
            assert!(printed.contains(&normal(&line)), "{page}: no {line:?} in {printed:#?}");
            count += 1;
        }
    }
    assert!(count > 0, "no page shows {program}");
}

/// A program that runs, and what it and its workers have printed so far.
struct Running(Child, PathBuf);

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("{number}.log"));
        let file = File::options().create_new(true).append(true).open(&log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .env("RUNTIME_DIR", std::env::temp_dir().join("run"))
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self(child, log)
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.1).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, part: &str) {
        let what = format!("\"{part}\" is printed");
        wait_until(&what, PATIENCE, || self.printed().contains(part));
    }

    /// The part of its output between two texts.
    #[track_caller]
    fn between(&self, before: &str, after: &str) -> String {
        self.wait_for(before);
        let printed = self.printed();
        let (_, rest) = printed.rsplit_once(before).unwrap();
        rest.split_once(after).unwrap().0.to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end, which must be in order, and says what it has printed.
    #[track_caller]
    fn end(mut self) -> String {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.printed());
        self.printed()
    }
}

fn the_front_page_shows_what_its_programs_print() {
    let printed = Running::start(env!("CARGO_BIN_EXE_counter"), &[]).end();
    shown_is_printed("counter", &printed);
    let printed = Running::start(env!("CARGO_BIN_EXE_demo"), &["--seconds", "3"]).end();
    shown_is_printed("demo", &printed);
}

fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap_or_default();
    text.rsplit("\r\n").next().unwrap().to_owned()
}

fn control(arguments: &[&str]) -> String {
    Running::start(env!("CARGO_BIN_EXE_guide-control"), arguments).end()
}

/// Takes the steps of the guide, as its reader does.
fn the_guide_shows_what_its_programs_print() {
    let printed = Running::start(env!("CARGO_BIN_EXE_guide-first-worker"), &[]).end();
    shown_is_printed("guide-first-worker", &printed);
    let printed = Running::start(env!("CARGO_BIN_EXE_guide-restarts"), &[]).end();
    shown_is_printed("guide-restarts", &printed);
    let printed = Running::start(env!("CARGO_BIN_EXE_guide-watched"), &[]).end();
    shown_is_printed("guide-watched", &printed);

    let mut bare = Running::start(env!("CARGO_BIN_EXE_guide-bare-server"), &["0"]);
    let address = bare.between("ready: http://", "/");
    let hello = get(&address, "/");
    assert_eq!(get(&address, "/crash"), "");
    bare.wait_for("was terminated by signal 6: SIGABRT");
    assert_eq!(normal(&get(&address, "/")), normal(&hello), "the others go on serving");
    // Nobody handles it: the program ends at once, and its cluster with it.
    bare.signal(Signal::SIGINT);
    assert!(!bare.0.wait().unwrap().success());
    let printed = bare.printed().replace(&address, "127.0.0.1:8080");
    shown_is_printed("guide-bare-server", &format!("{printed}\n{hello}"));

    let run = std::env::temp_dir().join("run");
    let start =
        || Running::start(env!("CARGO_BIN_EXE_guide-server"), &["0", run.to_str().unwrap()]);
    let server = start();
    let address = server.between("ready: http://", "/");
    assert_eq!(get(&address, "/crash"), "");
    server.wait_for("was terminated by signal 6: SIGABRT");
    wait_until("all four are there again", PATIENCE, || {
        control(&["list"]).matches(": started (pid ").count() == 4
    });
    fs::write(std::env::temp_dir().join("greeting.txt"), "bonjour\n").unwrap();
    let postmaster: i32 = server.between("(postmaster ", ")").parse().unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGHUP).unwrap();
    // The new one may not have come as far; then it finds the new text at its start.
    wait_until("three have reloaded", PATIENCE, || {
        server.printed().matches("says \"bonjour\" from now on").count() >= 3
    });
    let bonjour = get(&address, "/");
    let listed = control(&["list"]);
    let added = control(&["add", "extra"]);
    let stopped = control(&["stop", added.split(' ').next().unwrap()]);
    let before = control(&["list"]);
    let rolled = control(&["roll"]);
    assert_eq!(rolled, "4 replaced, 0 not begun\n");
    let pids = |listed: &str| -> BTreeSet<String> {
        listed.lines().filter_map(|line| Some(line.rsplit_once("pid ")?.1.to_owned())).collect()
    };
    assert!(pids(&before).is_disjoint(&pids(&control(&["list"]))), "a server kept its run");
    let controlled = [listed, added, stopped, rolled, control(&["reload"])].concat();
    server.signal(Signal::SIGTERM);
    let printed = server.end();

    let server = start();
    let postmaster: i32 = server.between("(postmaster ", ")").parse().unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    let died = server.end();
    let printed = format!("{printed}\n{died}\n{bonjour}\n{controlled}");
    shown_is_printed("guide-server", &printed);
    shown_is_printed("guide-control", &printed);
}

/// Would fail if the report were renewed and the front page not.
fn figures_on_the_front_page_are_those_of_the_report() {
    let report = fs::read_to_string(here("../PERFORMANCE.md")).unwrap();
    let page = fs::read_to_string(here(PAGES[0])).unwrap();
    let (_, table) = page.split_once("<!-- figures of PERFORMANCE.md -->\n").unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() >= 3, "{rows:?}");
    for row in rows {
        let cells = row.trim_matches('|').split('|').skip(1);
        let figures: Vec<&str> = cells.map(|cell| cell.split('(').next().unwrap().trim()).collect();
        let of_the_row = |line: &&str| figures.iter().all(|figure| line.contains(figure));
        assert!(report.lines().any(|line| of_the_row(&line)), "no row has {figures:?}");
    }
}

/// The files of a crate's library.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders.iter().flat_map(|folder| sources(folder)).chain(files).collect()
}

/// Would fail for a method that was renamed, and for a row without one.
fn the_methods_that_the_front_page_names_exist() {
    let crates = ["bgw-core", "bgw-postmaster", "bgw-backend"];
    let files = crates.iter().flat_map(|name| sources(&here(&format!("../{name}/src"))));
    let code: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let page = fs::read_to_string(here(PAGES[0])).unwrap();
    let (_, table) = page.split_once("| you want | write |\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    let mut count = 0;
    for row in rows {
        let called = row.split('(').filter(|part| !part.ends_with(')'));
        let names = called.map(|part| part.rsplit(['.', ':', '`', ' ']).next().unwrap());
        let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "|").collect();
        for name in &names {
            let forms = [format!("fn {name}("), format!("fn {name}<"), format!("    {name}(")];
            let there = forms.iter().any(|form| code.contains(form)); // the last: a variant
            assert!(there, "no {name} in {row}");
        }
        count += names.len();
        assert!(row.contains("feature") || !names.is_empty(), "{row}");
    }
    assert!(count >= 20, "{count} methods");
}
