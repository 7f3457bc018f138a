//! Every refusal of what a description says about recycling, from the builder and from a slot.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::shared::recycle_record::RecycleRecord;
use crate::worker::BackgroundWorker;
use crate::worker::builder::BackgroundWorkerBuilder;
use crate::worker::policy::{Ready, RestartPolicy};
use crate::worker::recycle::Recycle;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const AGAIN: RestartPolicy = RestartPolicy::after_secs(1);
const MIB: u64 = 1 << 20;

fn base() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").function("f")
}

fn from_slot(
    builder: BackgroundWorkerBuilder,
    spoil: impl Fn(&mut RecycleRecord),
) -> Result<BackgroundWorker, CorruptRecord> {
    let mut record = WorkerRecord::encode(&builder.build().unwrap(), Pid::this());
    spoil(&mut record.recycle);
    record.decode()
}

#[test]
fn each_refusal_names_field_value_and_limit_from_the_builder_and_from_a_slot() {
    type Spoil = fn(&mut RecycleRecord);
    let good = Recycle::new().jobs(1).lifetime(30 * DAY).rss(MIB).jitter(0.5);
    let again = || base().restart(AGAIN);
    let command = |b: BackgroundWorkerBuilder| b.command("true", [""; 0]);
    let table: [(&[&str], _, _, Spoil); 9] = [
        (
            &["an rss of 1048575 bytes", "1 MiB up"],
            again().recycle(Recycle::new().rss(MIB - 1)),
            again().recycle(Recycle::new().rss(MIB)),
            |r| r.rss -= 1,
        ),
        (
            &["999ms", "1s to 30 days"],
            again().recycle(Recycle::new().lifetime(Duration::from_millis(999))),
            again().recycle(Recycle::new().lifetime(Duration::from_secs(1))),
            |r| r.lifetime_millis -= 1,
        ),
        (
            &["2592000.001s", "1s to 30 days"],
            again().recycle(good.lifetime(30 * DAY + Duration::from_millis(1))),
            again().recycle(good),
            |r| r.lifetime_millis += 1,
        ),
        (
            &["a jitter of 0.501", "0 to 0.5"],
            again().recycle(good.jitter(0.501)),
            again().recycle(good),
            |r| r.jitter += 1,
        ),
        (&["7 jobs", "Never"], base().recycle(Recycle::new().jobs(7)), base(), |r| {
            (r.jobs, r.jitter) = (7, 100);
        }),
        (
            &["a lifetime of 60s, an rss of 1048576 bytes", "Never"],
            base().recycle(Recycle::new().rss(MIB).lifetime(Duration::from_secs(60))),
            base(),
            |r| (r.rss, r.lifetime_millis, r.jitter) = (MIB, 60_000, 100),
        ),
        (
            &["7 jobs", "command"],
            command(again()).recycle(Recycle::new().jobs(7)),
            command(again()),
            |r| (r.jobs, r.jitter) = (7, 100),
        ),
        (
            &["a jitter of 65.535", "0 to 0.5"],
            again().recycle(Recycle::new().jitter(65.535)),
            again(),
            |r| r.jitter = u16::MAX,
        ),
        (
            &["an overlap", "declares that it says ready"],
            again().recycle(Recycle::new().jobs(7).overlap()),
            again().recycle(Recycle::new().jobs(7)),
            |r| r.overlap = u16::MAX,
        ),
    ];
    for (facts, bad, good, spoil) in table {
        let error = bad.build().unwrap_err();
        assert_eq!(error.field(), "recycle", "{error}");
        let text = error.to_string();
        for fact in ["recycle"].iter().chain(facts) {
            assert!(text.contains(fact), "\"{text}\" does not tell {fact}");
        }
        assert_eq!(from_slot(good, spoil), Err(CorruptRecord::Invalid(error)), "{facts:?}");
    }
    // What no number of a slot can hold.
    for bad in [Recycle::new().jobs(0), Recycle::new().jobs(1).jitter(f64::NAN)] {
        assert_eq!(again().recycle(bad).build().unwrap_err().field(), "recycle");
    }
}

#[test]
fn what_is_just_inside_the_limits_is_taken_and_comes_back_from_a_slot() {
    let all = Recycle::new().jobs(u32::MAX).lifetime(30 * DAY).rss(u64::MAX).jitter(0.5);
    let command = || base().restart(AGAIN).command("true", [""; 0]);
    let table = [
        (base().restart(AGAIN).recycle(all), Some(all)),
        (base().restart(AGAIN).recycle(all.jitter(0.0)), Some(all.jitter(0.0))),
        (
            base().restart(AGAIN).recycle(Recycle::new().jobs(1)),
            Some(Recycle::new().jobs(1).jitter(0.1)),
        ),
        (command().recycle(Recycle::new().rss(MIB)), Some(Recycle::new().rss(MIB))),
        (base().restart(AGAIN).ready(Ready::Call).recycle(all.overlap()), Some(all.overlap())),
        // Without a limit it is never recycled, whatever else it says.
        (base().restart(AGAIN).recycle(Recycle::new().jitter(0.3)), None),
        (base().recycle(Recycle::new()), None),
        (base().recycle(Recycle::new().overlap()), None),
        (base(), None),
    ];
    for (builder, recycle) in table {
        let worker = builder.clone().build().unwrap();
        assert_eq!(worker.recycle(), recycle);
        assert_eq!(from_slot(builder, |_| {}), Ok(worker));
    }
}
