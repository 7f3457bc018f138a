//! A process full of actors.

use crate::actor::Actor;
use crate::journal::Journal;
use process_test::{Child, fork_child};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::path::Path;

/// A process of actors, under the supervisor.
pub(crate) struct Crew {
    pub(crate) process: Child,
    /// Its place among the crews.
    pub(crate) place: u32,
    /// How many were killed in that place before.
    pub(crate) life: u32,
}

/// What a crew is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Threads; a crew of one may fork.
    pub(crate) threads: u32,
}

impl Crew {
    /// Forks the crew. The caller has one thread.
    pub(crate) fn start(
        journal: Journal,
        folder: &Path,
        plan: Plan,
        place: u32,
        life: u32,
    ) -> Self {
        let folder = folder.to_owned();
        let process = fork_child(move || work(journal, &folder, plan, place, life));
        Self { process, place, life }
    }
}

fn work(journal: Journal, folder: &Path, plan: Plan, place: u32, life: u32) {
    let actor = |thread: u32| {
        let seed = mix(mix(mix(plan.seed, place), life), thread);
        let who = place << 12 | thread;
        let random = StdRng::seed_from_u64(seed);
        Actor::new(journal, folder.to_owned(), random, who, plan.threads == 1)
    };
    if plan.threads == 1 {
        return actor(0).live();
    }
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let mut actor = actor(thread);
            scope.spawn(move || actor.live());
        }
    });
}

/// Another seed (splitmix64).
pub(crate) fn mix(seed: u64, number: u32) -> u64 {
    let mut z = seed.wrapping_add((u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
