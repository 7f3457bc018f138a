//! The descriptors that workers are given: kept until a worker has taken them, or its registration
//! is over.
//!
//! The postmaster never has one of them open. Each waits in an envelope (`bgw-core`,
//! `sys/envelope.rs`), and what the postmaster holds is the envelope. The worker inherits it, and
//! opens it. Closing an envelope that is not empty closes what is in it, which may take as long as
//! somebody else likes. So a child that does nothing else closes those that nobody has opened.
//!
//! ```text
//!  registrant: descriptor ──▶ envelope ──▶ postmaster: kept by slot ──▶ worker: take
//!                                                │ nobody has taken it
//!                                                ▼
//!                                          closer: a child that ends
//! ```
//!
//! | file | does |
//! |---|---|
//! | `envelope` | an envelope of the postmaster's, and what all of them share: how many there may be |
//! | `table` | the envelopes of each worker, by slot |
//! | `peer_socket` | a control socket whose other end others have, who may send descriptors |
//! | `closers` | the children that close what nobody has taken, and whatever else takes time to close |

mod closers;
mod envelope;
mod peer_socket;
mod table;

pub(crate) use closers::Closers;
pub(crate) use envelope::{Envelope, Office, Run};
pub(crate) use peer_socket::PeerSocket;
pub(crate) use table::Gifts;
