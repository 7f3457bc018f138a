//! The promise: what a worker has counted is in the sum for as long as the postmaster lives,
//! however the worker ends and whoever has its slot next; a gauge counts while its worker runs.
//!
//! Would catch: a run that counts twice or not at all, a sum that falls, a class that counts for
//! another one, an overwritten cell that takes away what ended runs have counted.

use crate::support::{
    Cluster, PATIENCE, kill, ready, restarting, shared, simple, stopped, wait_for_spares, worker,
};
use ::metrics::{
    CounterFn, GaugeFn, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use bgw_backend::{
    Backend, ConnectOptions, MetricKind, MetricValue, Metrics, Recycle, RestartPolicy, Worker,
    WorkerStatus, entry,
};
use bgw_core::Attachment;
use bgw_postmaster::{Postmaster, PostmasterBuilder, Reuse};
use process_test::{Signal, Test, tests, wait_until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_sum_holds_the_living_and_the_dead_however_they_ended => [J47],
        a_sum_never_falls_while_workers_are_killed_and_restarted => [J47],
        a_sum_outlives_crash_resets_and_recycled_runs => [J47],
        a_gauge_counts_while_its_worker_runs => [J47],
        each_class_has_a_sum_of_its_own_in_slots_that_classes_share => [J47],
        an_overwritten_cell_takes_nothing_from_ended_runs => [J47],
        what_ended_runs_have_counted_is_written_again => [J47],
        what_is_not_declared_so_is_an_error_that_says_what_is => [J47],
        prometheus_reads_the_text_and_an_observer_makes_it => [J47],
        the_recorder_of_the_metrics_crate_gets_every_sum => [J47],
    ]
}

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn declared(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder
        .counter("jobs_done", "Jobs that were done")
        .gauge("files_open", "Files that are open now")
        .function("counts", entry(counts))
        .function("goes_on", entry(goes_on))
        .function("recycled", entry(recycled))
        .function("asks", entry(asks))
}

/// Adds 100, and ends as its argument says.
fn counts(worker: &mut Worker) -> Done {
    let done = worker.counter("jobs_done")?;
    worker.gauge("files_open")?.set(7);
    (0..100).for_each(|_| done.add(1));
    match worker.main_arg() {
        0 => Ok(()),
        1 => Err("it fails".into()),
        2 => panic!("it panics"),
        3 => std::process::exit(3),
        _ => Ok(nix::sys::signal::raise(Signal::SIGKILL)?),
    }
}

/// Sets its gauge to its argument, adds until it is stopped, and says what it has added.
fn goes_on(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let done = worker.counter("jobs_done")?;
    let open = worker.gauge("files_open")?;
    open.set(1 + worker.main_arg() as i64);
    open.add(-1);
    done.add(1);
    worker.ready();
    let mut added = 1u64;
    while !worker.should_stop() {
        done.add(1);
        added += 1;
        if worker.main_arg() > 0 {
            worker.sleep(None)?;
        }
    }
    worker.set_result(&added.to_le_bytes())?;
    Ok(())
}

