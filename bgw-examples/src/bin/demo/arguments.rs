//! The command line of the demo.

use clap::Parser;

/// The main job of the background worker crates, end to end.
#[derive(Parser, Clone)]
#[command(version)]
pub(crate) struct Arguments {
    /// About how long the demo runs, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub(crate) seconds: u64,
    /// Keep the folder with the database, the settings and the log, and print its path.
    #[arg(long)]
    pub(crate) keep: bool,
    /// The database that the workers use: a file, or a PostgreSQL server started for the demo.
    #[arg(long, default_value = "sqlite", value_parser = ["sqlite", "postgres"])]
    pub(crate) database: String,
}
