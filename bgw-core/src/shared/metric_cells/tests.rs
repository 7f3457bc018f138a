//! Values, floors and definitions, also overwritten ones.

use super::*;
use std::collections::{HashMap, HashSet};

fn cells(reserved: &[(&str, u32)]) -> PostmasterCells {
    let reserved = reserved.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    let metrics = vec![
        Metric::new("done", "Jobs — done", MetricKind::Counter),
        Metric::new("open", "", MetricKind::Gauge),
    ];
    PostmasterCells::create_for(SlotClasses::new(4, 2, reserved), metrics, 1).unwrap()
}

fn end(cells: &PostmasterCells, kept: &mut HashMap<usize, u64>, slot: u32) {
    end_in(cells, kept, slot, slot);
}

fn end_in(cells: &PostmasterCells, kept: &mut HashMap<usize, u64>, slot: u32, berth: u32) {
    cells.end_metrics(slot, berth, |place, next| {
        let value = kept.entry(place).or_default();
        *value = next(*value);
        *value
    });
}

fn put(cells: &PostmasterCells, place: Option<u32>, value: u64) {
    writable(cells.slots(), place.unwrap()).unwrap().store(value, Ordering::Relaxed);
}

#[test]
fn definitions_come_back_and_one_that_is_overwritten_is_none() {
    let cells = cells(&[]);
    let found = cells.cluster().metrics();
    let found: Vec<&Metric> = found.iter().flatten().collect();
    assert_eq!(found, cells.metrics().iter().collect::<Vec<_>>());
    for (cell, value) in [(0, 7), (1, 0), (1, u64::MAX), (9, u64::MAX)] {
        put(&cells, Some(MetricPlan::definition(0) + cell), value);
        assert_eq!(cells.cluster().metrics().first(), Some(&None), "{cell} {value}");
        assert!(cells.cluster().metrics()[1].is_some());
        cells.restore();
        assert!(cells.cluster().metrics()[0].is_some());
    }
    put(&cells, Some(METRICS), u64::MAX);
    assert_eq!(cells.cluster().metrics().len(), 64, "of which most are none");
    assert!(!cells.are_intact());
    cells.restore();
    assert!(cells.are_intact());
    assert_eq!(cells.cluster().metrics().len(), 2);
}

#[test]
fn each_value_has_a_cell_of_its_own_and_no_two_slots_share_a_line() {
    let cells = cells(&[("a", 1), ("b", 1)]);
    let plan = cells.cluster().metric_plan();
    assert_eq!((plan.metrics(), plan.banks(), plan.stride()), (2, 3, 8));
    let mut all = HashSet::new();
    for slot in 0..6 {
        for (bank, metric) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
            let value = plan.value(slot, bank, metric).unwrap();
            assert_eq!((value - plan.values()) / LINE, slot);
            assert!(value >= MetricPlan::definition(2) && value < plan.all().unwrap());
            assert!(all.insert(value) && all.insert(plan.floor(slot, bank, metric).unwrap()));
        }
    }
    assert!(all.iter().all(|&cell| writable(cells.slots(), cell).is_some()));
    for (bank, metric) in [(0, 1), (2, 1)] {
        assert!(all.insert(plan.value(6, bank, metric).unwrap()), "gauges of the spare berth");
        assert_eq!(plan.floor(6, bank, metric), None);
    }
    for (row, bank, metric) in [(7, 0, 0), (0, 3, 0), (0, 0, 2)] {
        assert_eq!(plan.value(row, bank, metric), None);
    }
    assert_eq!(MetricPlan { berths: 1 << 29, ..plan }.all(), None, "too many");
}

/// Breaks if what ended runs have counted can be taken back, or counts twice.
#[test]
fn an_overwritten_value_takes_nothing_from_what_ended_runs_have_counted() {
    let (cells, mut kept) = (cells(&[]), HashMap::new());
    let plan = cells.cluster().metric_plan();
    let counter = |slot| cells.cluster().counter(plan, slot, 0, 0);
    let value = plan.value(1, 0, 0);
    for (found, counts_for, after_the_end) in [
        (5, 5, 5),
        (5, 5, 5),
        (2, 5, 5),
        (0, 5, 5),
        (9, 9, 9),
        (u64::MAX, COUNTER_LIMIT, COUNTER_LIMIT),
        (3, COUNTER_LIMIT, COUNTER_LIMIT),
    ] {
        put(&cells, value, found);
        assert_eq!(counter(1), counts_for, "{found}");
        end(&cells, &mut kept, 1);
        assert_eq!(counter(1), after_the_end, "{found}");
        let now = cells.slots().shared_cell(value.unwrap()).unwrap().load();
        assert_eq!(now, after_the_end, "the next run counts on from there");
        assert_eq!(counter(0), 0);
    }
    put(&cells, plan.floor(1, 0, 0), 0);
    put(&cells, value, 0);
    end(&cells, &mut kept, 1);
    assert_eq!(counter(1), COUNTER_LIMIT, "the postmaster goes by its own memory");
}

