//! The running postmaster: one thread, one loop.
//!
//! Each owner below holds its own state and offers a few verbs. Only the server registers
//! descriptors with the poller, calls the rules, and carries out what follows.
//!
//! ```text
//!  begin ─▶ event_loop: wait ─▶ token ─▶ ready: owner ─▶ events ─▶ rules ─▶ actions ─▶ perform
//!                  └──▶ starts: workers that are due, and spares
//! ```
//!
//! | file | does |
//! |---|---|
//! | `state` | the struct: the owners, the queue of events |
//! | `begin` | from settings to a running server |
//! | `event_loop` | waits until something is ready or due |
//! | `ready` | what each token means: asks its owner, queues events |
//! | `lives` | ends workers whose processes live on, as spares |
//! | `starts` | forks the workers that are due, refills spares |
//! | `gifts` | closes what was given and nobody has taken |
//! | `outputs` | the output collector: forks it, hears its reports |
//! | `perform` | an action is one call to one owner |
//! | `poller` | epoll, signalfd, doorbell, tokens |
//! | `segments` | answers what members ask about segments |
//! | `rolls` | begins a roll for a peer, and answers it |
//! | `templates` | loads templates, starts workers in what they have forked |
//! | `log` | a note becomes a log line |

mod begin;
mod beside;
mod event_loop;
mod gifts;
mod lives;
mod log;
mod notify;
mod outputs;
mod perform;
mod poller;
mod progress;
mod random;
mod ready;
mod roll_answers;
mod roll_lists;
mod rolls;
mod segments;
mod starts;
mod state;
mod takers;
mod templates;
mod tickets;

pub(crate) use state::Server;
