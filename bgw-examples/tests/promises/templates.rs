//! The promise: a worker of a template begins with what the template has loaded, and is the
//! postmaster's own child, with all that others have.
//!
//! Would catch: a load for each worker, a worker that the postmaster does not know or that
//! somebody else waits for, a failure that nobody hears of, a template that holds up the others.

use crate::support::template::{
    cluster, cluster_with_memory, failure, lazily, load, of_template, sleepers, templates,
    the_template, used, write_model,
};
use crate::support::{
    PATIENCE, alive, children, kill, simple, stopped, title, wait_for_reset, wait_until_asleep,
    worker,
};
use bgw_backend::{
    AnswerError, AskError, EventsFrom, ExitCause, NotStarted, Pid, ReforkError, RestartPolicy,
    WorkerFlags, WorkerStatus,
};
use bgw_postmaster::{BuildError, Postmaster, PostmasterBuilder, Template};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_template_loads_once_and_its_workers_begin_with_what_it_has_loaded => [J41],
        a_template_on_first_use_loads_when_a_worker_needs_it => [J41],
        a_load_that_fails_is_told_to_who_waits_and_is_braked => [J41],
        a_load_that_hangs_is_ended_at_its_limit => [J41],
        a_template_that_no_postmaster_has_is_refused => [J41],
        a_worker_of_a_template_is_the_postmasters_child_as_any_other => [J42],
        a_worker_of_a_template_gets_its_output_and_what_it_is_given => [J42],
        a_worker_of_a_template_hears_what_others_hear => [J42],
        a_template_with_a_second_thread_does_not_fork_and_says_so => [J43],
        a_refork_is_ready_before_the_old_one_goes_and_running_workers_stay => [J44],
        a_refork_that_fails_leaves_the_one_before => [J44],
        a_template_that_dies_takes_nobody_with_it => [J45],
        a_template_that_stops_is_ended_and_who_waits_starts_from_its_successor => [J45],
        templates_and_what_they_have_forked_end_with_their_postmaster => [J45],
        a_report_says_how_much_memory_was_copied_where_that_is_wanted => [J46],
        a_template_that_lies_is_ended_and_harms_nobody => [J45],
    ]
}

fn parent(pid: Pid) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

/// Would fail if each worker loaded, or if one had what another has changed.
fn a_template_loads_once_and_its_workers_begin_with_what_it_has_loaded() {
    let cluster = cluster("large", Template::new());
    let template = the_template(&cluster);
    for _ in 0..5 {
        assert_eq!(used(&cluster), ("large".to_owned(), template.get()));
    }
    // The others begin without it.
    let report = stopped(&cluster.backend.register(&simple("use")).unwrap());
    assert_eq!(report.cause, ExitCause::Exited(1));
    assert_eq!(report.last_words().unwrap().to_string(), "there is no model");
    assert_eq!(the_template(&cluster), template);
    wait_until("no child of it is left over", PATIENCE, || sleepers(&cluster).is_empty());
    cluster.end();
}

/// Would fail if it were loaded at the start, or not when it is wanted.
fn a_template_on_first_use_loads_when_a_worker_needs_it() {
    let cluster = cluster("late", lazily());
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    assert_eq!(templates(&cluster), []);
    write_model("later");
    assert_eq!(used(&cluster).0, "later");
    assert_eq!(the_template(&cluster).get(), used(&cluster).1);
    cluster.end();
}

/// Would fail if a waiter slept on, if the report did not say why, if the postmaster tried again
/// and again, or never.
fn a_load_that_fails_is_told_to_who_waits_and_is_braked() {
    let cluster = cluster("no", lazily());
    assert_eq!(failure(&cluster), "template \"models\": there is no model");
    // In its pause nothing is loaded, and nobody waits.
    let refused = failure(&cluster);
    assert!(refused.starts_with("template \"models\": there is no model"), "{refused}");
    write_model("panic");
    let says = |part: &str| {
        wait_until(part, PATIENCE, || failure(&cluster).contains(part));
    };
    says("panicked: the model is torn");
    write_model("die");
    says("its process was terminated by signal 6: SIGABRT");
    // A worker that restarts starts once the template can be loaded.
    let patient = of_template("hold").restart(RestartPolicy::Fixed(Duration::from_millis(100)));
    let patient = cluster.backend.register(&patient.build().unwrap()).unwrap();
    assert!(matches!(stopped(&patient).cause, ExitCause::NotStarted(NotStarted::TemplateFailed)));
    write_model("well");
    wait_until("it runs", PATIENCE, || matches!(patient.status(), WorkerStatus::Started(_)));
    assert_eq!(used(&cluster).0, "well");
    cluster.end();
}

