//! Segments: memory that members of the cluster share, made at run time.
//!
//! The postmaster makes each and keeps its descriptor, so that any member can have it by the
//! segment's handle, whatever becomes of its maker. It never maps one. Who has asked for a segment
//! holds it, until it drops it or its connection ends; with the last hold the descriptor is closed,
//! and the memory is free once nobody has it mapped.
//!
//! | file | does |
//! |---|---|
//! | `holds` | who holds what, and the limits; pure |
//! | `table` | the segments, and the answers to what members ask |

mod holds;
mod table;

pub(crate) use table::{Answer, Segments};
