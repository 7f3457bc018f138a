//! The second step of `GUIDE.md`: a server whose workers share one listening socket.

use bgw_backend::{
    Backend, BackgroundWorker, RestartPolicy, SocketInterest, WaitEvents, Worker, WorkerError,
    entry,
};
use bgw_postmaster::Postmaster;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// The main function of each of the workers.
fn serve(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate(); // a request to stop ends the loop below
    worker.unblock_signals()?;
    let socket = worker.descriptor("listener").ok_or("no listening socket was passed")?;
    let listener = TcpListener::from(socket.try_clone_to_owned()?);
    worker.ready();

    let events =
        WaitEvents::LATCH_SET | WaitEvents::SOCKET_READABLE | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    while !worker.should_stop() {
        worker.wait(events, &mut [SocketInterest::readable(socket)], None)?;
        match listener.accept() {
            Ok((connection, _)) => {
                if let Err(error) = answer(connection, "hello") {
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

    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    listener.set_nonblocking(true)?; // all workers wake for a connection, one gets it
    let address = listener.local_addr()?;
    let mut launched = Postmaster::builder()
        .max_workers(8)
        .function("serve", entry(serve))
        .descriptor("listener", listener)
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;

    for number in 1..=4 {
        let worker = BackgroundWorker::builder(format!("server {number}"))
            .function("serve")
            .restart(RestartPolicy::after_secs(1))
            .build()?;
        let handle = backend.register(&worker)?;
        println!("{}: {}", worker.name(), handle.wait_for_ready()?);
    }
    println!("ready: http://{address}/ (postmaster {})", launched.pid());

    println!("postmaster {}", launched.wait()?);
    Ok(())
}