/// Would hang if the postmaster waited for a load, or for the whole of its life.
fn a_load_that_hangs_is_ended_at_its_limit() {
    let cluster = cluster("hang", Template::new().load_timeout(Duration::from_millis(300)));
    let handle = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
    // Meanwhile others start.
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::TemplateFailed));
    let words = report.last_words().unwrap().to_string();
    assert_eq!(words, "template \"models\": it did not load within 300ms");
    wait_until("it is gone", PATIENCE, || templates(&cluster).is_empty());
    cluster.end();
}

/// Would fail if a wrong name were found out only by a worker that never starts.
fn a_template_that_no_postmaster_has_is_refused() {
    let cluster = cluster("one", lazily());
    let other = worker("use").template("model").build().unwrap();
    let report = stopped(&cluster.backend.register(&other).unwrap());
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
    let words = report.last_words().unwrap().to_string();
    assert_eq!(words, "template is \"model\", but the postmaster has none of this name");
    assert!(matches!(
        cluster.backend.refork("model"),
        Err(ReforkError::Answer(AnswerError::Ask(AskError::Refused { detail, .. })))
            if detail.contains("\"model\"")
    ));
    cluster.end();
    let refused = |builder: PostmasterBuilder, part: &str| match builder.build().unwrap_err() {
        error @ BuildError::Template { .. } => {
            assert!(error.to_string().contains(part), "{part:?} is missing: {error}");
        }
        other => panic!("{other}"),
    };
    let with = |name: &str, settings| Postmaster::builder().template_with(name, settings, load);
    refused(with("", Template::new()), "1 to 31 bytes");
    refused(with(&"x".repeat(32), Template::new()), "1 to 31 bytes");
    refused(with("a\nb", Template::new()), "\"a\\nb\"");
    refused(with("a", Template::new()).template("a", load), "two of this name");
    refused(with("a", Template::new().spares(65)), "0 to 64");
    refused(with("a", Template::new().load_timeout(Duration::ZERO)), "1ms to a day");
    refused(with("a", Template::new()).run_atfork_handlers(true), "pthread_atfork");
    let many =
        (0..17).fold(Postmaster::builder(), |builder, n| builder.template(n.to_string(), load));
    refused(many, "more than 16");
}

/// Would fail if the worker were a child of its template, had no session of its own, or if its end
/// were reported by a guess.
fn a_worker_of_a_template_is_the_postmasters_child_as_any_other() {
    let cluster = cluster("x", Template::new());
    let template = the_template(&cluster);
    let (handle, pid) = cluster.start(&of_template("hold").build().unwrap());
    handle.wait_for_ready_timeout(PATIENCE).unwrap();
    assert_eq!(parent(pid), cluster.launched.pid().get());
    assert_eq!(parent(template), cluster.launched.pid().get());
    assert_eq!(title(pid), "bgworker: hold");
    let own = nix::unistd::Pid::from_raw(pid.as_raw());
    assert_eq!(nix::unistd::getsid(Some(own)), Ok(own));
    assert_eq!(nix::unistd::getpgid(Some(own)), Ok(own));
    kill(pid, Signal::SIGKILL);
    let report = stopped(&handle);
    assert_eq!(
        (report.cause, report.pid),
        (ExitCause::Signaled { signal: 9, core_dumped: false }, Some(pid),)
    );
    assert!(report.max_rss_kib > 0 && report.ran_for > Duration::ZERO);
    wait_until("it is reaped", PATIENCE, || !alive(pid));
    // A crash resets the cluster; the template lives through it.
    let shared = of_template("hold").flags(WorkerFlags::SHMEM_ACCESS);
    let (crashes, pid) = cluster.start(&shared.build().unwrap());
    crashes.wait_for_ready_timeout(PATIENCE).unwrap();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    kill(pid, Signal::SIGKILL);
    wait_for_reset(&mut events);
    assert_eq!(used(&cluster), ("x".to_owned(), template.get()));
    cluster.end();
}

