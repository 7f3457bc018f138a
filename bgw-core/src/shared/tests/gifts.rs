//! Every refusal of what a description says of descriptors, from the builder and from a slot.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::shared::gift_record::GiftRecord;
use crate::worker::BackgroundWorker;
use crate::worker::builder::BackgroundWorkerBuilder;
use crate::worker::gift::Gift;
use crate::worker::output::Output;
use crate::worker::policy::Ready;
use crate::worker::relations::After;
use crate::worker::surroundings::{Input, Surroundings};
use std::os::fd::OwnedFd;

fn function() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").function("f")
}

fn command() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").command("f", [""; 0])
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn gift(name: &str, number: Option<u8>) -> Gift {
    Gift { name: name.to_owned(), number, descriptor: None }
}

fn given(builder: BackgroundWorkerBuilder, gifts: &[Gift]) -> BackgroundWorkerBuilder {
    gifts.iter().fold(builder, |builder, gift| match gift.number {
        None => builder.give(&*gift.name, null()),
        Some(number) => builder.give_at(number, &*gift.name, null()),
    })
}

fn from_slot(worker: &BackgroundWorker, gifts: &[Gift]) -> Result<BackgroundWorker, CorruptRecord> {
    let mut record = WorkerRecord::encode(worker, Pid::this());
    let (numbers, names) = GiftRecord::encode(gifts);
    record.gifts = numbers;
    record.put_names(&names);
    record.decode()
}

#[test]
fn each_gift_is_refused_alike_by_the_builder_and_from_a_slot() {
    let long = "x".repeat(32);
    let many: Vec<Gift> = (0..17).map(|at| gift(&at.to_string(), None)).collect();
    type Row<'a> = (fn() -> BackgroundWorkerBuilder, &'a [&'a str], &'a [Gift]);
    let rows: [Row<'_>; 12] = [
        (function, &["17 descriptors", "16"], &many),
        (function, &["empty"], &[gift("a", None), gift("", None)]),
        (function, &["32", "31"], &[gift(&long, None)]),
        (function, &["control character"], &[gift("a\nb", None)]),
        (function, &["\"a:b\"", "colon"], &[gift("a:b", None)]),
        (function, &["\"a\"", "another name"], &[gift("a", None), gift("a", None)]),
        (function, &["\"a\" at 3", "a command"], &[gift("a", Some(3))]),
        (command, &["\"a\" at 64", "0 to 63"], &[gift("a", Some(64))]),
        (|| command().stdin(Input::Null), &["\"a\" at 0", "stdin has it"], &[gift("a", Some(0))]),
        (|| command().output(Output::Null), &["\"a\" at 2", "output"], &[gift("a", Some(2))]),
        (command, &["\"b\" at 9", "another number"], &[gift("a", Some(9)), gift("b", Some(9))]),
        (|| command().ready(Ready::Newline(9)), &["\"a\" at 9", "ready"], &[gift("a", Some(9))]),
    ];
    for (base, facts, gifts) in rows {
        let error = given(base(), gifts).build().unwrap_err();
        assert_eq!(error.field(), "give");
        for fact in facts {
            assert!(error.to_string().contains(fact), "{fact:?} is missing: {error}");
        }
        let worker = base().build().unwrap();
        // The entry point of a command is text, too, and lies before the names.
        if matches!(worker.entry(), crate::worker::EntryPoint::Function(_)) {
            assert_eq!(from_slot(&worker, gifts), Err(CorruptRecord::Invalid(error)));
        }
    }
    let error = given(command(), &[gift("a", Some(64))]).build().unwrap_err();
    assert!(error.to_string().contains("at 64"), "{error}");
    let full = given(
        BackgroundWorker::builder("n").command("x".repeat(1020), [""; 0]),
        &[gift("abc", None)],
    );
    let text = full.build().unwrap_err().to_string();
    assert!(text.contains("give") && text.contains("1025") && text.contains("1024"), "{text}");
}

