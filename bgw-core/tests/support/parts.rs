//! Parts of any valid description: how it is stopped, and its relations to others.
#![allow(clippy::unwrap_used)]

use bgw_core::{
    After, BackgroundWorker, BackgroundWorkerBuilder, GivenUp, Grace, StopSignal, WorkerHandle,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

type Relations = (bool, Option<String>, Vec<(String, After)>);

pub(crate) fn stop() -> impl Strategy<Value = (StopSignal, Grace)> {
    use StopSignal::{Hup, Int, Quit, Term, Usr1, Usr2, Winch};
    let signals = vec![Term, Int, Hup, Usr2, Quit, Usr1, Winch];
    let graces = prop_oneof![
        Just(Grace::OfCluster),
        Just(Grace::Forever),
        (0..=86_400_000u64).prop_map(|millis| Grace::After(Duration::from_millis(millis))),
    ];
    (proptest::sample::select(signals), graces)
}

/// Whether the name is unique, a group, and whom the worker starts after.
pub(crate) fn relations() -> impl Strategy<Value = Relations> {
    let condition = proptest::sample::select(vec![After::Started, After::Ready, After::Done]);
    // No name begins with a dot.
    let name = "\\.([a-z ]{1,8}|[ -~]{90,94}|[äß北✓x]{20,31})";
    (
        any::<bool>(),
        proptest::option::of("[a-z ]{1,8}|[ -~]{31}|[äß北✓x]{10}"),
        vec((name, condition), 0..8),
    )
}

/// As much of it as goes together with the rest: a long text leaves no place for names, and a limit
/// none for a group.
pub(crate) fn relate(
    builder: BackgroundWorkerBuilder,
    (unique, group, after): Relations,
) -> BackgroundWorker {
    let builder = if unique { builder.unique() } else { builder };
    let all = after.into_iter().fold(builder.clone(), |b, (name, after)| b.after(name, after));
    let builder = if all.clone().build().is_ok() { all } else { builder };
    let member = group.and_then(|group| builder.clone().group(group).build().ok());
    member.unwrap_or_else(|| builder.build().unwrap())
}

/// The member of a group whose failure has ended the worker, too.
pub(crate) fn failed_member(limit: GivenUp) -> Option<WorkerHandle> {
    if let GivenUp::WithGroup { failed } = limit { Some(failed) } else { None }
}
