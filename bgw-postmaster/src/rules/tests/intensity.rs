//! Named groups that fail once too often.

use super::super::action::Action;
use super::supervision::{
    EXIT_0, EXIT_1, STRATEGIES, group, member, restarting, told, unregistered,
};
use super::{key, never_ran, seconds};
use crate::named_group::{Group, Strategy};
use bgw_core::{AskedBy, ExitCause, GivenUp, NotStarted, RestartPolicy, WorkerHandle};

#[test]
fn one_failure_more_than_the_intensity_allows_ends_the_group() {
    // Restarts that are granted in 5 s, and how far apart the failures are.
    for strategy in STRATEGIES {
        for granted in [0u32, 1, 3] {
            let limits = Group::new("g").strategy(strategy).intensity(granted, seconds(5));
            let at_once = member().restart(RestartPolicy::after_secs(0));
            let members = [at_once.clone(), at_once.clone(), at_once.clone(), member()];
            let mut cluster = group(limits, &members[..3]);
            for _ in 0..granted {
                let actions = cluster.exits(1, EXIT_1);
                assert_eq!(unregistered(&actions), [0; 0]);
                cluster.stop_all_told(actions);
                cluster.start_all();
                assert_eq!(cluster.all_running(), [0, 1, 2]);
            }
            let actions = cluster.exits(1, EXIT_1);
            let given_up = |actions: &[Action]| match actions.iter().find_map(|action| match action
            {
                Action::Unregister(_, ending) => Some(ending),
                _ => None,
            }) {
                Some(ending) => ending.given_up,
                None => panic!("{actions:?}"),
            };
            let limit = GivenUp::Group { count: granted, within: seconds(5) };
            assert_eq!((unregistered(&actions), given_up(&actions)), (vec![1], Some(limit)));
            let with = GivenUp::WithGroup { failed: WorkerHandle::new(1, 1, 0) };
            assert_eq!(told(&actions), [2]);
            let actions = cluster.exits(2, EXIT_0);
            assert_eq!((unregistered(&actions), given_up(&actions)), (vec![2], Some(with)));
            assert_eq!(told(&actions), [0]);
            let actions = cluster.exits(0, EXIT_0);
            assert_eq!((unregistered(&actions), given_up(&actions)), (vec![0], Some(with)));
            assert!(cluster.is_empty());
            // Registered anew, it is as a new group.
            cluster.register(3, Box::new(members[3].clone().build().unwrap()));
            assert_eq!(cluster.start_all(), [3]);
        }
    }
}

#[test]
fn a_restart_that_is_as_old_as_the_window_counts_no_more() {
    let limits = || Group::new("g").intensity(1, seconds(5));
    let at_once = [member().restart(RestartPolicy::after_secs(0))];
    let mut cluster = group(limits(), &at_once);
    for _ in 0..5 {
        assert_eq!(unregistered(&cluster.exits(0, EXIT_1)), [0; 0]);
        assert_eq!(cluster.start_all(), [0]);
        cluster.later(seconds(5));
    }
    let mut cluster = group(limits(), &at_once);
    cluster.exits(0, EXIT_1);
    cluster.later(seconds(5) - std::time::Duration::from_millis(1));
    cluster.start_all();
    assert_eq!(unregistered(&cluster.exits(0, EXIT_1)), [0]);
}

/// Those that have no process yet are unregistered, too.
#[test]
fn members_in_a_pause_are_given_up_with_their_group() {
    let limits = Group::new("g").strategy(Strategy::OneForOne).intensity(1, seconds(3600));
    let mut cluster = group(limits, &[restarting(), restarting()]);
    cluster.exits(0, EXIT_1);
    let actions = cluster.exits(1, EXIT_1);
    assert_eq!(unregistered(&actions), [1, 0]);
    let cause = ExitCause::NotStarted(NotStarted::GroupGivenUp);
    let with = GivenUp::WithGroup { failed: WorkerHandle::new(1, 1, 0) };
    let ending = never_ran(cause, 0, Some(AskedBy::Group));
    let mut expected = ending;
    (expected.given_up, expected.streak) = (Some(with), 1);
    assert!(actions.contains(&Action::Unregister(key(0), expected)), "{actions:?}");
    assert!(cluster.is_empty() && cluster.state.next_deadline().is_none());
}
