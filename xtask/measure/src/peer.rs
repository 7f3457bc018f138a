//! The programs that the report can compare with.

/// A program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// PostgreSQL's own background workers; its server and its headers must be installed
    Postgres,
    /// Python's forkserver and, for pooled jobs, ProcessPoolExecutor; python3 must be installed
    Python,
    /// supervisord, through XML-RPC; supervisord and python3 must be installed
    Supervisord,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::Python, Self::Supervisord];

    /// Its name in JSON and on the command line.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Python => "python",
            Self::Supervisord => "supervisord",
        }
    }

    /// Its name for a reader.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Python => "Python",
            Self::Supervisord => "supervisord",
        }
    }
}
