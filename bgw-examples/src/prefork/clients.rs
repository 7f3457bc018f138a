//! The program's own check: requests one after another, while a worker is killed.

use bgw_backend::{Handle, WorkerStatus};
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Sends the requests, and kills the first worker half way. At most its request may break.
pub(crate) fn load(
    address: SocketAddr,
    requests: u32,
    handles: &[Handle],
) -> Result<String, Box<dyn Error>> {
    let victim = handles.first().ok_or("no workers")?;
    let WorkerStatus::Started(pid) = victim.status() else { return Err("worker 1 is gone".into()) };
    let (mut broken, mut by_worker) = (0u32, BTreeMap::<String, u32>::new());
    let begin = Instant::now();
    for number in 0..requests {
        if number == requests / 2 {
            println!("prefork: killing worker process {pid}");
            kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGKILL)?;
        }
        match request(address) {
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

/// One request on a connection of its own. Returns the process that answered.
fn request(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    let odd = || io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
    let server = head.lines().find_map(|line| line.strip_prefix("x-pid: ")).ok_or_else(odd)?;
    let whole = head.starts_with("HTTP/1.1 200 ") && body.len() == 1024;
    if whole { Ok(server.to_owned()) } else { Err(odd()) }
}
