//! System calls and mapped memory, each behind a safe interface. All `unsafe` code of this crate is
//! below this module, which names nothing above it but `primitive`.
//!
//! | name | invariant | upheld by |
//! |---|---|---|
//! | I1 | a mapping stays where it is, at its full length, while its `Mapping` lives, in the process that made it | `map.rs`: never remapped, unmapped on drop only; whoever forks keeps the child from using what is hidden from children |
//! | I2 | mapped cells are accessed by atomic operations, and by foreign code | no other code gets a pointer; the kernel's futex calls are atomic; `copy.rs` calls what the compiler does not see into |
//! | I3 | reading a mapped page never faults | memfds are sealed against shrinking; files are guarded by `sigbus.rs` |
//! | I4 | a read-only mapping is only loaded from, relaxed, at most 8 bytes at once | its cells leave the crate as `CellRef`; `Memory::writable_cells` checks the access; readers use `cell::load_acquire` |

pub(crate) mod copy;
pub(crate) mod futex;
pub(crate) mod map;
pub(crate) mod owned_ref;
#[cfg(feature = "fault")]
pub(crate) mod shared_count;
pub(crate) mod sigbus;
pub(crate) mod standard_streams;