/// Would fail if a child that was not forked from the postmaster lacked what the postmaster has
/// opened for it.
fn a_worker_of_a_template_gets_its_output_and_what_it_is_given() {
    // One that is forked ahead gets it, too.
    let cluster = cluster("x", Template::new().spares(1));
    for name in ["one", "two"] {
        let path = std::env::temp_dir().join(name);
        let file = std::fs::File::create(&path).unwrap();
        let description = of_template("takes")
            .output(bgw_backend::Output::Null)
            .last_lines(10)
            .give("note", file);
        let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, ExitCause::Exited(0), "{report:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "taken");
        wait_until("its lines are there", PATIENCE, || {
            handle.last_lines().unwrap() == ["to its output", "and its errors"]
        });
    }
    cluster.end();
}

/// Would fail if a signal, a latch or a terminate did not reach it, or reached its template.
fn a_worker_of_a_template_hears_what_others_hear() {
    let cluster = cluster("x", Template::new());
    let template = the_template(&cluster);
    let (handle, pid) = cluster.start(&of_template("hold").build().unwrap());
    handle.wait_for_ready_timeout(PATIENCE).unwrap();
    wait_until_asleep(pid);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!((report.cause, report.pid), (ExitCause::Exited(0), Some(pid)));
    // One that was terminated while it waited for its template never starts.
    kill(template, Signal::SIGSTOP);
    let waits = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
    cluster.backend.ping().unwrap();
    waits.terminate().unwrap();
    assert_eq!(stopped(&waits).cause, ExitCause::NotStarted(NotStarted::Terminated));
    kill(template, Signal::SIGCONT);
    assert_eq!(used(&cluster).1, template.get());
    wait_until("what nobody wants is ended", PATIENCE, || sleepers(&cluster).is_empty());
    cluster.end();
}

/// Would fail if it forked, whose child would hang at the first lock that the thread held.
fn a_template_with_a_second_thread_does_not_fork_and_says_so() {
    let cluster = cluster("thread", Template::new());
    for _ in 0..3 {
        assert_eq!(failure(&cluster), "template \"models\": it has 2 threads, and does not fork");
    }
    assert_eq!(sleepers(&cluster), []);
    // Others start, and it may be loaded anew.
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    write_model("single");
    cluster.backend.refork("models").unwrap();
    assert_eq!(used(&cluster).0, "single");
    cluster.end();
}

/// Would fail if there were a gap, or if a worker that starts after the answer had the old model.
fn a_refork_is_ready_before_the_old_one_goes_and_running_workers_stay() {
    let cluster = cluster("old", Template::new().spares(2));
    let old = the_template(&cluster);
    wait_until("two are forked ahead", PATIENCE, || sleepers(&cluster).len() == 2);
    let ahead = sleepers(&cluster);
    let (running, pid) = cluster.start(&of_template("hold").build().unwrap());
    assert!(ahead.contains(&pid), "it starts in one that was forked ahead");
    write_model("new");
    cluster.backend.refork("models").unwrap();
    let (text, new) = used(&cluster);
    assert_eq!(text, "new");
    wait_until("the old one is gone", PATIENCE, || !alive(old));
    assert_eq!(the_template(&cluster).get(), new);
    assert_eq!(running.status(), WorkerStatus::Started(pid), "it stays");
    wait_until("the old ones are gone", PATIENCE, || {
        ahead.iter().all(|&one| one == pid || !alive(one))
    });
    wait_until("two are forked ahead", PATIENCE, || sleepers(&cluster).len() == 2);
    cluster.end();
}

