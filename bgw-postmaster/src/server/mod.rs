//! The running postmaster: one thread, one loop.
//!
//! Each owner below holds its own state and offers a few verbs. Only the server registers descriptors
//! with the poller, calls the rules, and carries out what follows.
//!
//! ```text
//!  begin ──▶ event_loop: wait ─▶ token ─▶ ready: owner ─▶ events ─▶ rules ─▶ actions ─▶ perform: owner
//!                  └──▶ starts: workers that are due, and spares
//! ```
//!
//! | file | does |
//! |---|---|
//! | `state` | the struct: the owners, the queue of events |
//! | `begin` | from settings to a running server |
//! | `event_loop` | waits until something is ready or due |
//! | `ready` | what each token means: asks its owner, queues events |
//! | `starts` | forks the workers that are due, refills spares |
//! | `perform` | an action is one call to one owner |
//! | `poller` | epoll, signalfd, doorbell, tokens |
//! | `log` | a note becomes a log line |

mod begin;
mod event_loop;
mod log;
mod perform;
mod poller;
mod ready;
mod starts;
mod state;

pub(crate) use state::Server;
