//! Where a worker's standard output and error go.

use super::invalid::InvalidWorker;

/// The longest name of an output file, in bytes.
pub(crate) const OUTPUT_NAME_LIMIT: usize = 31;
/// What the name of the file for errors ends with, if it is another one.
const ERRORS: &str = ".err";
/// The smallest size at which an output file is rotated, in bytes.
const LEAST_SIZE: u64 = 4096;
/// The largest number of rotated files that are kept.
const MOST_KEPT: u8 = 99;
/// The largest number of lines that are remembered.
const MOST_LINES: u32 = 100;

/// Where a worker's standard output and error go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Output {
    /// To where those of the postmaster go.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// Line by line into a file of the postmaster's folder for outputs.
    File(OutputFile),
    /// Line by line to a descriptor.
    Descriptor(OutputDescriptor),
}

impl Output {
    /// The name of what it goes to.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Inherit | Self::Null => None,
            Self::File(file) => Some(file.name()),
            Self::Descriptor(to) => Some(to.name()),
        }
    }
}

/// A descriptor that the output of workers is written to: a pipe, a FIFO, a stream socket, a
/// terminal, or a file. What is something else, cannot be written to, or is a file of FUSE, is
/// refused when the worker starts, and its lines are lost as said below.
///
/// It is the one that the worker is [given](crate::BackgroundWorkerBuilder::give) by this name, or
/// else the one that the launcher passes to all workers (`PostmasterBuilder::descriptor`). One that
/// is given for its output the worker does not have itself. A pipe or a terminal must be one that
/// the postmaster's user may open.
///
/// A child of the postmaster, the output collector, writes. Lines are whole, also where several
/// workers write to one pipe or socket. Where others than workers of this postmaster do, lines of
/// up to 4,096 bytes are whole in a pipe. A line longer than 8 KiB is split into pieces that end
/// with a backslash.
///
/// - While the reader does not keep up, the worker waits in its write, as with any pipe.
/// - Once the reader has taken nothing for a second, or is gone, lines are dropped, and nobody
///   waits. How many is said in one more line once it takes lines again, in an event
///   (`EventKind::OutputLost`), and in the log. No worker gets SIGPIPE.
/// - When the collector is killed another one goes on. Of each worker's output at most 64 KiB are
///   lost, with an event for each.
/// - The reader sees the end of a pipe or socket once the registration is over, all who have the
///   worker's output have closed it, and all is written.
///
/// ```
/// use bgw_core::{BackgroundWorker, OutputDescriptor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, writer) = std::io::pipe()?;
/// let backup = BackgroundWorker::builder("backup")
///     .command("./backup.sh", ["--all"])
///     .give("log", writer)
///     .output(OutputDescriptor::new("log"))
///     .build()?;
/// # drop((reader, backup));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputDescriptor {
    name: String,
    drops_when_full: bool,
}

impl OutputDescriptor {
    /// The descriptor of this name, at most 31 bytes.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), drops_when_full: false }
    }

    /// Has lines dropped at once that its reader has no room for, so that the worker never waits
    /// for it. What is dropped is counted and told as above. About 40 KiB wait for the reader
    /// besides what a pipe or a socket holds.
    ///
    /// ```
    /// use bgw_core::OutputDescriptor;
    ///
    /// let trace = OutputDescriptor::new("trace").drop_when_full();
    /// assert!(trace.drops_when_full());
    /// ```
    #[must_use]
    pub fn drop_when_full(self) -> Self {
        Self { drops_when_full: true, ..self }
    }

    /// True if lines are dropped that its reader has no room for.
    #[must_use]
    pub const fn drops_when_full(&self) -> bool {
        self.drops_when_full
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl From<OutputDescriptor> for Output {
    fn from(to: OutputDescriptor) -> Self {
        Self::Descriptor(to)
    }
}

/// A file that collects the output of workers. Several workers may share one.
///
/// It lies in the folder that the postmaster was built with (`PostmasterBuilder::output_dir`), with
/// mode 0600. A child of the postmaster, the output collector, writes it. A line is written whole
/// or not at all, and the lines of one worker stay in order. A line longer than 8 KiB is split into
/// pieces that end with a backslash.
///
/// - While the collector does not keep up, the worker waits in its write, as with any pipe.
/// - On a full disk lines are dropped, and nobody waits. How many is said in the file once it takes
///   lines again, in an event (`EventKind::OutputLost`), and in the log.
/// - When the collector is killed another one goes on. Of each worker's output at most 64 KiB are
///   lost, with an event for each; no worker gets SIGPIPE.
/// - A file that somebody deletes is made anew with its next lines. If the folder is deleted, lines
///   are lost as on a full disk, until another postmaster begins.
#[doc(alias = "logging_collector")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputFile {
    name: String,
    rotation: Option<(u64, u8)>,
    errors_apart: bool,
}

