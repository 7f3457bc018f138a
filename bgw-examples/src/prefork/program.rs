//! Launches the postmaster, registers the workers, and follows signals.

use super::board::Board;
use super::clients;
use super::worker::{self, Orders};
use bgw_backend::{
    Backend, BackgroundWorker, Handle, InvalidWorker, Ready, Recycle, RestartPolicy, Roll,
    ShutdownMode, entry,
};
use bgw_postmaster::{Launched, Postmaster};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a worker may take to end: longer than a client waits for its last answer.
const GRACE: Duration = Duration::from_secs(8);

/// A worker that hangs is aborted at most half as long again after its last beat: within 3 s.
const HEARTBEAT: Duration = Duration::from_millis(1900);
/// How long the next run of a worker may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A preforking HTTP/1.1 server on the loopback interface.
///
/// It makes requests itself and kills a worker half way; with `--requests 0` it serves until
/// SIGINT or SIGTERM. SIGHUP tells all workers to reload, SIGUSR2 replaces them one by one.
#[derive(Debug, Parser)]
#[command(name = "prefork", version)]
pub struct Arguments {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many workers accept connections.
    #[arg(long, value_name = "N", default_value_t = 4)]
    workers: u32,
    /// How many requests the program makes itself; 0 serves until SIGINT or SIGTERM instead.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    requests: u32,
    /// A worker that uses more memory than this, in MiB, is replaced, once its next run is ready;
    /// left out: none is.
    #[arg(long, value_name = "MIB")]
    max_memory: Option<u32>,
    /// The folder of `cargo xtask fire`: workers note their starts there, and misbehave on request.
    #[arg(long, value_name = "FOLDER", hide = true)]
    fire: Option<PathBuf>,
}

/// Runs the program. The process must have one thread.
///
/// # Errors
/// The server does not start, or more requests break than the killed worker had in hand.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Blocked before the first thread starts, so that only one waits for them.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR2];
    let signals = signals.into_iter().collect::<SigSet>();
    signals.thread_block()?;

    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let board = Board::create(arguments.workers)?;
    let orders = Orders { beat: HEARTBEAT / 4, fire: arguments.fire.clone() };
    let mut launched = Postmaster::builder()
        .max_workers(arguments.workers)
        .terminate_grace(GRACE)
        // All may leak at the same rate.
        .overlap(arguments.workers)
        .function("serve", entry(move |me| worker::main(me, &orders)))
        .descriptor(worker::LISTENER, listener)
        .descriptor(worker::BOARD, board.descriptor()?)
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    println!("prefork: {} listens on {address}", launched.pid());
    let mut handles = Vec::new();
    for number in 0..arguments.workers {
        handles.push(backend.register(&server(number, arguments)?)?);
    }
    if arguments.requests == 0 {
        return follow(&signals, launched, backend, handles, &board);
    }
    for handle in &handles {
        println!("{handle} {}", handle.wait_for_ready()?);
    }
    println!("prefork: {} workers serve {address}", arguments.workers);
    check(arguments, address, &launched, &handles)
}

/// One of the workers. It is restarted at once, and ever slower if it fails again and again.
fn server(number: u32, arguments: &Arguments) -> Result<BackgroundWorker, InvalidWorker> {
    let mut worker = BackgroundWorker::builder(format!("server {}", number + 1))
        .worker_type("server")
        .function("serve")
        .main_arg(u64::from(number))
        .ready(Ready::Call)
        .start_timeout(READY_WITHIN)
        .heartbeat(HEARTBEAT)
        .restart(RestartPolicy::after_secs(0));
    if let Some(mib) = arguments.max_memory {
        worker = worker.recycle(Recycle::new().rss(u64::from(mib) << 20).overlap());
    }
    worker.build()
}

fn check(
    arguments: &Arguments,
    address: SocketAddr,
    launched: &Launched,
    handles: &[Handle],
) -> Result<(), Box<dyn Error>> {
    let figures = clients::load(address, arguments.requests, handles)?;
    launched.shutdown(ShutdownMode::Fast)?;
    launched.wait()?;
    println!("prefork: ok, {figures}");
    Ok(())
}

/// Serves until a signal says to stop, or the postmaster ends.
fn follow(
    signals: &SigSet,
    launched: Launched,
    backend: Backend,
    handles: Vec<Handle>,
    board: &Board,
) -> Result<(), Box<dyn Error>> {
    let launched = Arc::new(launched);
    let waited_for = Arc::clone(&launched);
    thread::spawn(move || {
        let end = waited_for.wait();
        // Whoever read this may have gone; `println` would panic, and nobody would end the process.
        let _ = writeln!(io::stdout(), "prefork: the postmaster ended: {end:?}");
        process::exit(i32::from(end.is_err()));
    });
    let cluster = Arc::new((backend, handles));
    loop {
        match signals.wait()? {
            Signal::SIGHUP => cluster.0.reload()?,
            Signal::SIGUSR2 => {
                let cluster = Arc::clone(&cluster);
                // Other signals are followed meanwhile.
                thread::spawn(move || replace_all(&cluster.0, &cluster.1));
            }
            _ => break,
        }
    }
    board.close()?;
    launched.shutdown(ShutdownMode::Fast)?;
    // The other thread ends the process.
    loop {
        thread::park();
    }
}

/// Replaces all workers, one after the other, each once its next run is ready.
fn replace_all(backend: &Backend, handles: &[Handle]) {
    match backend.roll(handles, Roll::new(1, READY_WITHIN)) {
        Ok(report) if report.is_complete() => println!("prefork: all workers are replaced"),
        Ok(report) => println!("prefork: not all workers are replaced: {report:?}"),
        Err(error) => println!("prefork: the workers are not replaced: {error}"),
    }
}
