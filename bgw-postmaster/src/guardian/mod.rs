//! The guardian: a child of the postmaster that does nothing until the postmaster is dead.
//!
//! A postmaster that is killed can clean up nothing. The kernel signals its children then, but not
//! what they have started, and a child may block the signal, ignore it, or be stopped. So there is
//! one process that outlives the postmaster: it ends what is left, and holds the lock of the
//! runtime folder until nothing is.
//!
//! ```text
//!  postmaster: fork ──▶ guardian: own session, two descriptors ──▶ asleep on a pidfd
//!      │ each start and end: one store in the roster                    │
//!      ├── orderly end: kills and reaps its guardian, last of all       │
//!      └── killed ──────────────────────────────────────────────────────┘
//!             at once: all waiters of the death woken
//!                      SIGCONT to what is stopped, SIGTERM to what the workers have started
//!             after 5 s: SIGKILL; until nothing is left
//! ```
//!
//! | what may happen | what follows |
//! |---|---|
//! | the whole process group of the postmaster is killed, or Ctrl-C is pressed | the guardian has a session of its own, and blocks all signals |
//! | the guardian is killed | its pidfd tells the postmaster, which forks another one |
//! | both are killed at once | the kernel's death signal and the timers of functions are left |
//! | the number of an ended worker is reused | creation time and session tell the stranger, which is never signalled |
//! | a process cannot be killed (another user's, say) | the guardian waits for its end, and the folder stays locked |
//!
//! What left its worker's session (by `setsid`, as daemons do) is on its own, as it is for the
//! postmaster. In a pid namespace without a `/proc` of its own the guardian does nothing.
//!
//! Reading order: `keeper` (the postmaster's side), `watch` (the guardian's life), `sessions` (who
//! belongs to the cluster), `remains` (how it is ended). The roster is in `sys/roster.rs`.

mod keeper;
mod remains;
mod sessions;
mod watch;

pub(crate) use keeper::Guardian;
