//! Which types differ, and which do not.
#![allow(dead_code, reason = "types that are only asked what they are made of")]

use super::*;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;

fn of<T: DeserializeOwned>() -> u64 {
    let mut hash = Hash::new();
    assert_eq!(add::<T>(&mut hash), Ok(()));
    hash.value()
}

mod first {
    use super::Deserialize;

    #[derive(Deserialize)]
    pub(super) struct Job {
        _width: u32,
        _title: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) enum Shape {
        _Dot,
        _Line(f32),
        _Box { _width: f32, _height: f32 },
    }
}

/// Another program's copies of the same types.
mod second {
    use super::Deserialize;

    #[derive(Deserialize)]
    pub(super) struct Job {
        _width: u32,
        _title: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) enum Shape {
        _Dot,
        _Line(f32),
        _Box { _width: f32, _height: f32 },
    }
}

/// Each differs in one thing from one of those.
mod other {
    use super::Deserialize;

    pub(super) mod wider {
        #[derive(super::Deserialize)]
        pub(in super::super) struct Job {
            _width: u64,
            _title: Option<String>,
        }
    }

    pub(super) mod renamed {
        #[derive(super::Deserialize)]
        pub(in super::super) struct Job {
            _breadth: u32,
            _title: Option<String>,
        }
    }

    pub(super) mod longer {
        #[derive(super::Deserialize)]
        pub(in super::super) struct Job {
            _width: u32,
            _title: Option<String>,
            _more: (),
        }
    }

    pub(super) mod taller {
        #[derive(super::Deserialize)]
        pub(in super::super) enum Shape {
            _Dot,
            _Line(f32),
            _Box { _width: f32, _height: f64 },
        }
    }

    pub(super) mod swapped {
        #[derive(super::Deserialize)]
        pub(in super::super) enum Shape {
            _Line(f32),
            _Dot,
            _Box { _width: f32, _height: f32 },
        }
    }
}

#[test]
fn copies_of_a_type_are_alike_and_any_change_of_it_shows() {
    assert_eq!(of::<first::Job>(), of::<second::Job>());
    assert_eq!(of::<first::Shape>(), of::<second::Shape>());
    assert_eq!(of::<Vec<first::Shape>>(), of::<Vec<second::Shape>>());
    let all = [
        of::<first::Job>(),
        of::<first::Shape>(),
        of::<other::wider::Job>(),
        of::<other::renamed::Job>(),
        of::<other::longer::Job>(),
        of::<other::taller::Shape>(),
        of::<other::swapped::Shape>(),
        of::<Vec<first::Job>>(),
        of::<Option<first::Job>>(),
        of::<BTreeMap<String, first::Job>>(),
        of::<(first::Job,)>(),
        of::<(first::Job, first::Job)>(),
        of::<[first::Job; 3]>(),
        of::<()>(),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{all:x?}");
}

#[test]
fn scalars_differ_as_the_format_writes_them() {
    let all = [
        of::<bool>(),
        of::<i8>(),
        of::<u8>(),
        of::<i16>(),
        of::<u16>(),
        of::<i32>(),
        of::<u32>(),
        of::<i64>(),
        of::<u64>(),
        of::<i128>(),
        of::<u128>(),
        of::<f32>(),
        of::<f64>(),
        of::<char>(),
        of::<String>(),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(of::<NonZeroU32>(), of::<u32>(), "1 is harmless");
    assert_eq!(of::<Box<u32>>(), of::<u32>());
}

#[derive(Deserialize)]
struct List {
    _value: u32,
    _next: Option<Box<List>>,
}

#[derive(Deserialize)]
enum Tree {
    _Node(Vec<Tree>),
    _Pair(Box<Tree>, Box<Tree>),
    _Leaf(u32),
}

#[derive(Deserialize)]
struct Endless {
    _next: Box<Endless>,
}

#[test]
fn a_type_that_contains_itself_has_an_end() {
    let all = [of::<List>(), of::<Tree>(), of::<Endless>(), of::<Vec<Vec<Vec<Tree>>>>()];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(of::<Tree>(), all[1]);
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Untagged {
    _Number(u32),
}

#[derive(Deserialize)]
struct Flattened {
    #[serde(flatten)]
    _rest: BTreeMap<String, u32>,
}

#[test]
fn what_asks_for_what_comes_next_is_told() {
    let mut hash = Hash::new();
    assert_eq!(add::<Untagged>(&mut hash), Err(NotSelfContained));
    assert_eq!(add::<(u32, Vec<Untagged>)>(&mut hash), Err(NotSelfContained));
    assert_eq!(add::<Flattened>(&mut hash), Err(NotSelfContained));
}

struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        if text.is_empty() { Err(serde::de::Error::custom("empty")) } else { Ok(Self) }
    }
}

#[derive(Deserialize)]
#[serde(rename = "Pair")]
struct Pair<T> {
    _first: Picky,
    _second: T,
}

#[test]
fn what_refuses_a_harmless_value_is_asked_no_more() {
    assert_eq!(of::<Picky>(), of::<String>());
    assert_eq!(of::<Pair<u32>>(), of::<Pair<u32>>());
    assert_eq!(of::<Pair<u32>>(), of::<Pair<u64>>(), "not seen behind it");
}
