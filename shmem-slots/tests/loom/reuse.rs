//! A key outlives its tenancy.

use crate::{published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::FlagError;

/// Fails when flags are set by a fetch_or instead of a swap of the whole word.
#[test]
fn a_flag_set_with_a_stale_key_never_lands_on_the_next_tenant() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 7);
        let backend = Arc::clone(&slots);
        let thread = thread::spawn(move || backend.set_flags(old, 1));
        slots.free(old).unwrap();
        let new = published(&slots, 9);
        let set = thread.join().unwrap();
        assert!(matches!(set, Ok(_) | Err(FlagError::Stale)), "{set:?}");
        assert_eq!(slots.look(new).unwrap().flags(), 0);
        assert_eq!(slots.look(old), None);
    });
}

/// Fails when an update is a store: the flag that came in between is lost without a trace.
#[test]
fn a_flag_set_during_an_update_is_seen_in_the_slot_or_in_the_word_before() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let backend = Arc::clone(&slots);
        let thread = thread::spawn(move || backend.set_flags(key, 1).unwrap());
        let before = slots.update(key, 42, 4).unwrap();
        thread.join().unwrap();
        let now = slots.look(key).unwrap();
        assert_eq!((now.pid(), now.flags() & 4), (42, 4));
        assert!(before.flags() & 1 == 1 || now.flags() & 1 == 1);
    });
}
