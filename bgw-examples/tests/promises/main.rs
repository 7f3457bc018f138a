//! What postmaster, backends and workers promise together: one module a promise.
//!
//! One program, so that the crates are linked once; each test runs in a process of its own all the
//! same. `cargo test -p bgw-examples --test promises waits::` runs one module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attached;
mod attached_reload;
mod cached_segments;
mod calls;
mod cancel;
mod change_fd;
mod child;
mod child_barrier;
mod churn;
mod commands;
mod database;
mod descriptors;
mod direct_start_cells;
mod direct_start_shared;
mod direct_starts;
mod ends;
mod errors_apart;
mod events;
mod examples;
mod futures;
mod gifts;
mod given_streams;
mod groups;
mod guardian;
mod handles;
mod heartbeat;
mod hostile_peers;
mod large_calls;
mod last_lines;
mod latch;
mod lateness;
mod leader;
mod libraries;
mod lines;
mod lives;
mod log;
mod metrics;
mod newline;
mod notify;
mod notify_sockets;
mod observers;
mod orphans;
mod outcomes;
mod output;
mod output_deleted;
mod output_descriptors;
mod overlap;
mod overlap_metrics;
mod overlap_rolls;
mod parallel;
mod peers;
mod policies;
mod pool_deaths;
mod pool_map;
mod pools;
mod postmaster_death;
mod privileges;
mod queue_crowds;
mod queue_futures;
mod recycling;
mod register;
mod relations;
mod reports;
mod reserve;
mod reset;
mod restart;
mod results;
mod reuse;
mod ring;
mod rolling;
mod runtimes;
mod segment_layouts;
mod segments;
mod shutdown;
mod shutdown_order;
mod signals;
mod spares;
mod start_failures;
mod stopping;
mod streams;
mod submitters;
mod supervision;
mod surroundings;
mod templates;
mod terminate;
mod tickets;
mod traced;
mod views;
mod waits;
mod worker_spi;

#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("notify-client") {
        return notify_sockets::client(std::env::args().skip(2));
    }
    if std::env::args().nth(1).as_deref() == Some("attached-client") {
        return attached::client(std::env::args().nth(2).as_deref().unwrap_or_default());
    }
    let tests = [
        attached::tests(),
        attached_reload::tests(),
        calls::tests(),
        cancel::tests(),
        change_fd::tests(),
        child::tests(),
        child_barrier::tests(),
        churn::tests(),
        commands::tests(),
        database::tests(),
        ends::tests(),
        errors_apart::tests(),
        descriptors::tests(),
        events::tests(),
        examples::tests(),
        futures::tests(),
        gifts::tests(),
        given_streams::tests(),
        groups::tests(),
        guardian::tests(),
        handles::tests(),
        direct_starts::tests(),
        direct_start_cells::tests(),
        direct_start_shared::tests(),
        heartbeat::tests(),
        hostile_peers::tests(),
        cached_segments::tests(),
        large_calls::tests(),
        last_lines::tests(),
        latch::tests(),
        lateness::tests(),
        leader::tests(),
        libraries::tests(),
        lives::tests(),
        lines::tests(),
        log::tests(),
        metrics::tests(),
        signals::tests(),
        newline::tests(),
        notify::tests(),
        notify_sockets::tests(),
        observers::tests(),
        orphans::tests(),
        outcomes::tests(),
        output::tests(),
        output_deleted::tests(),
        output_descriptors::tests(),
        overlap::tests(),
        overlap_metrics::tests(),
        overlap_rolls::tests(),
        parallel::tests(),
        peers::tests(),
        policies::tests(),
        pool_deaths::tests(),
        pool_map::tests(),
        pools::tests(),
        postmaster_death::tests(),
        privileges::tests(),
        queue_crowds::tests(),
        queue_futures::tests(),
        recycling::tests(),
        register::tests(),
        relations::tests(),
        reports::tests(),
        reserve::tests(),
        reset::tests(),
        restart::tests(),
        results::tests(),
        reuse::tests(),
        ring::tests(),
        rolling::tests(),
        runtimes::tests(),
        segment_layouts::tests(),
        segments::tests(),
        shutdown::tests(),
        shutdown_order::tests(),
        spares::tests(),
        start_failures::tests(),
        stopping::tests(),
        streams::tests(),
        submitters::tests(),
        supervision::tests(),
        surroundings::tests(),
        templates::tests(),
        terminate::tests(),
        tickets::tests(),
        traced::tests(),
        views::tests(),
        waits::tests(),
        worker_spi::tests(),
    ];
    process_test::main(tests.concat())
}