#[test]
fn what_ended_runs_have_counted_is_written_again_and_nothing_is_taken_from_living_ones() {
    for (kept, value, floor, expected) in [
        (0, 0, 0, (None, None)),
        (5, 5, 5, (None, None)),
        (5, 9, 5, (None, None)),
        (5, 4, 5, (Some(5), None)),
        (5, 0, 0, (Some(5), Some(5))),
        (5, 5, 6, (None, Some(5))),
        (5, u64::MAX, u64::MAX, (None, Some(5))),
        (0, 3, 7, (None, Some(0))),
    ] {
        assert_eq!(restored(kept, value, floor), expected, "{kept} {value} {floor}");
    }
    let (cells, mut kept) = (cells(&[("a", 1)]), HashMap::new());
    let plan = cells.cluster().metric_plan();
    let all = [(0, 0, 7), (1, 1, 8), (5, 0, 9)];
    for (slot, bank, value) in all {
        put(&cells, plan.value(slot, bank, 0), value);
        end(&cells, &mut kept, slot);
    }
    let said = || all.map(|(slot, bank, _)| cells.cluster().counter(plan, slot, bank, 0));
    for (slot, bank, _) in all {
        put(&cells, plan.value(slot, bank, 0), 0);
        put(&cells, plan.floor(slot, bank, 0), 0);
    }
    put(&cells, plan.value(2, 0, 0), 3);
    assert_eq!(said(), [0; 3]);
    cells.restore_counters(|place| kept.get(&place).copied().unwrap_or(0));
    assert_eq!(said(), all.map(|(_, _, value)| value));
    assert_eq!(cells.cluster().counter(plan, 2, 0, 0), 3, "of a living run");
}

#[test]
fn a_counter_stays_at_its_limit() {
    let cell = AtomicU64::new(0);
    for (before, by, after) in [
        (0, 1, 1),
        (COUNTER_LIMIT - 1, 1, COUNTER_LIMIT),
        (COUNTER_LIMIT, 1, COUNTER_LIMIT),
        (7, u64::MAX, COUNTER_LIMIT),
        (u64::MAX, 1, COUNTER_LIMIT),
        (u64::MAX, 0, COUNTER_LIMIT),
    ] {
        cell.store(before, Ordering::Relaxed);
        add_to_counter(&cell, by);
        assert_eq!(cell.load(Ordering::Relaxed), after, "{before} + {by}");
    }
}

#[test]
fn a_gauge_is_gone_with_its_run() {
    let (cells, mut kept) = (cells(&[("a", 1)]), HashMap::new());
    let plan = cells.cluster().metric_plan();
    put(&cells, plan.value(2, 1, 1), -4i64 as u64);
    assert_eq!(cells.cluster().gauge(plan, 2, 1, 1), -4);
    end(&cells, &mut kept, 2);
    assert_eq!(cells.cluster().gauge(plan, 2, 1, 1), 0);
}

/// Breaks if the end of one process of a worker touched the gauge of the other one.
#[test]
fn a_gauge_is_that_of_one_process_and_a_counter_that_of_all() {
    let (cells, mut kept) = (cells(&[]), HashMap::new());
    let plan = cells.cluster().metric_plan();
    let said = |berth| cells.cluster().gauge(plan, berth, 0, 1);
    put(&cells, plan.value(2, 0, 1), 5);
    put(&cells, plan.value(6, 0, 1), 7);
    put(&cells, plan.value(2, 0, 0), 9);
    end_in(&cells, &mut kept, 2, 6);
    assert_eq!((said(2), said(6)), (5, 0));
    assert_eq!(cells.cluster().counter(plan, 2, 0, 0), 9);
    put(&cells, plan.value(2, 0, 0), 0);
    assert_eq!(cells.cluster().counter(plan, 2, 0, 0), 9, "what an ended process has counted");
    put(&cells, plan.value(6, 0, 1), 7);
    end_in(&cells, &mut kept, 2, 2);
    assert_eq!((said(2), said(6)), (0, 7));
}
