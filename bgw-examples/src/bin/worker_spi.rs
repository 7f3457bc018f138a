//! `worker_spi`: a static worker for each configured schema, and dynamic ones on request.
//!
//! ```text
//! worker_spi run SETTINGS --runtime-dir DIR      the postmaster with its static workers
//! worker_spi launch N --runtime-dir DIR          one more worker, for schema N; prints its pid
//! worker_spi list --runtime-dir DIR              all workers
//! worker_spi stop HANDLE --runtime-dir DIR       terminate one and wait for its end
//! ```

use bgw_backend::{Backend, RestartPolicy, WorkerHandle, WorkerStatus, entry};
use bgw_examples::{logging, worker_spi};
use bgw_postmaster::Postmaster;
use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Workers that keep a running total in a database, as PostgreSQL's example of that name does.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder of the postmaster's control socket.
    #[arg(long, global = true, default_value = "/tmp/worker_spi")]
    runtime_dir: PathBuf,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the postmaster with a static worker for each schema, until SIGTERM or SIGINT.
    Run {
        /// The settings file: TOML with `database`, `role`, `naptime_ms`, `total_workers`.
        settings: PathBuf,
        /// The largest number of workers.
        #[arg(long, default_value_t = 64)]
        max_workers: u32,
    },
    /// Start one more worker and print its handle and pid.
    Launch {
        /// The number of its schema.
        schema: u64,
    },
    /// List all workers.
    List,
    /// Terminate a worker and wait for its end.
    Stop {
        /// Its handle, as `list` and `launch` print it.
        handle: WorkerHandle,
    },
}

fn main() -> ExitCode {
    logging::to_stderr("info");
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("worker_spi: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let folder = arguments.runtime_dir;
    match arguments.task {
        Task::Run { settings: path, max_workers } => {
            let settings = worker_spi::Settings::read(&path)?;
            let mut postmaster = Postmaster::builder()
                .max_workers(max_workers)
                .runtime_dir(folder)
                .function(worker_spi::FUNCTION, entry(move |w| worker_spi::main(w, &path)))
                .build()?;
            for schema in 1..=settings.total_workers {
                let policy = RestartPolicy::after_secs(5);
                postmaster.register(worker_spi::worker(u64::from(schema), policy)?)?;
            }
            return Ok(ExitCode::from(postmaster.run()?));
        }
        Task::Launch { schema } => {
            let backend = Backend::connect(folder)?;
            let handle = backend.register(&worker_spi::worker(schema, RestartPolicy::Never)?)?;
            match handle.wait_for_startup()? {
                WorkerStatus::Started(pid) => println!("{handle} {pid}"),
                other => return Err(format!("could not start background process: {other}").into()),
            }
        }
        Task::List => {
            for info in Backend::connect(folder)?.workers() {
                println!("{}\t{}\t{}", info.handle, info.worker.name(), info.status);
            }
        }
        Task::Stop { handle } => {
            let handle = Backend::connect(folder)?.handle(handle);
            handle.terminate()?;
            println!("{}", handle.wait_for_end()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
