//! Templates (zygotes): children that have loaded something, and fork workers on order.
//!
//! ```text
//!  postmaster ── fork ──▶ template: load ──▶ LOADED, waits for orders
//!      │                     │
//!      │ order: a mailbox    │ clone (CLONE_PARENT): the kernel writes the pid into the mailbox
//!      ├────────────────────▶├──────────▶ sleeper: a child of the postmaster, asleep
//!      │◀──── FORKED ────────┘               ▲
//!      └── checks that it is its own child, gives it a worker: as a spare (`child/mailbox.rs`)
//! ```
//!
//! A worker waits until there is a sleeper of its template, and starts as in any spare. Whatever
//! comes meanwhile (a terminate, a shutdown, a reset) finds it not started, as a worker that waits
//! for its phase.
//!
//! | who dies, or hangs | what follows |
//! |---|---|
//! | a template while it loads | the load has failed: who waits is told why, the next load is braked |
//! | a loaded template | another one is loaded; who waits goes on waiting, unless it was the third in a row that died within a second |
//! | between the fork and the report | the pid is in the mailbox: that child is ended, nothing is lost |
//! | a sleeper before it is given a worker | another one is ordered, after a pause |
//! | a sleeper before it takes its worker | the start is lost, and tried again |
//! | a template that is late | it is killed |
//!
//! Trust. What a template says is checked: a message that makes no sense, or a pid that is not that
//! of a child which nobody knows, ends the template. The postmaster never waits for one.
//!
//! | file | does |
//! |---|---|
//! | `life` | when a template is loaded, and what a failure leads to; pure |
//! | `process` | one template process, from the postmaster's side |
//! | `kept` | one template: its processes, who waits for it, what sleeps |
//! | `table` | the owner of all of them |
//!
//! The life of a template is in `child/template.rs`, what it says in `child/said.rs`.

mod kept;
mod life;
mod process;
mod table;

pub(crate) use kept::{Gone, Heard};
pub(crate) use life::Want;
pub(crate) use process::{Order, Sleeper};
pub(crate) use table::{Start, Templates};
