//! `plugin_host`: each plug-in is a library, and runs in a process of its own.
//!
//! The host loads none of them. One that crashes is started again, one that no longer beats is
//! killed and started again, one that takes too much memory is replaced; the others, and the host,
//! notice nothing. It says what happens, and exits with 0 once every plug-in but the first has come
//! back as often as it should, while the first ran on in its process.
//!
//! ```text
//! plugin_host LIBRARY works crashes hangs leaks
//! ```

use bgw_backend::{Backend, BackgroundWorker, EventKind, EventsFrom, InvalidWorker};
use bgw_backend::{Ready, Recycle, RestartPolicy, ShutdownMode};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs plug-ins, and goes on whatever they do.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The library that holds them.
    library: PathBuf,
    /// Their names: `NAME` is the worker that the library exports as `plugin_NAME`. The first one
    /// is to run undisturbed.
    #[arg(required = true)]
    plugins: Vec<String>,
    /// How often each of the others is to come back.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
}

/// How long the host waits for the next event.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each plug-in gets the same terms.
fn plugin(library: &Path, name: &str) -> Result<BackgroundWorker, InvalidWorker> {
    BackgroundWorker::builder(name)
        .library(library.to_string_lossy(), format!("plugin_{name}"))
        .ready(Ready::Call)
        .restart(RestartPolicy::Fixed(Duration::from_millis(50)))
        .heartbeat(Duration::from_secs(3))
        .recycle(Recycle::new().rss(64 << 20))
        .build()
}

fn main() -> Result<(), Box<dyn Error>> {
    logging::to_stderr("error");
    let Arguments { library, plugins, times } = Arguments::parse();
    let library = library.canonicalize()?;
    let builder = Postmaster::builder().max_workers(64).allow_libraries(true);
    let mut launched = builder.build()?.launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;
    let mut events = backend.events(EventsFrom::Now)?;
    let workers = plugins.iter().map(|name| plugin(&library, name));
    let handles = backend.register_all(&workers.collect::<Result<Vec<_>, _>>()?)?;
    let undisturbed = handles.first().ok_or("there is no plug-in")?;
    undisturbed.wait_for_ready()?;
    let pid = undisturbed.pid();

    // How many runs of each are still to begin.
    let mut missing: BTreeMap<&str, u32> =
        plugins.iter().skip(1).map(|name| (name.as_str(), times + 1)).collect();
    while missing.values().any(|&left| left > 0) {
        let event = events.next_timeout(PATIENCE)?.ok_or("nothing happens any more")?;
        match event.kind {
            EventKind::Silent | EventKind::Recycling | EventKind::Exited => println!("{event}"),
            EventKind::Started => {
                if let Some(left) = missing.get_mut(event.name.as_str()) {
                    *left = left.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
    if undisturbed.pid() != pid {
        return Err(format!("{undisturbed} was disturbed: {}", undisturbed.status()).into());
    }
    backend.shutdown(ShutdownMode::Fast)?;
    launched.wait()?;
    println!("plugin_host: ok, {} plug-ins", plugins.len());
    Ok(())
}
