//! A PostgreSQL server that lives as long as a value. The installed programs run in a temporary
//! folder; dropping the value stops the server and removes the folder.
//!
//! The server listens on a Unix socket in that folder only, does not wait for the disk, and accepts
//! everybody who can reach the socket. PostgreSQL refuses to run as root, so under root it runs as
//! `postgres` or `nobody`. If the process that started it dies, the kernel signals the server to
//! quit, and the folder stays.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use postgres::{Client, NoTls};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's folder for the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The superuser role.
pub const SUPERUSER: &str = "postgres";
/// How long the server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL's server is not installed.
    #[error(
        "PostgreSQL's server is not installed: neither `pg_config --bindir` nor {DEBIAN}/*/bin has \
         initdb and postgres; install it (on Debian: apt-get install postgresql)"
    )]
    NotInstalled,
    /// Root finds no user to run the server as.
    #[error(
        "PostgreSQL does not run as root, and there is no user \"postgres\" or \"nobody\" to run it as"
    )]
    NobodyToRunAs,
    /// A step failed.
    #[error("{step} failed: {why}")]
    Step {
        /// The step.
        step: &'static str,
        /// The error message.
        why: String,
    },
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> ClusterError {
    move |why| ClusterError::Step { step, why: why.to_string() }
}

/// The folder with the server's programs.
///
/// # Errors
/// [`ClusterError::NotInstalled`].
pub fn programs() -> Result<PathBuf, ClusterError> {
    let complete =
        |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    let said = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok();
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(folder) = said.map(|text| PathBuf::from(text.trim_end())).filter(complete) {
        return Ok(folder);
    }
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<f32>().ok();
    let entries = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let installed = entries.map(|entry| entry.path()).filter(|path| complete(&path.join("bin")));
    let newest = installed.max_by(|a, b| version(a).partial_cmp(&version(b)).unwrap_or(a.cmp(b)));
    newest.map(|path| path.join("bin")).ok_or(ClusterError::NotInstalled)
}

/// A running server.
#[derive(Debug)]
pub struct ThrowawayCluster {
    server: Child,
    folder: TempDir,
}

impl ThrowawayCluster {
    /// Creates a cluster and starts its server. Returns once the server accepts clients.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or a step of the start fails. The message contains the log.
    pub fn start() -> Result<Self, ClusterError> {
        Self::start_with(&[])
    }

    /// Like [`start`](Self::start), with settings (`name=value`) that override the defaults.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[&str]) -> Result<Self, ClusterError> {
        let programs = programs()?;
        let user = unprivileged_user()?;
        let making = failed("making a temporary folder");
        let folder = tempfile::Builder::new().prefix("pg-").tempdir().map_err(&making)?;
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid)).map_err(failed("chown"))?;
        }
        let data = folder.path().join("data");
        let mut initdb = as_user(&programs.join("initdb"), user.as_ref(), folder.path());
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", SUPERUSER]);
        let output = initdb
            .arg("-D")
            .arg(&data)
            .output()
            .map_err(failed("running initdb by setpriv, of util-linux,"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(failed("initdb")(String::from_utf8_lossy(&said)));
        }
        let log = File::create(folder.path().join("log")).map_err(failed("making the log"))?;
        let logs = log.try_clone().map_err(failed("making the log"))?;
        let mut server = as_user(&programs.join("postgres"), user.as_ref(), folder.path());
        server.arg("-D").arg(&data).arg("-k").arg(folder.path()).stdout(log).stderr(logs);
        let own = [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            // Files in the data folder: even a killed server leaves no shared memory behind.
            "dynamic_shared_memory_type=mmap",
            "shared_buffers=16MB",
            "max_connections=50",
        ];
        // The server takes the last value of a repeated setting.
        for setting in own.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        let server =
            server.spawn().map_err(failed("running postgres by setpriv, of util-linux,"))?;
        let mut cluster = Self { server, folder };
        cluster.wait_until_it_answers()?;
        Ok(cluster)
    }

    fn wait_until_it_answers(&mut self) -> Result<(), ClusterError> {
        let starting = failed("the start of postgres");
        let log = self.folder.path().join("log");
        let last_words = || fs::read_to_string(&log).unwrap_or_default();
        let until = Instant::now() + PATIENCE;
        loop {
            let Err(error) = self.client("postgres") else { return Ok(()) };
            if let Some(status) = self.server.try_wait().map_err(|e| starting(e.to_string()))? {
                return Err(starting(format!("it ended, {status}\n{}", last_words())));
            }
            if Instant::now() > until {
                return Err(starting(format!("{error}\n{}", last_words())));
            }
            // A starting server offers no event to wait for.
            sleep(Duration::from_millis(10));
        }
    }

    /// The URL of the database `dbname`, for `initialize_connection` or any other client.
    #[must_use]
    pub fn url(&self, dbname: &str) -> String {
        let folder = escaped(&self.folder.path().to_string_lossy());
        format!("postgres:///{}?host={folder}", escaped(dbname))
    }

    /// A connection of the superuser.
    ///
    /// # Errors
    /// The server's.
    pub fn client(&self, dbname: &str) -> Result<Client, postgres::Error> {
        let mut config: postgres::Config = self.url(dbname).parse()?;
        config.user(SUPERUSER).connect(NoTls)
    }

    /// The server's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }
}

impl Drop for ThrowawayCluster {
    fn drop(&mut self) {
        // The server is not reaped yet, so nothing else has its pid. SIGQUIT stops it at once.
        let _ = kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGQUIT);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && matches!(self.server.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(2));
        }
        // Only a stuck server is still running here.
        let _ = self.server.kill();
        let _: io::Result<_> = self.server.wait();
    }
}

/// The user to run the server as: `None` unless we are root.
fn unprivileged_user() -> Result<Option<User>, ClusterError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let mut known =
        ["postgres", "nobody"].into_iter().filter_map(|name| User::from_name(name).ok().flatten());
    known.next().map(Some).ok_or(ClusterError::NobodyToRunAs)
}

/// A command that runs `program` as `user` in `folder` and receives SIGQUIT when we die.
fn as_user(program: &Path, user: Option<&User>, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).current_dir(folder).stdin(Stdio::null()).env("LC_ALL", "C");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Escapes `text` for a URL.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_has_a_meaning_in_a_url_is_escaped() {
        assert_eq!(escaped("/tmp/pg-1.x_~"), "/tmp/pg-1.x_~");
        assert_eq!(escaped("a b&c?d#e%f"), "a%20b%26c%3Fd%23e%25f");
    }
}
