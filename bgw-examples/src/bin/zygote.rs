//! A program on tokio whose workers begin with a table that takes long to load.
//!
//! A program with many threads cannot fork workers that share its memory. This one launches the
//! postmaster before it has any: the postmaster keeps a template, which loads the table once and
//! then forks a worker for each request. Each begins with the whole table, shared with the others,
//! and dies alone. In the middle the table is loaded anew; no request waits for that.
//!
//! ```text
//! zygote [--requests N] [--mib N]
//! ```

use bgw_backend::{Backend, BackgroundWorker, ShutdownMode, Worker, WorkerError, entry};
use bgw_postmaster::{Postmaster, Template};
use std::error::Error;
use std::time::{Duration, Instant};

type Failed = Box<dyn Error + Send + Sync>;

/// What takes long to load: for each number, how many steps it takes to 1 (Collatz).
struct Table {
    steps: Vec<u32>,
    loaded_by: u32,
}

fn load(entries: usize) -> Result<Table, Failed> {
    let mut steps = vec![0u32; entries];
    for number in 2..entries {
        let (mut at, mut count) = (number as u64, 0);
        while at >= number as u64 {
            at = if at % 2 == 0 { at / 2 } else { 3 * at + 1 };
            count += 1;
        }
        // Smaller ones are known.
        let known = usize::try_from(at).ok().and_then(|at| steps.get(at).copied());
        let steps = steps.get_mut(number).ok_or("out of the table")?;
        *steps = count + known.ok_or("out of the table")?;
    }
    Ok(Table { steps, loaded_by: std::process::id() })
}

/// Answers one request.
fn answer(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let table: &Table = worker.template_data().ok_or("there is no table")?;
    let number = usize::try_from(worker.main_arg()).unwrap_or(usize::MAX);
    let steps = table.steps.get(number).ok_or("the number is not in the table")?;
    let answer = [steps.to_le_bytes(), table.loaded_by.to_le_bytes()].concat();
    worker.set_result(&answer)?;
    Ok(())
}

fn main() -> Result<(), Failed> {
    let (mut requests, mut mib) = (20u64, 4usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("each option has a value")?;
        match argument.as_str() {
            "--requests" => requests = value.parse()?,
            "--mib" => mib = value.parse()?,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let entries = (mib << 20) / size_of::<u32>();
    // Before any thread is there.
    let mut launched = Postmaster::builder()
        .max_workers(64)
        .template_with("table", Template::new().measure_copies(), move || load(entries))
        .function("answer", entry(answer))
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(serve(&backend, requests, entries as u64));
    launched.shutdown(ShutdownMode::Fast)?;
    launched.wait()?;
    done
}

async fn serve(backend: &Backend, requests: u64, entries: u64) -> Result<(), Failed> {
    let began = Instant::now();
    let (first, copied) = ask(backend, requests, entries).await?;
    println!("{requests} requests in {:?}, the load included", began.elapsed());
    println!("each worker copied {copied} KiB of {} KiB at most", entries / 256);
    tokio::task::block_in_place(|| backend.refork("table"))?;
    let began = Instant::now();
    let (second, _) = ask(backend, requests, entries).await?;
    println!("{requests} requests in {:?}, loaded anew", began.elapsed());
    if first == second {
        return Err("the table was not loaded anew".into());
    }
    println!("zygote: ok");
    Ok(())
}

/// Asks at once for as many numbers. Returns the process that had loaded the table, and the most
/// that a worker has copied.
async fn ask(backend: &Backend, requests: u64, entries: u64) -> Result<(u32, u64), Failed> {
    let mut asked = Vec::new();
    for request in 0..requests {
        let number = 2 + request * 7 % (entries - 2);
        let worker = BackgroundWorker::builder("answer").function("answer").template("table");
        let worker = worker.main_arg(number).build()?;
        asked.push((number, backend.register_timeout(&worker, Duration::from_secs(60))?));
    }
    let (mut loaded_by, mut copied) = (None, 0);
    for (number, handle) in asked {
        let status = handle.ended().await?;
        let report = handle.exit_report().ok_or_else(|| format!("{number}: {status}"))?;
        let [a, b, c, d, by @ ..] = report.result().ok_or_else(|| format!("{number}: {report}"))?
        else {
            return Err("an answer is short".into());
        };
        let steps = u32::from_le_bytes([*a, *b, *c, *d]);
        let expected = (0..).scan(number, |at, _| {
            let now = *at;
            *at = if now % 2 == 0 { now / 2 } else { 3 * now + 1 };
            (now != 1).then_some(())
        });
        if steps as usize != expected.count() {
            return Err(format!("{number}: {steps} steps are wrong").into());
        }
        let by = u32::from_le_bytes(by.try_into()?);
        if *loaded_by.get_or_insert(by) != by {
            return Err("there is more than one table".into());
        }
        copied = copied.max(report.copied_kib.ok_or("nothing was measured")?);
    }
    Ok((loaded_by.ok_or("nothing was asked")?, copied))
}
