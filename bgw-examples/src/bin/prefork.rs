//! `prefork`: a TCP server whose postmaster passes one listening socket to N workers.
//!
//! The kernel hands each connection to one of the waiting workers. One worker is killed while
//! clients send requests: at most its connection breaks, the others go on serving, and the
//! postmaster starts it again.

use bgw_backend::{
    Backend, BackgroundWorker, Handle, RestartPolicy, ShutdownMode, WaitEvents, Worker,
    WorkerError, WorkerStatus, entry,
};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A preforking server on the loopback interface. One worker is killed under load.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many workers accept connections.
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// How many requests the clients make; 0 serves until SIGINT instead.
    #[arg(long, default_value_t = 2000)]
    requests: u32,
}

fn main() -> ExitCode {
    logging::to_stderr("warn");
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prefork: {}", shmem_slots::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The main function of each worker: accepts connections from the socket that all of them share.
fn serve(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let socket = worker.descriptor("listener").ok_or("no listening socket was passed")?;
    let listener = TcpListener::from(socket.try_clone_to_owned()?);
    worker.ready();
    while !worker.should_stop() {
        let events = WaitEvents::LATCH_SET
            | WaitEvents::SOCKET_READABLE
            | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        worker.wait(events, &mut [bgw_backend::SocketInterest::readable(socket)], None)?;
        match listener.accept() {
            Ok((connection, _)) => {
                if let Err(error) = answer(connection) {
                    tracing::warn!("a connection broke: {error}");
                }
            }
            // Another worker was faster, or something else ended the wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line)?;
    writeln!(connection, "{} {}", std::process::id(), line.trim())
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut launched = Postmaster::builder()
        .max_workers(arguments.workers)
        .function("serve", entry(serve))
        .descriptor("listener", listener)
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let mut handles = Vec::new();
    for number in 1..=arguments.workers {
        let worker = BackgroundWorker::builder(format!("server {number}"))
            .worker_type("server")
            .function("serve")
            .restart(RestartPolicy::after_secs(0))
            .build()?;
        handles.push(backend.register(&worker)?);
    }
    for handle in &handles {
        println!("{handle} {}", handle.wait_for_ready()?);
    }
    println!("prefork: {} workers serve {address}", arguments.workers);
    if arguments.requests == 0 {
        println!("prefork: {:?}", launched.wait()?);
        return Ok(());
    }
    let figures = load(address, arguments.requests, &handles)?;
    launched.shutdown(ShutdownMode::Fast)?;
    drop(backend);
    launched.wait()?;
    println!("prefork: ok, {figures}");
    Ok(())
}

/// Sends the requests one after another, and kills a worker half way.
fn load(address: SocketAddr, requests: u32, handles: &[Handle]) -> Result<String, Box<dyn Error>> {
    let victim = handles.first().ok_or("no workers")?;
    let WorkerStatus::Started(pid) = victim.status() else { return Err("worker 1 is gone".into()) };
    let (mut broken, mut by_worker) = (0u32, BTreeMap::<String, u32>::new());
    let begin = Instant::now();
    for number in 0..requests {
        if number == requests / 2 {
            println!("prefork: killing worker process {pid}");
            kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGKILL)?;
        }
        match request(address, number) {
            Ok(server) => *by_worker.entry(server).or_default() += 1,
            Err(_) => broken += 1,
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    for (server, count) in &by_worker {
        println!("prefork: worker process {server} answered {count}");
    }
    let WorkerStatus::Started(now) = victim.wait_for_startup()? else {
        return Err("the killed worker was not restarted".into());
    };
    if now == pid || broken > 1 {
        return Err(format!("{broken} requests broke; worker 1 runs as {now}, was {pid}").into());
    }
    let rate = f64::from(requests) / seconds;
    Ok(format!(
        "{requests} requests ({rate:.0}/s), {broken} broken by the kill, {pid} restarted as {now}"
    ))
}

fn request(address: SocketAddr, number: u32) -> io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    writeln!(connection, "request {number}")?;
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line)?;
    let odd = || io::Error::new(io::ErrorKind::UnexpectedEof, "no answer");
    let (server, rest) = line.trim().split_once(' ').ok_or_else(odd)?;
    if rest == format!("request {number}") { Ok(server.to_owned()) } else { Err(odd()) }
}
