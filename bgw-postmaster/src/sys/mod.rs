//! The postmaster's system calls, each behind a safe interface. All `unsafe` code of this crate is
//! in this folder. It names nothing above it; `fault.rs` is a leaf that every layer may name.

pub(crate) mod boxed;
pub(crate) mod credential_socket;
pub(crate) mod credentials;
pub(crate) mod descriptor_limit;
pub(crate) mod descriptors;
pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod footprint;
pub(crate) mod fork;
pub(crate) mod libc_version;
#[cfg(feature = "dylib")]
pub(crate) mod library;
pub(crate) mod placements;
pub(crate) mod private_box;
pub(crate) mod private_table;
pub(crate) mod process_memory;
pub(crate) mod process_stat;
pub(crate) mod program_path;
pub(crate) mod roster;
pub(crate) mod shared_page;
pub(crate) mod signals;
pub(crate) mod stdio;
pub(crate) mod surroundings;
pub(crate) mod title;
pub(crate) mod unwind_barrier;
pub(crate) mod usage;
pub(crate) mod wait;

mod anon_map;
pub(crate) mod clock;
mod exec_plan;
mod raw_syscall;
mod stack;
