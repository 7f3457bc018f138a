//! Owners that die in the middle of a registration.
//!
//! Would catch: a claimed slot that stays taken when its owner has gone, a published one that
//! nobody takes in.

use crate::support::{Cluster, PATIENCE, builder, publish, second_peer, worker};
use bgw_core::Pid;
use bgw_core::internals::WorkerRecord;
use process_test::{Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_claim_is_swept_when_its_owner_ends,
        a_publication_without_a_ring_is_taken_in_when_its_owner_ends,
    ]
}

/// Would time out if the claim of a dead process kept its slot.
fn a_claim_is_swept_when_its_owner_ends() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().max_workers(1).runtime_dir(&folder));
    let mut child = fork_child(move || {
        let peer = second_peer(&folder);
        std::mem::forget(peer.slots().claim(peer.owner().get()).unwrap());
    });
    assert_eq!(child.wait().code(), Some(0));
    wait_until("the only slot is free again", PATIENCE, || {
        cluster.peer.slots().claim(cluster.peer.owner().get()).is_ok()
    });
    cluster.end();
}

/// Would time out if the end of a session did not have the postmaster look at its slots.
fn a_publication_without_a_ring_is_taken_in_when_its_owner_ends() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().max_workers(1).runtime_dir(&folder));
    let mut child = fork_child(move || {
        let peer = second_peer(&folder);
        publish(&peer, &WorkerRecord::encode(&worker("sleep"), Pid::this()), 0);
    });
    assert_eq!(child.wait().code(), Some(0));
    cluster.started(shmem_slots::Key { index: 0, generation: 1 });
    cluster.end();
}
