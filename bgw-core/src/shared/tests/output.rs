//! What a record says about output: it comes back, and what no builder writes is refused by name.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::shared::output_record::OutputRecord;
use crate::worker::BackgroundWorker;
use crate::worker::output::{Output, OutputDescriptor, OutputFile};

fn encoded(output: &Output) -> WorkerRecord {
    let worker = BackgroundWorker::builder("name").function("f").output(output.clone());
    WorkerRecord::encode(&worker.build().unwrap(), Pid::this())
}

#[test]
fn each_output_comes_back() {
    let descriptor = || OutputDescriptor::new("pipe");
    let file = || OutputFile::new("lines");
    let all = [
        Output::Inherit,
        Output::Null,
        descriptor().into(),
        descriptor().drop_when_full().into(),
        file().into(),
        file().errors_apart().into(),
        file().rotate(1 << 20, 3).into(),
        file().rotate(1 << 20, 3).errors_apart().into(),
    ];
    for output in all {
        assert_eq!(*encoded(&output).decode().unwrap().output(), output);
    }
}

#[test]
fn a_number_that_no_builder_writes_is_refused_by_name() {
    type Place = fn(&mut OutputRecord) -> &mut u8;
    let table: [(&str, Output, Place, u8); 3] = [
        ("output", Output::Null, |output| &mut output.kind, 4),
        ("errors_apart", OutputFile::new("lines").into(), |output| &mut output.errors_apart, 1),
        (
            "drops_when_full",
            OutputDescriptor::new("pipe").into(),
            |output| &mut output.drops_when_full,
            1,
        ),
    ];
    for (field, output, place, most) in table {
        for found in most + 1..=u8::MAX {
            let mut record = encoded(&output);
            *place(&mut record.output) = found;
            let refused = CorruptRecord::Number { field, found: found.into() };
            assert_eq!(record.decode(), Err(refused));
        }
    }
}
