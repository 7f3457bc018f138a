//! Runs tests that fork: one process a test, a watchdog, and nothing left behind.
//!
//! A test file is declared with `harness = false` and hands its functions over:
//!
//! ```no_run
//! use process_test::{fork_child, tests, wait_until};
//! use std::time::Duration;
//!
//! fn main() -> std::process::ExitCode {
//!     process_test::main(tests![a_child_that_returns_exits_with_zero])
//! }
//!
//! fn a_child_that_returns_exits_with_zero() {
//!     let mut child = fork_child(|| ());
//!     wait_until("the child ended", Duration::from_secs(10), || child.try_wait().is_some());
//!     assert_eq!(child.wait().code(), Some(0));
//! }
//! ```
//!
//! Three processes take part in one test:
//! - the **runner** is the test binary as cargo started it. It parses the command line, prints
//!   the report and starts a guard for each test;
//! - the **guard** is the same binary executed anew, so it has one thread. It is the subreaper of
//!   all that follows, and it alone waits, kills and judges;
//! - the **body** is forked from the guard into a session of its own and runs the function on the
//!   main thread of a process with one thread, so that it may fork.
//!
//! | what happened | verdict |
//! |---|---|
//! | the function returned, all its descendants ended within 2 s | passed |
//! | it called [`skip`] | skipped, with the reason |
//! | it panicked, called `exit`, or was killed by a signal | failed, with the message or the signal |
//! | it still ran when the watchdog struck | failed, with a dump of each process |
//! | it returned and left a process running | failed, with the pid and the command line |
//! | it left a file in `TMPDIR` and asked for [`Test::clean_tmp`] | failed, with the names |
//!
//! When the runner itself dies, the guard sees the end of a pipe, kills the descendants and
//! removes the folder. A body that runs as root and makes another process the subreaper of its
//! children hides nothing: that process is a descendant too.
//!
//! What it does not do: it isolates neither the network nor the file system, and a child that a
//! debugger or a user namespace keeps from SIGKILL stays.

pub(crate) mod registry;
pub(crate) mod runner;

pub(crate) mod body;
pub(crate) mod guard;
pub(crate) mod verdict;

mod asleep;
mod child;
mod namespace;
mod stranger;
mod tree;
mod until;

mod sys;

pub use asleep::{asleep, wait_until_all_asleep, wait_until_asleep};
pub use body::skip;
pub use child::{Child, Ended, fork_child};
pub use namespace::{choose_next_pid, in_pid_namespace, mount_own_proc};
pub use nix::sys::signal::Signal;
pub use nix::unistd::Pid;
pub use registry::{Test, watchdog};
pub use runner::main;
pub use stranger::Stranger;
pub use tree::{alive, descendants, zombies_of};
pub use until::wait_until;
pub use verdict::Outcome;

/// Makes the list of tests for [`main`] from the names of functions.
///
/// Inside a module the module's path stands before the name: `waits::each_wait_ends`. An entry may
/// name what it [proves](Test::proves), and may carry attributes:
/// `tests![one, two => [B05, B10], #[cfg(feature = "fault")] three]`.
#[macro_export]
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:path $(=> [$($id:ident),* $(,)?])?),* $(,)?) => {
        <[$crate::Test]>::into_vec(::std::boxed::Box::new([
            $($(#[$attribute])* $crate::Test::at(
                ::core::concat!(::core::module_path!(), "::", ::core::stringify!($name)),
                $name,
            )
                $(.proves(&[$(::core::stringify!($id)),*]))?),*
        ]))
    };
}
