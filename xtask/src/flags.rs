//! The whole command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Runs the demonstration: a postmaster, workers, a crash, and what the backends see
    Demo(Demo),
    /// Tests each crate alone, with each set of its features, then runs the loom models
    Test(Test),
    /// Runs the loom models: every interleaving of the shared-memory protocols, within a bound
    Loom(Loom),
    /// Checks the model of a slot's life: every order of steps and deaths in some small clusters
    Model,
    /// Runs the tests that prove the behaviour of PostgreSQL's background workers, row by row
    Parity(Parity),
    /// Uses a cluster at random, kills its processes, and checks what every process saw
    Chaos(Chaos),
    /// Runs an HTTP server under load while its workers are killed, crash, hang and leak
    Fire(Fire),
    /// Feeds hostile bytes to everything that reads shared memory, packets or texts
    Fuzz(Fuzz),
    /// Checks rules of layout that the compiler does not know
    Tidy,
    /// Checks the licenses, sources and advisories of all dependencies with cargo-deny
    Deny,
    /// Runs the criterion benches, or counts instructions
    Bench(Bench),
    /// Checks the files and the manifest that each crate would publish
    Package,
    /// Prepares the release of crates; a human publishes them
    Release(Release),
    /// Runs all checks that must pass before a change is merged
    Ci(Ci),
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How long the demonstration runs
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u32>,
    /// Keep the folder with the logs and the database
    #[arg(long)]
    pub(crate) keep: bool,
    /// The database that the workers write to: sqlite or postgres (must be installed)
    #[arg(long, value_name = "KIND")]
    pub(crate) database: Option<String>,
}

/// Flags of `test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Skip the loom models
    #[arg(long)]
    pub(crate) no_loom: bool,
    /// Preemptions that loom tries in each model
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) preemptions: u32,
    /// Crates to test; all if none is named
    #[arg(value_name = "CRATE")]
    pub(crate) crates: Vec<String>,
}

/// Flags of `loom`.
#[derive(Debug, Args)]
pub(crate) struct Loom {
    /// Preemptions that loom tries in each model; more find more and take longer
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) preemptions: u32,
    /// Crates whose models run; all that have models if none is named
    #[arg(value_name = "CRATE")]
    pub(crate) crates: Vec<String>,
}

/// Flags of `parity`.
#[derive(Debug, Args)]
pub(crate) struct Parity {
    /// Also write the listing as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Rows to prove, such as B76; all if none is named
    #[arg(value_name = "ROW")]
    pub(crate) rows: Vec<String>,
}

/// Flags of `chaos`.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// How long; ten seconds when left out
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// Where the random numbers begin; another place each time when left out
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Some programs write into shared memory and onto the socket what they should not
    #[arg(long)]
    pub(crate) hostile: bool,
    /// Register N workers instead, and see that the postmaster's memory and descriptors stay flat
    #[arg(long, value_name = "N", conflicts_with_all = ["hostile", "seed", "seconds"])]
    pub(crate) soak: Option<u64>,
    /// Every fault point in every scenario: killed there, and stopped there
    #[arg(long, conflicts_with_all = ["hostile", "seed", "seconds", "soak"])]
    pub(crate) exhaustive: bool,
    /// With --exhaustive: only points, or only the scenario, whose name contains this
    #[arg(long, value_name = "TEXT", requires = "exhaustive")]
    pub(crate) only: Option<String>,
}

/// Flags of `fire`.
#[derive(Debug, Args)]
pub(crate) struct Fire {
    /// How long each phase lasts (8 seconds when left out); some wait for what they are about
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// Two seconds a phase and a quarter of the load, to see that all of it works
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) quick: bool,
    /// Other servers that go through the same: gunicorn, granian, none; those installed when left
    /// out
    #[arg(long, value_name = "LIST")]
    pub(crate) against: Option<String>,
    /// Only these phases: quiet, kill, crash, hang, hang-all, leak, roll, reload, stop, none-starts
    #[arg(long, value_name = "LIST")]
    pub(crate) only: Option<String>,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Flags of `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) seconds: u64,
    /// The seed of all inputs; a new one each time if left out
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Run this target only: file, slots, record, report, request, reply or handle
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
}

/// Flags of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Fewer samples: rough figures in a fraction of the time
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure starts, stops, status and memory beside the kernel's own limits, as a table
    #[arg(long, conflicts_with_all = ["crates", "scaling"], group = "table")]
    pub(crate) report: bool,
    /// Measure how the cost of each event grows with the number of slots and of live workers
    #[arg(long, conflicts_with_all = ["crates", "filter"], group = "table")]
    pub(crate) scaling: bool,
    /// With --scaling: draw the costs as SVG files in this folder
    #[arg(long, value_name = "FOLDER", requires = "scaling")]
    pub(crate) plots: Option<PathBuf>,
    /// With --report or --scaling: also write the table as JSON
    #[arg(long, value_name = "FILE", requires = "table")]
    pub(crate) json: Option<PathBuf>,
    /// With --report or --scaling: also write the table as Markdown
    #[arg(long, value_name = "FILE", requires = "table")]
    pub(crate) markdown: Option<PathBuf>,
    /// With --report or --scaling: also measure these programs in the same run
    #[arg(long, value_name = "PEER", value_enum, value_delimiter = ',', requires = "table")]
    pub(crate) against: Vec<Peer>,
    /// Count the instructions of each fast path under valgrind; a count 5 % above its budget fails
    #[arg(long, conflicts_with_all = ["crates", "table", "quick", "filter"])]
    pub(crate) instructions: bool,
    /// With --instructions: record the counts of this run as budgets
    #[arg(long, requires = "instructions")]
    pub(crate) record: bool,
    /// Only benches, or rows of the report, whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Crates to measure; all that have benches if none is named
    #[arg(value_name = "CRATE")]
    pub(crate) crates: Vec<String>,
}

/// A program that the report can compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// PostgreSQL's own background workers; its server and its headers must be installed
    Postgres,
    /// Python's forkserver and, for pooled jobs, ProcessPoolExecutor; python3 must be installed
    Python,
    /// supervisord, through XML-RPC; supervisord and python3 must be installed
    Supervisord,
}

impl Peer {
    /// Its name on the command line of the measuring program.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Python => "python",
            Self::Supervisord => "supervisord",
        }
    }
}

/// Flags of `release`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Release {
    #[command(subcommand)]
    pub(crate) step: ReleaseStep,
}

/// A step of a release.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ReleaseStep {
    /// Prints which crates have a new version in their CHANGELOG, and what blocks a release
    Plan,
    /// Writes the planned versions into all manifests and the date into the CHANGELOGs
    Prepare,
    /// Packages the prepared crates, builds them from their packages, prints how to publish
    DryRun,
}

/// Flags of `ci`.
#[derive(Debug, Args)]
pub(crate) struct Ci {
    /// Skip the tests
    #[arg(long)]
    pub(crate) no_test: bool,
}

#[cfg(test)]
mod tests {
    use super::Flags;
    use clap::CommandFactory;

    #[test]
    fn every_task_and_every_flag_says_what_it_does() {
        let command = Flags::command();
        command.clone().debug_assert();
        for task in command.get_subcommands() {
            assert!(task.get_about().is_some(), "{}", task.get_name());
            for flag in task.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {}", task.get_name(), flag.get_id());
            }
        }
    }
}