/// Adds 10 in each run, and is recycled after each.
fn recycled(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.counter("jobs_done")?.add(10);
    worker.job_done();
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn jobs_done(backend: &Backend) -> u64 {
    backend.metrics().counter("jobs_done").unwrap()
}

fn files_open(backend: &Backend) -> i64 {
    backend.metrics().gauge("files_open").unwrap()
}

/// Would fail if an end lost what was counted, or a slot, a spare or a process that serves again
/// counted it twice.
fn a_sum_holds_the_living_and_the_dead_however_they_ended() {
    for (spares, reusable) in [(0, false), (2, false), (2, true)] {
        let cluster = Cluster::with(|builder| {
            let builder = declared(builder.max_workers(2).warm_spares(spares));
            let reuse = Reuse::new().lives(5);
            if reusable {
                builder.reusable_function("again", reuse, entry(counts))
            } else {
                builder.function("again", entry(counts))
            }
        });
        wait_for_spares(&cluster, spares);
        let mut sum = 0;
        for round in 0..20 {
            let description = worker("again").main_arg(round % 5).build().unwrap();
            let handle = cluster.backend.register(&description).unwrap();
            stopped(&handle);
            sum += 100;
            assert_eq!(jobs_done(&cluster.backend), sum, "after end {round} of {spares} spares");
            assert_eq!(files_open(&cluster.backend), 0);
        }
        cluster.end();
    }
}

/// Would fail if a reader met a run between two places.
fn a_sum_never_falls_while_workers_are_killed_and_restarted() {
    let cluster = Cluster::with(|builder| declared(builder.max_workers(4)));
    let handles: Vec<_> = (0..3)
        .map(|_| cluster.backend.register(&restarting("goes_on", Duration::ZERO)).unwrap())
        .collect();
    let (mut before, mut kills) = (0, 0);
    let until = Instant::now() + Duration::from_secs(3);
    while kills < 30 || Instant::now() < until {
        let now = jobs_done(&cluster.backend);
        assert!(now >= before, "{now} after {before}, and {kills} kills");
        before = now;
        let victim = &handles[kills % handles.len()];
        if let WorkerStatus::Started(pid) = victim.status()
            && kills < 30
        {
            kill(pid, Signal::SIGKILL);
            kills += 1;
            wait_until("the kill is seen", PATIENCE, || victim.pid() != Some(pid));
        }
    }
    let ended: Vec<_> = handles.iter().inspect(|handle| handle.terminate().unwrap()).collect();
    ended.iter().for_each(|handle| {
        stopped(handle);
    });
    let sum = jobs_done(&cluster.backend);
    assert!(sum >= before && sum == jobs_done(&cluster.backend), "nobody counts any more");
    cluster.end();
}

/// Would fail if a reset or a recycled run began the count anew.
fn a_sum_outlives_crash_resets_and_recycled_runs() {
    let cluster = Cluster::with(|builder| declared(builder.max_workers(8)));
    stopped(&cluster.backend.register(&simple("counts")).unwrap());
    for round in 1..=3u64 {
        let hour = RestartPolicy::after_secs(3600);
        let (handle, pid) = cluster.start(&shared("goes_on", hour));
        ready(&handle);
        let before = jobs_done(&cluster.backend);
        kill(pid, Signal::SIGKILL);
        let mut successor = None;
        wait_until("it has a successor after the reset", PATIENCE, || {
            successor = handle.crash_reset().and_then(|reset| reset.successor);
            successor.is_some()
        });
        let again = cluster.backend.handle(successor.unwrap());
        ready(&again);
        let after = jobs_done(&cluster.backend);
        assert!(after > before && before > 100 * round.min(1), "{before}, {after} in {round}");
        again.terminate().unwrap();
        again.wait_for_end_timeout(PATIENCE).unwrap();
    }
    let before = jobs_done(&cluster.backend);
    let recycle = Recycle::new().jobs(1);
    let restart = RestartPolicy::Fixed(Duration::ZERO);
    let description = worker("recycled").restart(restart).recycle(recycle).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    wait_until("it was recycled five times", PATIENCE, || {
        jobs_done(&cluster.backend) >= before + 60
    });
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    assert_eq!((jobs_done(&cluster.backend) - before) % 10, 0, "in tens");
    cluster.end();
}

/// Would fail if a dead worker's gauge counted, or a living one's did not.
fn a_gauge_counts_while_its_worker_runs() {
    let cluster = Cluster::with(|builder| declared(builder.max_workers(4)));
    let begin = |value| {
        let description = worker("goes_on").main_arg(value).build().unwrap();
        let (handle, pid) = cluster.start(&description);
        ready(&handle);
        (handle, pid)
    };
    let ((first, _), (second, pid)) = (begin(3), begin(40));
    assert_eq!(files_open(&cluster.backend), 43);
    kill(pid, Signal::SIGKILL);
    stopped(&second);
    assert_eq!(files_open(&cluster.backend), 3);
    let (third, _) = begin(500);
    assert_eq!(files_open(&cluster.backend), 503);
    for handle in [first, third] {
        handle.terminate().unwrap();
        stopped(&handle);
    }
    assert_eq!(files_open(&cluster.backend), 0);
    cluster.end();
}

fn by_class(metrics: &Metrics) -> Vec<(String, MetricValue)> {
    let reading = metrics.iter().find(|reading| reading.name() == "jobs_done").unwrap();
    reading.classes().map(|(class, value)| (class.to_owned(), value)).collect()
}

/// Would fail if a worker counted for the class of its slot, or for that of the tenant before.
fn each_class_has_a_sum_of_its_own_in_slots_that_classes_share() {
    let cluster = Cluster::with(|builder| {
        declared(builder.max_workers(2).max_parallel_workers(1).reserve("urgent", 1))
    });
    // One slot is reserved, and one is common: `urgent` workers may have both.
    let (holder, _) = cluster.start(&worker("sleep").class("urgent").build().unwrap());
    for class in ["urgent", "", "urgent", ""] {
        let builder = worker("counts");
        let builder = if class.is_empty() { builder } else { builder.class(class) };
        stopped(&cluster.backend.register(&builder.build().unwrap()).unwrap());
    }
    stopped(&cluster.backend.register(&worker("counts").build().unwrap()).unwrap());
    let parallel = worker("counts").flags(bgw_backend::WorkerFlags::CLASS_PARALLEL);
    stopped(&cluster.backend.register(&parallel.build().unwrap()).unwrap());
    let sums = by_class(&cluster.backend.metrics());
    let expected = [("common", 300), ("parallel", 100), ("urgent", 200)];
    let expected: Vec<_> =
        expected.map(|(class, sum)| (class.to_owned(), MetricValue::Counter(sum))).into();
    assert_eq!(sums, expected);
    assert_eq!(jobs_done(&cluster.backend), 600);
    holder.terminate().unwrap();
    stopped(&holder);
    cluster.end();
}

/// Would fail if the postmaster went by what others have written.
fn an_overwritten_cell_takes_nothing_from_ended_runs() {
    use std::sync::atomic::Ordering::Relaxed;
    let cluster = Cluster::with(|builder| declared(builder.max_workers(1).max_parallel_workers(0)));
    let attachment = Attachment::connect(&cluster.folder, false, None).unwrap();
    let plan = attachment.cells().metric_plan();
    let cell = plan.value(0, 0, 0).unwrap();
    let write = |value| {
        let cells = attachment.slots().writable_cells().unwrap();
        cells.shared_cell(cell).unwrap().store(value, Relaxed);
    };
    let run = || stopped(&cluster.backend.register(&simple("counts")).unwrap());
    run();
    assert_eq!(jobs_done(&cluster.backend), 100);
    write(0);
    assert_eq!(jobs_done(&cluster.backend), 100, "that ended runs have counted");
    run();
    assert_eq!(jobs_done(&cluster.backend), 100, "what one run counts is lost");
    run();
    assert_eq!(jobs_done(&cluster.backend), 200);
    write(u64::MAX - 50);
    run();
    assert_eq!(jobs_done(&cluster.backend), 1 << 53, "it does not wrap");
    write(3);
    run();
    assert_eq!(jobs_done(&cluster.backend), 1 << 53);
    cluster.end();
}

/// Would fail if a sum stayed down, after everything was overwritten that says what ended runs have
/// counted, until the next run ends in the same slot.
fn what_ended_runs_have_counted_is_written_again() {
    use std::sync::atomic::Ordering::Relaxed;
    let cluster = Cluster::with(|builder| declared(builder.max_workers(4)));
    let attachment = Attachment::connect(&cluster.folder, false, None).unwrap();
    let plan = attachment.cells().metric_plan();
    let cell = |number: u32| attachment.slots().writable_cells().unwrap().shared_cell(number);
    // The values, and the floors behind them.
    let first = plan.value(0, 0, 0).unwrap();
    let last = (first..).take_while(|&number| cell(number).is_some()).last().unwrap();
    let scribble = || (first..=last).for_each(|number| cell(number).unwrap().store(0, Relaxed));
    for _ in 0..3 {
        stopped(&cluster.backend.register(&simple("counts")).unwrap());
    }
    assert_eq!(jobs_done(&cluster.backend), 300);
    scribble();
    assert_eq!(jobs_done(&cluster.backend), 0);
    // What everybody reads first: the postmaster looks at that when it is rung.
    attachment.slots().writable_cells().unwrap().shared_cell(0).unwrap().store(7, Relaxed);
    cluster.backend.ping().unwrap();
    assert_eq!(jobs_done(&cluster.backend), 300, "it has found out");
    let (handle, pid) = cluster.start(&shared("goes_on", RestartPolicy::Never));
    ready(&handle);
    scribble();
    kill(pid, Signal::SIGKILL);
    wait_until("it is told that the cluster was reset", PATIENCE, || {
        handle.crash_reset().is_some()
    });
    // The slots are made anew, and the rest with them, before this is answered.
    cluster.backend.ping().unwrap();
    let now = jobs_done(&cluster.backend);
    assert!(now >= 300, "{now} after a reset");
    cluster.end();
}

/// Asks for what is not there.
fn asks(worker: &mut Worker) -> Done {
    let unknown = worker.counter("jobs").unwrap_err().to_string();
    assert!(unknown.contains("\"jobs\"") && unknown.contains("jobs_done, files_open"), "{unknown}");
    let other = worker.counter("files_open").unwrap_err().to_string();
    assert_eq!(other, "metric \"files_open\" is a gauge");
    assert!(worker.gauge("jobs_done").is_err());
    Ok(())
}

fn what_is_not_declared_so_is_an_error_that_says_what_is() {
    let cluster = Cluster::with(declared);
    let report = stopped(&cluster.backend.register(&simple("asks")).unwrap());
    assert_eq!(report.cause, bgw_backend::ExitCause::Exited(0), "{report}");
    let metrics = cluster.backend.metrics();
    assert_eq!((metrics.counter("files_open"), metrics.gauge("jobs")), (None, None));
    let kinds: Vec<MetricKind> = metrics.iter().map(bgw_backend::MetricReading::kind).collect();
    assert_eq!(kinds, [MetricKind::Counter, MetricKind::Gauge]);
    cluster.end();
    let refused = Postmaster::builder().counter("jobs-done", "").build().unwrap_err();
    assert!(
        refused.to_string().starts_with("metric \"jobs-done\": a name is letters"),
        "{refused}"
    );
    let many = (0..65).fold(Postmaster::builder(), |b, n| b.gauge(format!("n{n}"), ""));
    assert!(many.build().unwrap_err().to_string().contains("the limit is 64 metrics"));
}

/// Would fail if the text were not what Prometheus reads, or only a member that may write, under a
/// living postmaster, could make it.
fn prometheus_reads_the_text_and_an_observer_makes_it() {
    let cluster = Cluster::with(|builder| declared(builder.reserve("urgent", 1)));
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    stopped(&cluster.backend.register(&simple("counts")).unwrap());
    let expected = "\
# HELP jobs_done Jobs that were done
# TYPE jobs_done counter
jobs_done_total{class=\"common\"} 100
jobs_done_total{class=\"parallel\"} 0
jobs_done_total{class=\"urgent\"} 0
# HELP files_open Files that are open now
# TYPE files_open gauge
files_open{class=\"common\"} 0
files_open{class=\"parallel\"} 0
files_open{class=\"urgent\"} 0
# EOF
";
    assert_eq!(observer.metrics().prometheus(), expected);
    cluster.end();
    assert_eq!(observer.metrics().prometheus(), expected, "also when the postmaster is gone");
}

/// What a recorder was told, by name and class.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<BTreeMap<String, f64>>>);

#[derive(Debug)]
struct One(Told, String);

impl One {
    fn of(told: &Told, key: &Key) -> Arc<Self> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{} = {}", label.key(), label.value())).collect();
        Arc::new(Self(told.clone(), format!("{} {}", key.name(), labels.join(","))))
    }

    fn put(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl CounterFn for One {
    fn increment(&self, _: u64) {
        panic!("sums are absolute");
    }
    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {
        panic!("sums are absolute");
    }
    fn decrement(&self, _: f64) {
        panic!("sums are absolute");
    }
    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl Recorder for Told {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        assert_eq!((name.as_str(), help.as_ref()), ("jobs_done", "Jobs that were done"));
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        assert_eq!((name.as_str(), help.as_ref()), ("files_open", "Files that are open now"));
    }
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> ::metrics::Counter {
        ::metrics::Counter::from_arc(One::of(self, key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> ::metrics::Gauge {
        ::metrics::Gauge::from_arc(One::of(self, key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> ::metrics::Histogram {
        ::metrics::Histogram::noop()
    }
}

fn the_recorder_of_the_metrics_crate_gets_every_sum() {
    let cluster = Cluster::with(declared);
    let told = Told::default();
    let (handle, _) = cluster.start(&worker("goes_on").main_arg(5).build().unwrap());
    ready(&handle);
    for round in 1..3 {
        stopped(&cluster.backend.register(&simple("counts")).unwrap());
        with_local_recorder(&told, || cluster.backend.metrics().record());
        let told = told.0.lock().unwrap();
        assert_eq!(told.get("files_open class = common"), Some(&5.0), "{told:?}");
        let jobs = told.get("jobs_done class = common").copied();
        assert_eq!(jobs, Some(jobs_done(&cluster.backend) as f64), "{told:?}");
        assert!(jobs > Some(100.0 * f64::from(round)) && told.len() == 4, "{told:?}");
    }
    handle.terminate().unwrap();
    stopped(&handle);
    cluster.end();
}