/// Would fail if the one before went first.
fn a_refork_that_fails_leaves_the_one_before() {
    let cluster = cluster("good", Template::new());
    let template = the_template(&cluster);
    assert_eq!(used(&cluster).0, "good");
    for (model, part) in [("no", "there is no model"), ("die", "SIGABRT")] {
        write_model(model);
        match cluster.backend.refork("models") {
            Err(ReforkError::Failed { why }) => {
                assert!(why.contains("\"models\"") && why.contains(part), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(used(&cluster), ("good".to_owned(), template.get()));
    }
    cluster.end();
}

/// Would fail if a worker ended with its template, or if nothing took its place.
fn a_template_that_dies_takes_nobody_with_it() {
    let cluster = cluster("x", Template::new().spares(1));
    let (running, pid) = cluster.start(&of_template("hold").build().unwrap());
    running.wait_for_ready_timeout(PATIENCE).unwrap();
    for _ in 0..3 {
        let template = the_template(&cluster);
        // It is ready: it has forked.
        assert_eq!(used(&cluster).1, template.get());
        kill(template, Signal::SIGKILL);
        let waits: Vec<_> = (0..3)
            .map(|_| cluster.backend.register(&of_template("use").build().unwrap()).unwrap())
            .collect();
        for handle in waits {
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        }
        wait_until("it has a successor", PATIENCE, || {
            templates(&cluster).len() == 1 && templates(&cluster) != [template]
        });
    }
    assert_eq!(running.status(), WorkerStatus::Started(pid));
    running.terminate().unwrap();
    assert_eq!(stopped(&running).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would hang if the postmaster waited for a template that does not answer.
fn a_template_that_stops_is_ended_and_who_waits_starts_from_its_successor() {
    let cluster = cluster("x", Template::new().fork_timeout(Duration::from_millis(300)));
    let template = the_template(&cluster);
    assert_eq!(used(&cluster).1, template.get());
    kill(template, Signal::SIGSTOP);
    let waits = cluster.backend.register(&of_template("use").build().unwrap()).unwrap();
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    let report = stopped(&waits);
    assert_eq!(report.cause, ExitCause::Exited(0));
    assert!(!alive(template));
    assert_ne!(the_template(&cluster), template);
    cluster.end();
}

/// Would fail if anything of a template outlived the postmaster, in order or not.
fn templates_and_what_they_have_forked_end_with_their_postmaster() {
    for killed in [false, true] {
        let cluster = cluster("x", Template::new().spares(2));
        let (running, _) = cluster.start(&of_template("hold").build().unwrap());
        running.wait_for_ready_timeout(PATIENCE).unwrap();
        wait_until("two are forked ahead", PATIENCE, || sleepers(&cluster).len() == 2);
        let all = children(cluster.launched.pid());
        assert!(all.len() >= 4, "{all:?}");
        if killed {
            kill(cluster.launched.pid(), Signal::SIGKILL);
            wait_until("all have ended", PATIENCE, || !all.iter().any(|&pid| alive(pid)));
        } else {
            cluster.end();
            assert!(!all.iter().any(|&pid| alive(pid)));
        }
    }
}

/// Would fail if the memory were copied with the fork, or if the report said so of what is shared.
fn a_report_says_how_much_memory_was_copied_where_that_is_wanted() {
    const MIB: u64 = 64;
    let cluster = cluster_with_memory(MIB as usize);
    let copied = |template: &str, mib: u64| {
        let worker = worker("writes").template(template).main_arg(mib).build().unwrap();
        let report = stopped(&cluster.backend.register(&worker).unwrap());
        assert_eq!(report.cause, ExitCause::Exited(0), "{report:?}");
        report.copied_kib
    };
    let nothing = copied("large", 0).unwrap();
    assert!(nothing < MIB / 4 * 1024, "{nothing} KiB of {MIB} MiB are its own");
    let half = copied("large", MIB / 2).unwrap();
    assert!((MIB / 2 * 1024..MIB / 4 * 3 * 1024).contains(&half), "{half} KiB");
    assert_eq!(copied("plain", 0), None, "it is not measured");
    cluster.end();
}

/// The load, which is the program's code, finds the socket to the postmaster and misuses it. Would
/// fail if the postmaster believed it, hung, used its processor for ever, or ended a stranger.
fn a_template_that_lies_is_ended_and_harms_nobody() {
    for lie in ["loaded twice", "forked what was not asked for", "nonsense", "closes"] {
        let cluster = cluster(&format!("lie {lie}"), lazily());
        let bystander = cluster.backend.register(&simple("sleep")).unwrap();
        bystander.wait_for_startup_timeout(PATIENCE).unwrap();
        let why = failure(&cluster);
        assert!(why.starts_with("template \"models\": "), "{lie}: {why}");
        write_model("honest");
        cluster.backend.refork("models").unwrap();
        assert_eq!(used(&cluster).0, "honest", "{lie}");
        assert!(matches!(bystander.status(), WorkerStatus::Started(_)), "{lie}");
        cluster.end();
    }
}
