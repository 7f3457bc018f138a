//! The last step of `GUIDE.md`: another program that attaches to the running server.

use bgw_backend::{Backend, BackgroundWorker, Handle, Roll, WorkerHandle};
use std::error::Error;
use std::time::Duration;

fn run(task: &str, argument: &str, runtime_dir: &str) -> Result<(), Box<dyn Error>> {
    let backend = Backend::connect(runtime_dir)?;
    match task {
        "list" => {
            for info in backend.workers() {
                println!("{}  {}: {}", info.handle, info.worker.name(), info.status);
            }
        }
        "add" => {
            let worker = BackgroundWorker::builder(argument).function("serve").build()?;
            let handle = backend.register(&worker)?;
            println!("{handle}  {}: {}", worker.name(), handle.wait_for_ready()?);
        }
        "stop" => {
            let handle = backend.handle(argument.parse::<WorkerHandle>()?);
            handle.terminate()?;
            println!("{handle}  {}", handle.wait_for_end()?);
        }
        "reload" => backend.reload()?,
        "roll" => {
            let servers = (1..=4).flat_map(|number| backend.find(&format!("server {number}")));
            let servers: Vec<Handle> = servers.collect();
            let report = backend.roll(&servers, Roll::new(1, Duration::from_secs(10)))?;
            for (worker, why, last_end) in &report.failed {
                println!("{worker}  {why:?}, {last_end:?}");
            }
            println!("{} replaced, {} not begun", report.done.len(), report.not_begun.len());
        }
        _ => return Err("usage: control list | add NAME | stop HANDLE | reload | roll".into()),
    }
    Ok(())
}

fn main() {
    let word = |number| std::env::args().nth(number).unwrap_or_default();
    let runtime_dir = std::env::var("RUNTIME_DIR").unwrap_or("/tmp/greeter".into());
    if let Err(error) = run(&word(1), &word(2), &runtime_dir) {
        eprintln!("control: {error}");
        std::process::exit(1);
    }
}
