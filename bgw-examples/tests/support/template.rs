//! A cluster with a template, and workers that use what it has loaded.

use super::{Cluster, PATIENCE, children, stopped, title, worker};
use bgw_backend::{
    BackgroundWorkerBuilder, ExitCause, LastWords, NotStarted, Pid, Worker, WorkerError, entry,
};
use bgw_postmaster::{PostmasterBuilder, Template};
use process_test::wait_until;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a template of these tests has loaded.
pub struct Model {
    text: String,
    /// The process that loaded it.
    by: u32,
    uses: AtomicU32,
}

pub fn load() -> Result<Model, String> {
    let text = std::fs::read_to_string(std::env::temp_dir().join("model")).unwrap_or_default();
    match text.as_str() {
        "no" => return Err("there is no model".to_owned()),
        "panic" => panic!("the model is torn"),
        "die" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        "thread" => {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
        _ => {}
    }
    if let Some(lie) = text.strip_prefix("lie ") {
        misuse_socket(lie);
    }
    Ok(Model { text, by: std::process::id(), uses: AtomicU32::new(0) })
}

pub fn write_model(text: &str) {
    std::fs::write(std::env::temp_dir().join("model"), text).unwrap();
}

pub fn with_templates(settings: Template) -> impl FnOnce(PostmasterBuilder) -> PostmasterBuilder {
    move |builder| {
        builder
            .template_with("models", settings, load)
            .function("use", entry(use_model))
            .function("hold", entry(hold_model))
            .function("takes", entry(takes))
    }
}

pub fn cluster(model: &str, settings: Template) -> Cluster {
    write_model(model);
    Cluster::with(|builder| with_templates(settings)(builder.max_workers(64)))
}

pub fn lazily() -> Template {
    Template::new().on_first_use()
}

/// Gives back what was loaded, by whom, and how often it was used before.
fn use_model(worker: &mut Worker) -> Result<(), WorkerError> {
    assert!(worker.template_data::<String>().is_none(), "it is of another type");
    let model: &Model = worker.template_data().ok_or("there is no model")?;
    let before = model.uses.fetch_add(1, Ordering::Relaxed);
    worker.set_result(format!("{} {} {before}", model.text, model.by).as_bytes())?;
    Ok(())
}

/// The same, and waits for its end.
fn hold_model(worker: &mut Worker) -> Result<(), WorkerError> {
    use_model(worker)?;
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

pub fn of_template(function: &str) -> BackgroundWorkerBuilder {
    worker(function).template("models")
}

/// Runs a worker to its end, which gives back the model, and the process that loaded it.
#[track_caller]
pub fn used(cluster: &Cluster) -> (String, u32) {
    let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Exited(0), "{report:?}");
    let text = String::from_utf8(report.result().unwrap().to_vec()).unwrap();
    let parts: Vec<&str> = text.split(' ').collect();
    assert_eq!(parts[2], "0", "each worker has a copy of its own");
    (parts[0].to_owned(), parts[1].parse().unwrap())
}

/// Why the worker did not start, as its report says.
#[track_caller]
pub fn failure(cluster: &Cluster) -> String {
    let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::TemplateFailed), "{report:?}");
    assert_eq!(report.pid, None);
    match report.last_words() {
        Some(words @ LastWords::Error { .. }) => words.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The template processes.
pub fn templates(cluster: &Cluster) -> Vec<Pid> {
    let mut pids = children(cluster.launched.pid());
    pids.retain(|&pid| title(pid) == "bgw template models");
    pids
}

#[track_caller]
pub fn the_template(cluster: &Cluster) -> Pid {
    wait_until("there is one template", PATIENCE, || templates(cluster).len() == 1);
    templates(cluster)[0]
}

/// What of a template sleeps until it gets a worker.
pub fn sleepers(cluster: &Cluster) -> Vec<Pid> {
    let mut pids = children(cluster.launched.pid());
    pids.retain(|&pid| title(pid) == "bgworker: of a template");
    pids
}

/// Takes what it is given, and writes to its output.
fn takes(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    assert!(worker.template_data::<Model>().is_some());
    let mut file = std::fs::File::from(worker.take("note")?);
    std::io::Write::write_all(&mut file, b"taken")?;
    println!("to its output");
    eprintln!("and its errors");
    Ok(())
}

/// Writes to so many MiB of what was loaded, counted from its beginning.
fn writes(worker: &mut Worker) -> Result<(), WorkerError> {
    let memory: &Large = worker.template_data().ok_or("nothing is loaded")?;
    for page in memory.0.iter().take(worker.main_arg() as usize * 256) {
        page.0[0].store(2, Ordering::Relaxed);
    }
    Ok(())
}

/// Memory in pages of 4 KiB, all written to.
struct Large(Vec<Page>);
struct Page([AtomicU32; 1024]);

/// A cluster whose template "large" has so many MiB, and whose workers `writes`.
pub fn cluster_with_memory(mib: usize) -> Cluster {
    let page = || Page(std::array::from_fn(|_| AtomicU32::new(1)));
    let load = move || Ok::<_, String>(Large((0..mib * 256).map(|_| page()).collect()));
    Cluster::with(|builder| {
        builder
            .template_with("large", Template::new().measure_copies(), load)
            .template_with("plain", Template::new(), move || Ok::<_, String>(Large(Vec::new())))
            .function("writes", entry(writes))
    })
}

/// Says something to the postmaster in the template's name, and waits to be ended.
fn misuse_socket(lie: &str) {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // The one with the highest number is the last that was opened.
    let is_socket = |number: &i32| {
        std::fs::read_link(format!("/proc/self/fd/{number}"))
            .is_ok_and(|path| path.to_string_lossy().starts_with("socket:"))
    };
    let socket = numbers.filter(is_socket).max().unwrap();
    let messages: &[&[u8]] = match lie {
        "loaded twice" => &[&[1, 0, 0, 0, 0], &[1, 0, 0, 0, 0]],
        "forked what was not asked for" => &[&[3, 0, 0, 0, 0]],
        "nonsense" => &[b"nonsense"],
        _ => {
            // What it has is closed behind its back, as a careless program may.
            let _ = nix::unistd::close(socket);
            &[]
        }
    };
    for message in messages {
        // SAFETY: the bytes are valid for the call.
        unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), 0) };
    }
    loop {
        std::thread::park();
    }
}
