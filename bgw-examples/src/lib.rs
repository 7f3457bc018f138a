//! Programs that use the background worker crates as a user would.
//!
//! Each program in `src/bin` shows one idea; what two of them share lies here.

pub mod database;
pub mod logging;
pub mod prefork;
pub mod ring;
pub mod worker_spi;
