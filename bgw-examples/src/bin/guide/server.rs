//! The server of `GUIDE.md` when all its steps are taken: supervised, reloadable, stopped in order,
//! and open to other programs.

use bgw_backend::{
    Backend, BackgroundWorker, Ready, RestartPolicy, ShutdownMode, SocketInterest, WaitEvents,
    Worker, WorkerError, entry,
};
use bgw_postmaster::Postmaster;
use nix::sys::signal::{SigSet, Signal};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

/// What the workers say, from a file. It is read at the start of each worker and at each reload.
fn read_greeting() -> String {
    match fs::read_to_string("greeting.txt") {
        Ok(text) => text.trim().to_owned(),
        Err(_) => "hello".to_owned(),
    }
}

/// The main function of each of the workers.
fn serve(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate(); // a request to stop ends the loop below
    worker.handle_reload()?; // a request to reload ends a wait, too
    worker.unblock_signals()?;
    let socket = worker.descriptor("listener").ok_or("no listening socket was passed")?;
    let listener = TcpListener::from(socket.try_clone_to_owned()?);
    let mut greeting = read_greeting();
    worker.ready();

    let events =
        WaitEvents::LATCH_SET | WaitEvents::SOCKET_READABLE | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    while !worker.should_stop() {
        if worker.reload_requested() {
            greeting = read_greeting();
            tracing::info!("{} says \"{greeting}\" from now on", worker.name());
        }
        worker.wait(events, &mut [SocketInterest::readable(socket)], None)?;
        match listener.accept() {
            Ok((connection, _)) => {
                if let Err(error) = answer(connection, &greeting) {
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

/// Answers one HTTP request.
fn answer(mut connection: TcpStream, greeting: &str) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = BufReader::new(&connection).lines().take_while(|line| {
        line.as_ref().is_ok_and(|line| !line.is_empty()) // an empty line ends the request
    });
    let request = request.collect::<io::Result<Vec<_>>>()?;
    if request.first().is_some_and(|line| line.starts_with("GET /crash ")) {
        std::process::abort();
    }
    let body = format!("{greeting} from process {}\n", std::process::id());
    write!(connection, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();
    let port = std::env::args().nth(1).unwrap_or("8080".into());
    let runtime_dir = std::env::args().nth(2).unwrap_or("/tmp/greeter".into());

    // Blocked before the first thread starts, so that only the thread below receives them.
    let mut stop_signals = SigSet::empty();
    stop_signals.add(Signal::SIGINT);
    stop_signals.add(Signal::SIGTERM);
    stop_signals.thread_block()?;

    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    listener.set_nonblocking(true)?; // all workers wake for a connection, one gets it
    let address = listener.local_addr()?;
    let mut launched = Postmaster::builder()
        .max_workers(8)
        .runtime_dir(&runtime_dir)
        .terminate_grace(Duration::from_secs(5))
        .function("serve", entry(serve))
        .descriptor("listener", listener)
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;

    for number in 1..=4 {
        let worker = BackgroundWorker::builder(format!("server {number}"))
            .function("serve")
            .restart(RestartPolicy::after_secs(1))
            .ready(Ready::Call)
            .build()?;
        let handle = backend.register(&worker)?;
        println!("{}: {}", worker.name(), handle.wait_for_ready()?);
    }
    println!("ready: http://{address}/ (postmaster {})", launched.pid());

    let launched = Arc::new(launched);
    let to_stop = Arc::clone(&launched);
    thread::spawn(move || {
        if let Ok(signal) = stop_signals.wait() {
            println!("{signal}: stopping");
        }
        to_stop.shutdown(ShutdownMode::Fast)
    });
    println!("postmaster {}", launched.wait()?); // returns when it has ended, however it ended
    Ok(())
}
