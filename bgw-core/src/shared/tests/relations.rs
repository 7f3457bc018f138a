//! Every refusal of what a description says about other workers, from the builder and from a slot.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::shared::relations_record::RelationsRecord;
use crate::worker::BackgroundWorker;
use crate::worker::WorkerFlags;
use crate::worker::builder::BackgroundWorkerBuilder;
use crate::worker::invalid::InvalidWorker;
use crate::worker::policy::{Ready, RestartPolicy};
use crate::worker::relations::{After, Relations};
use std::time::Duration;

type Build = fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder;

fn base() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").function("f")
}

fn after(names: &[&str]) -> Relations {
    let after = names.iter().map(|&name| (name.to_owned(), After::Started)).collect();
    Relations { after, ..Relations::default() }
}

fn in_group(name: &str) -> Relations {
    Relations { group: Some(name.to_owned()), ..Relations::default() }
}

fn from(name: &str) -> Relations {
    Relations { template: Some(name.to_owned()), ..Relations::default() }
}

/// What a slot decodes to that says `relations`, and else what `build` says.
fn from_slot(build: Build, relations: &Relations) -> Result<BackgroundWorker, CorruptRecord> {
    let mut record = WorkerRecord::encode(&build(base()).build().unwrap(), Pid::this());
    let (numbers, names) = RelationsRecord::encode(relations);
    record.relations = numbers;
    record.put_names(&names);
    record.decode()
}

/// Field, facts that the message tells, relations, and what else the description says.
fn refusals() -> Vec<(&'static str, &'static [&'static str], Relations, Build)> {
    let long = "x".repeat(96);
    let restarts: Build =
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(7, Duration::from_secs(60));
    vec![
        ("after", &["9 workers", "limit is 8"], after(&["a"; 9]), |b| b),
        ("after", &["empty"], after(&["a", ""]), |b| b),
        ("after", &["96", "95"], after(&[&long]), |b| b),
        ("after", &["control character"], after(&["a\u{9b}"]), |b| b),
        ("after", &["\"name\"", "its own name"], after(&["a", "name"]), |b| b),
        ("group", &["empty"], in_group(""), |b| b),
        ("group", &["32", "31"], in_group(&long[..32]), |b| b),
        ("group", &["control character"], in_group("a\nb"), |b| b),
        ("group", &["\"g\"", "CLASS_PARALLEL"], in_group("g"), |b| {
            b.flags(WorkerFlags::CLASS_PARALLEL)
        }),
        ("give_up", &["7 restarts in 60s", "no group"], in_group("g"), restarts),
        ("start_attempts", &["3", "no group"], in_group("g"), |b| {
            b.ready(Ready::Call).start_attempts(3)
        }),
        ("template", &["empty"], from(""), |b| b),
        ("template", &["32", "31"], from(&long[..32]), |b| b),
        ("template", &["control character"], from("a\nb"), |b| b),
        ("template", &["\"t\"", "a function"], from("t"), |b| b.command("date", [""; 0])),
        ("template", &["\"t\"", "a function"], from("t"), |b| b.library("lib.so", "f")),
        (
            "after, group and template, with command or library,",
            &["1025", "1024"],
            after(&["abc"]),
            |b| b.command("x".repeat(1020), [""; 0]),
        ),
    ]
}

#[test]
fn each_relation_is_refused_alike_by_the_builder_and_from_a_slot() {
    for (field, facts, relations, build) in refusals() {
        let mut builder = build(base());
        if let Some(group) = &relations.group {
            builder = builder.group(group);
        }
        if let Some(template) = &relations.template {
            builder = builder.template(template);
        }
        for (name, condition) in &relations.after {
            builder = builder.after(name, *condition);
        }
        let error = builder.build().unwrap_err();
        assert_eq!(error.field(), field);
        for fact in facts {
            assert!(error.to_string().contains(fact), "{fact:?} is missing: {error}");
        }
        let from_slot = from_slot(build, &relations);
        if field.starts_with("after, group") {
            // So long a text does not fit into a slot in the first place.
            assert!(from_slot.is_err());
        } else {
            assert_eq!(from_slot, Err(CorruptRecord::Invalid(error)), "{field}");
        }
    }
}

#[test]
fn a_number_of_a_slot_that_means_nothing_is_named_with_its_field() {
    type Spoil = fn(&mut RelationsRecord, &mut Vec<u8>);
    let spoilt = |spoil: Spoil| {
        let relations = Relations { group: Some("g".to_owned()), ..after(&["a"]) };
        let (mut numbers, mut names) = RelationsRecord::encode(&relations);
        spoil(&mut numbers, &mut names);
        let mut record = WorkerRecord::encode(&base().build().unwrap(), Pid::this());
        record.relations = numbers;
        record.put_names(&names);
        record.decode().unwrap_err()
    };
    let number = |field, found| CorruptRecord::Number { field, found };
    let text = |field| CorruptRecord::Text { field };
    // The names are "g\0", "\x01a\0".
    assert_eq!(spoilt(|r, _| r.bits = 31), number("relation bits", 31));
    assert_eq!(spoilt(|r, _| r.names_len = 1025), number("names_len", 1025));
    assert_eq!(spoilt(|r, _| r.names_len = 6), number("names_len", 6));
    assert_eq!(spoilt(|r, _| r.names_len = 4), text("after"));
    assert_eq!(spoilt(|r, _| r.names_len = 0), text("group"));
    assert_eq!(spoilt(|r, _| r.after = 2), text("after"));
    assert_eq!(spoilt(|r, _| r.after = 0), number("names_len", 5));
    assert_eq!(spoilt(|_, names| names[2] = 4), number("after", 4));
    assert_eq!(spoilt(|_, names| names[2] = 0), number("after", 0));
    assert_eq!(spoilt(|_, names| names[3] = 0xff), text("after"));
    assert_eq!(spoilt(|_, names| names[0] = 0xff), text("group"));
}

#[test]
fn what_is_just_inside_the_limits_is_taken_and_comes_back_from_a_slot() {
    let good: &[Build] = &[
        |b| b,
        |b| b.unique(),
        |b| b.group("g".repeat(31)).unique().after("a", After::Done),
        |b| (0..8).fold(b, |b, n| b.after(n.to_string().repeat(95), After::Ready)).group("g"),
        |b| b.command("x".repeat(1018), [""; 0]).after("abcd", After::Started),
        |b| b.library("x".repeat(1021), "f").group("gg"),
        |b| b.command("x", ["", "y", ""]).group("g").after("abcd", After::Started),
        |b| b.template("t".repeat(31)),
        |b| b.template("t").group("g").class("c").unique().after("a", After::Done),
    ];
    for (row, build) in good.iter().enumerate() {
        let worker = build(base()).build().unwrap();
        let back = WorkerRecord::encode(&worker, Pid::this()).decode();
        assert_eq!(back.as_ref(), Ok(&worker), "row {row}");
    }
    let worker = good[3](base()).build().unwrap();
    assert_eq!((worker.after().count(), worker.group(), worker.is_unique()), (8, Some("g"), false));
    let whole = base().command("x".repeat(1023), [""; 0]).build().unwrap();
    assert_eq!(WorkerRecord::encode(&whole, Pid::this()).decode(), Ok(whole));
    assert!(matches!(
        base().command("x".repeat(1023), [""; 0]).group("g").build(),
        Err(InvalidWorker::TooLong { len: 1025, .. })
    ));
}