/// The postmaster gets surroundings apart from the slot.
#[test]
fn surroundings_from_elsewhere_have_no_number_that_is_given() {
    let mut worker = given(command(), &[gift("a", Some(0))]).build().unwrap();
    let surroundings = Surroundings { input: Input::Null, ..Surroundings::default() };
    let error = worker.set_surroundings(surroundings).unwrap_err();
    assert!(error.to_string().contains("stdin has it"), "{error}");
    let mut worker = given(command(), &[gift("a", Some(1))]).build().unwrap();
    let surroundings = Surroundings { input: Input::Null, ..Surroundings::default() };
    worker.set_surroundings(surroundings).unwrap();
}

#[test]
fn what_is_just_inside_the_limits_comes_back_from_a_slot() {
    let names: Vec<Gift> =
        (0..16).map(|at| gift(&format!("{at:031}"), (at % 2 == 0).then_some(63 - at))).collect();
    let workers = [
        given(function(), &[gift("a", None)]),
        given(command(), &[0, 1, 2].map(|at| gift(&format!("{at}"), Some(at)))),
        given(command().output(Output::Null), &[gift("a", Some(0))]),
        given(command(), &names).group("g").after("other", After::Done),
        given(BackgroundWorker::builder("n").library("/l", "f"), &names[..0]),
        given(
            BackgroundWorker::builder("n").command("x".repeat(1020), [""; 0]),
            &[gift("a", None)],
        ),
    ];
    for worker in workers {
        let worker = worker.build().unwrap();
        let back = WorkerRecord::encode(&worker, Pid::this()).decode().unwrap();
        assert_eq!(back, worker);
        assert!(back.gifts().iter().all(|gift| gift.descriptor.is_none()));
    }
}

#[test]
fn a_number_of_a_slot_that_means_nothing_is_named_with_its_field() {
    type Spoil = fn(&mut GiftRecord, &mut Vec<u8>);
    let spoilt = |spoil: Spoil| {
        let (mut numbers, mut names) = GiftRecord::encode(&[gift("a", None), gift("b", None)]);
        spoil(&mut numbers, &mut names);
        let mut record = WorkerRecord::encode(&function().build().unwrap(), Pid::this());
        record.gifts = numbers;
        record.put_names(&names);
        record.decode().unwrap_err()
    };
    let number = |found| CorruptRecord::Number { field: "gifts_len", found };
    // The names are "\0a\0", "\0b\0".
    assert_eq!(spoilt(|r, _| r.count = 3), number(6));
    assert_eq!(spoilt(|r, _| r.count = 1), number(6));
    assert_eq!(spoilt(|r, _| r.count = 255), number(6));
    assert_eq!(spoilt(|r, _| r.names_len = 5), number(5));
    assert_eq!(spoilt(|r, _| r.names_len = 1), number(1));
    assert_eq!(spoilt(|r, _| r.names_len = 1025), number(1025));
    assert_eq!(spoilt(|_, n| n[1] = 0xff), CorruptRecord::Text { field: "give" });
}

#[test]
fn a_gift_without_a_number_has_the_lowest_that_is_free() {
    let of = |ready: Option<Ready>, asked: &[Option<u8>]| {
        let gifts: Vec<Gift> =
            asked.iter().zip(0..).map(|(&number, at)| gift(&format!("{at}"), number)).collect();
        let command = ready.into_iter().fold(command(), BackgroundWorkerBuilder::ready);
        given(command, &gifts).build().unwrap().gift_numbers()
    };
    assert!(of(None, &[]).is_empty());
    assert_eq!(of(None, &[None, None, None]), [3, 4, 5]);
    assert_eq!(of(None, &[Some(4), None, None, Some(9), None]), [4, 3, 5, 9, 6]);
    assert_eq!(of(None, &[Some(1), None, Some(0), None]), [1, 3, 0, 4]);
    assert_eq!(of(Some(Ready::Newline(3)), &[None, Some(5), None]), [4, 5, 6]);
    let most: Vec<Option<u8>> = (3..18).map(Some).chain([None]).collect();
    assert_eq!(of(None, &most).last(), Some(&18));
}
