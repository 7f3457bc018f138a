//! Reload requests.

use super::super::action::Action;
use super::super::event::Event;
use super::super::reload::RELOAD_PAUSE;
use super::TestCluster;
use std::time::Duration;

/// Breaks if each request of a flood is forwarded, or if the last one is lost.
#[test]
fn a_flood_of_reload_requests_is_one_now_and_one_later() {
    let mut cluster = TestCluster::new();
    assert_eq!(cluster.step(Event::ReloadRequested), [Action::ForwardReload]);
    for _ in 0..1000 {
        assert_eq!(cluster.step(Event::ReloadRequested), []);
    }
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + RELOAD_PAUSE));
    assert_eq!(cluster.later(RELOAD_PAUSE), [Action::ForwardReload]);
    assert_eq!(cluster.state.next_deadline(), None);
    assert_eq!(cluster.step(Event::ReloadRequested), [], "the pause holds after that one, too");
    assert_eq!(cluster.later(RELOAD_PAUSE), [Action::ForwardReload]);
    cluster.now += Duration::from_secs(1);
    assert_eq!(cluster.step(Event::ReloadRequested), [Action::ForwardReload]);
}
