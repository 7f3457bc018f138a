//! Pools: workers that take many jobs in their life, each with a value in and a value out. With the
//! feature `serde`.
//!
//! A pooled job costs no registration, and the postmaster has no part in it: submitters and workers
//! meet in a segment ([`shmem_slots::jobs`]). Any process of the cluster may open the pool and
//! submit. A job that must be isolated from others is a [`Call`](crate::Call) instead.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bgw_backend::{Backend, PoolOptions};
//!
//! let backend = Backend::connect("/run/app")?;
//! let pool = backend.create_pool::<u64, bool>(&PoolOptions::new("is_prime").workers(2..=4))?;
//! let job = pool.submit(&1_000_003)?;
//! println!("{}", job.wait()?.into_output()?);
//! # Ok(())
//! # }
//! ```
//!
//! | guarantee | how |
//! |---|---|
//! | one outcome for each job, each look the same | the job's word is taken and ended by one swap each |
//! | a job runs at most once | a dead worker's job is over: it is never given to another one |
//! | a dead worker costs its own job alone | the outcome says how it died; the postmaster starts another one |
//! | a dead submitter's jobs never run | a lock that the kernel releases says that it is gone |
//! | first come, first served in a class | over all submitters, also while some of them die |
//! | workers that die at their start are told, not tried for ever | after some attempts they are given up, and so is what waits |
//!
//! | file | what |
//! |---|---|
//! | `submit.rs`, `options.rs`, `map.rs` | the face |
//! | `job.rs`, `raw.rs`, `wait.rs`, `answer.rs` | one job: its wait, its outcome |
//! | `function.rs`, `turns.rs`, `types.rs` | the worker's side |
//! | `launch.rs`, `place.rs` | how many workers there are, and which |
//! | `members.rs` | who submits, and whether it lives |
//! | `shared.rs`, `cells.rs`, `stats.rs` | what they have in common |

mod answer;
mod cells;
mod clock;
mod error;
mod function;
mod job;
mod launch;
mod map;
mod members;
mod options;
mod place;
mod raw;
mod shared;
mod stats;
mod submit;
mod turns;
mod types;
mod wait;

pub use error::{MapError, PoolError, SubmitError};
pub use function::{pooled, pooled_with};
pub use job::PoolJob;
pub use map::Map;
pub use options::PoolOptions;
pub use stats::{Histogram, PoolStats};
pub use submit::Pool;