impl OutputFile {
    /// The file `name`, at most 31 bytes. A path is refused, and so is a name that begins with a
    /// dot or ends like a rotated file, with a dot and one or two digits. It grows without a limit.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rotation: None, errors_apart: false }
    }

    /// Starts a new file before a line that would make this one larger than `size` bytes (4,096 or
    /// more). The last `keep` files (0 to 99) are kept, as `name.1` (the latest) to `name.keep`.
    #[doc(alias = "log_rotation_size")]
    #[must_use]
    pub fn rotate(self, size: u64, keep: u8) -> Self {
        Self { rotation: Some((size, keep)), ..self }
    }

    /// Has the standard error go into a file of its own, which is called as this one with `.err` at
    /// its end, and rotated as this one. The name of this one has 27 bytes at most then. Without
    /// it both streams go into one file, in the order in which their lines are complete.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, OutputFile};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let files = OutputFile::new("web").rotate(1 << 20, 3).errors_apart();
    /// assert_eq!(files.error_name().as_deref(), Some("web.err"));
    /// let web = BackgroundWorker::builder("web").command("./web", [""; 0]).output(files);
    /// # web.build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn errors_apart(self) -> Self {
        Self { errors_apart: true, ..self }
    }

    /// The name of the file for the standard error, if that goes into one of its own.
    #[must_use]
    pub fn error_name(&self) -> Option<String> {
        self.errors_apart.then(|| format!("{}{ERRORS}", self.name))
    }

    /// The file for the standard error, if it is another one.
    #[doc(hidden)]
    #[must_use]
    pub fn of_errors(&self) -> Option<Self> {
        let name = self.error_name()?;
        Some(Self { name, rotation: self.rotation, errors_apart: false })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its largest size in bytes, and how many files before it are kept, if it is rotated.
    #[must_use]
    pub const fn rotation(&self) -> Option<(u64, u8)> {
        self.rotation
    }
}

impl From<OutputFile> for Output {
    fn from(file: OutputFile) -> Self {
        Self::File(file)
    }
}

/// How many of its last lines are remembered.
pub(super) fn check_last_lines(lines: u32, output: &Output) -> Result<u8, InvalidWorker> {
    let (field, value) = ("last_lines", || lines.to_string());
    match u8::try_from(lines) {
        Ok(lines) if lines > 0 && *output == Output::Inherit => {
            let needs = "an output of its own: a file, a descriptor, or Output::Null";
            Err(InvalidWorker::Unfit { field, value: value(), needs })
        }
        Ok(few) if lines <= MOST_LINES => Ok(few),
        _ => Err(InvalidWorker::OutOfRange { field, value: value(), limit: "100 lines" }),
    }
}

/// The name was checked as a text: it is not too long, and can be shown.
pub(super) fn check_output(output: &Output) -> Result<(), InvalidWorker> {
    let Output::File(file) = output else { return Ok(()) };
    let field = "output";
    let wrong = |value, limit| Err(InvalidWorker::OutOfRange { field, value, limit });
    let name = file.name();
    if name.contains('/') || name.starts_with('.') || is_like_rotated(name) {
        let limit = "a name without a slash, without a dot at its beginning, and without a dot and one or two digits at its end";
        return wrong(format!("\"{name}\""), limit);
    }
    if file.errors_apart && name.len() + ERRORS.len() > OUTPUT_NAME_LIMIT {
        let value = format!("\"{name}\" with errors apart");
        return wrong(value, "a name of 27 bytes");
    }
    match file.rotation {
        Some((size, _)) if size < LEAST_SIZE => {
            wrong(format!("a file of {size} bytes"), "4096 bytes or more")
        }
        Some((_, keep)) if keep > MOST_KEPT => wrong(format!("{keep} files kept"), "99 files"),
        _ => Ok(()),
    }
}

fn is_like_rotated(name: &str) -> bool {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    (1..=2).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_digit())
}
