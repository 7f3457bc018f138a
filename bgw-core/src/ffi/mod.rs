//! Workers in shared libraries: the border between the child that loads a library and the library.
//!
//! The border is plain C (`abi`), so that a library may be written in any language, and so that a
//! Rust library with its own copy of this crate can be a worker in full.
//!
//! - The *host* is the child of the postmaster. It loads the library and calls the worker's main in
//!   it with a `LibraryContext` (`host`).
//! - The *guest* is a Rust library. It makes its own copy of this crate the worker (`guest`): it
//!   maps the region anew, adopts the latch, and installs its own signal handlers instead of the
//!   host's.
//! - A C library needs neither. It uses the fields and functions of the context.
//!
//! Trust: the context comes from the process itself, which loaded the library. A context of another
//! version is refused nevertheless.
//!
//! Like `sys/`, this folder may use `unsafe`: a foreign function can be called in no other way.

pub(crate) mod abi;
pub(crate) mod guest;
pub(crate) mod host;
