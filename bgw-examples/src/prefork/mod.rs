//! An HTTP/1.1 server whose postmaster passes one listening socket to N workers.
//!
//! `program.rs` launches the postmaster, registers the workers and follows signals. `worker.rs` is
//! the main of each worker, `connections.rs` accepts and ends connections, `answer.rs` is what the
//! server does for a request. `board.rs` lets the workers share the load, `clients.rs` sends
//! requests for the program's own check, and `misbehave.rs` fails on request, for
//! `cargo xtask fire`.

mod answer;
mod board;
mod clients;
mod connections;
mod misbehave;
mod program;
mod sys;
mod worker;

pub use program::{Arguments, run};
