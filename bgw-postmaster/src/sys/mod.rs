//! The postmaster's system calls, each behind a safe interface. All `unsafe` code of this crate is
//! in this folder. It names nothing above it; `fault.rs` is a leaf that every layer may name.

pub(crate) mod descriptor_limit;
pub(crate) mod descriptors;
pub(crate) mod exec;
pub(crate) mod fork;
#[cfg(feature = "dylib")]
pub(crate) mod library;
pub(crate) mod private_table;
pub(crate) mod process_stat;
pub(crate) mod roster;
pub(crate) mod shared_page;
pub(crate) mod signals;
pub(crate) mod title;
pub(crate) mod wait;

mod anon_map;
mod exec_plan;
mod raw_syscall;
mod stack;
