//! The servers: how each is started, asked and stopped.

use crate::clock::now;
use crate::phase::Phase;
use crate::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The names of the others.
pub(crate) const RIVALS: [&str; 2] = ["gunicorn", "granian"];
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(2);

/// A server, and where its program is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Prefork,
    Gunicorn(PathBuf),
    Granian(PathBuf),
}

/// The server of this name, if it is on the PATH.
pub(crate) fn find(name: &str) -> Result<Option<Kind>, String> {
    let kind = match name {
        "gunicorn" => Kind::Gunicorn,
        "granian" => Kind::Granian,
        _ => return Err(format!("no other server is called `{name}`")),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|folder| folder.join(name));
    Ok(program.into_iter().find(|program| program.is_file()).map(kind))
}

impl Kind {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Prefork => "prefork",
            Self::Gunicorn(_) => "gunicorn",
            Self::Granian(_) => "granian",
        }
    }

    /// Why it cannot go through `phase`.
    pub(crate) const fn lacks(&self, phase: Phase) -> Option<&'static str> {
        match (self, phase) {
            (Self::Gunicorn(_) | Self::Granian(_), Phase::Reload) => Some("see `roll`"),
            _ => None,
        }
    }

    /// Flags that it has in `phase` alone.
    fn flags(&self, phase: Phase) -> &'static [&'static str] {
        match (self, phase) {
            (Self::Gunicorn(_), Phase::Leak) => {
                &["--max-requests", "400", "--max-requests-jitter", "100"]
            }
            (Self::Granian(_), Phase::Leak) => {
                &["--workers-max-rss", "128", "--rss-sample-interval", "1"]
            }
            _ => &[],
        }
    }

    /// Whether it must be started anew for `phase`.
    pub(crate) fn has_flags(&self, phase: Phase) -> bool {
        !self.flags(phase).is_empty()
    }

    /// The limit of a worker's memory in the phase of leaks, if it has one, in bytes.
    pub(crate) const fn memory_limit(&self) -> Option<u64> {
        match self {
            Self::Prefork | Self::Granian(_) => Some(128 << 20),
            Self::Gunicorn(_) => None,
        }
    }

    fn command(
        &self,
        folder: &Path,
        workers: usize,
        port: u16,
        phase: Phase,
    ) -> io::Result<Command> {
        let workers = workers.to_string();
        let mut command = match self {
            Self::Prefork => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", "--requests", "0", "--workers", &workers]);
                command.args(["--port", &port.to_string(), "--max-memory", "128"]);
                command.arg("--fire").arg(folder);
                command
            }
            Self::Gunicorn(program) => {
                let mut command = Command::new(program);
                command.args(["-w", &workers, "-k", "gthread", "--threads", "4"]);
                command.args(["-b", &format!("127.0.0.1:{port}"), "--log-level", "warning"]);
                command.args(["--timeout", "3", "--graceful-timeout", "5", "--keep-alive", "5"]);
                command
            }
            Self::Granian(program) => {
                let mut command = Command::new(program);
                command.args(["--interface", "wsgi", "--workers", &workers, "--no-ws"]);
                command.args([
                    "--port",
                    &port.to_string(),
                    "--http",
                    "1",
                    "--log-level",
                    "warning",
                ]);
                command.args(["--workers-kill-timeout", "3", "--respawn-interval", "0.5"]);
                command.arg("--respawn-failed-workers");
                command
            }
        };
        command.args(self.flags(phase));
        if !matches!(self, Self::Prefork) {
            fs::write(folder.join("app.py"), include_str!("../peers/app.py"))?;
            command.arg("app:app").env("PYTHONPATH", folder).env("FIRE_FOLDER", folder);
        }
        Ok(command)
    }
}

/// A start of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot {
    pub(crate) pid: i32,
    pub(crate) at: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    /// The parent of the workers.
    postmaster: i32,
    folder: tempfile::TempDir,
    /// Read to its end, it would tell that the program has ended.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it for `phase`; waits until its workers serve, unless none can.
    pub(crate) fn start(
        kind: &Kind,
        workers: usize,
        address: Option<SocketAddr>,
        phase: Phase,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::Builder::new().prefix("fire-").tempdir()?;
        let address = address.map_or_else(a_free_address, Ok)?;
        let mut command = kind.command(folder.path(), workers, address.port(), phase)?;
        let log = File::create(folder.path().join("server.log"))?;
        let ours = matches!(kind, Kind::Prefork);
        let stdout = if ours { Stdio::piped() } else { log.try_clone()?.into() };
        if phase == Phase::NoneStarts {
            File::create(folder.path().join("crash"))?;
        }
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(stdout).stderr(log);
        let mut child = command.spawn()?;
        let postmaster = i32::try_from(child.id())?;
        let stdout = child.stdout.take().map(BufReader::new);
        let kind = kind.clone();
        let mut server = Self { kind, address, child, postmaster, folder, _stdout: stdout };
        if let Some(stdout) = &mut server._stdout {
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            let pid = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
            server.postmaster = pid.ok_or_else(|| format!("it began with `{}`", line.trim()))?;
        }
        if phase != Phase::NoneStarts {
            server.await_workers(workers)?;
        }
        Ok(server)
    }

    fn await_workers(&mut self, workers: usize) -> Result<(), Box<dyn Error>> {
        let deadline = now() + START;
        while self.workers().len() < workers || !answers(self.address) {
            if now() > deadline || self.has_ended() {
                return Err(format!("{} did not start:\n{}", self.kind.name(), self.log()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    pub(crate) fn log_len(&self) -> u64 {
        fs::metadata(self.folder.path().join("server.log")).map_or(0, |found| found.len())
    }

    /// All starts of workers so far, oldest first.
    pub(crate) fn boots(&self) -> Vec<Boot> {
        let text = fs::read_to_string(self.folder.path().join("boot.log")).unwrap_or_default();
        let parsed = text.lines().filter_map(|line| {
            let (pid, at) = line.split_once(' ')?;
            let at = Duration::try_from_secs_f64(at.parse().ok()?).ok()?;
            Some(Boot { pid: pid.parse().ok()?, at })
        });
        parsed.collect()
    }

    /// The workers that live, oldest first.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let boots = self.boots().into_iter().map(|boot| boot.pid);
        boots.filter(|pid| process::is_child_of(*pid, self.postmaster)).collect()
    }

    /// From now on workers fail at their start, or do no more.
    pub(crate) fn fail_starts(&self, fail: bool) -> io::Result<()> {
        let file = self.folder.path().join("crash");
        if fail { File::create(file).map(drop) } else { fs::remove_file(file) }
    }

    /// The CPU time of the process that starts the workers.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        process::cpu(self.postmaster)
    }

    /// Whether the server has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None)) || !process::is_alive(self.postmaster)
    }

    /// Tells all workers to reload.
    pub(crate) fn reload(&self) -> io::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Asks it to replace all its workers.
    pub(crate) fn replace_all(&self) -> io::Result<()> {
        self.signal(match self.kind {
            Kind::Prefork => Signal::SIGUSR2,
            Kind::Gunicorn(_) | Kind::Granian(_) => Signal::SIGHUP,
        })
    }

    /// Asks it to stop fast.
    pub(crate) fn ask_to_stop(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Waits until it has ended; `false` if it had to be killed.
    pub(crate) fn await_end(&mut self) -> bool {
        let deadline = now() + STOP;
        while now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.ask_to_stop();
            if !self.await_end() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        // Those that hang outlive a server that does not look after them.
        for worker in self.boots() {
            if self.is_ours(worker.pid) {
                let _ = kill(Pid::from_raw(worker.pid), Signal::SIGKILL);
            }
        }
    }
}

impl Server {
    /// True if the process still has this server's folder as its own.
    fn is_ours(&self, pid: i32) -> bool {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.folder.path())
    }
}

pub(crate) fn a_free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        Ok(stream.read(&mut [0; 64])? > 0)
    };
    ask().unwrap_or(false)
}
