//! Attached programs: who they are, what they request, when they go.
//!
//! | file | does |
//! |---|---|
//! | `table` | the owner: sessions by number |
//! | `peers` | the processes behind the sessions: their pidfds, their ends |
//! | `listener` | accepts connections, even when descriptors run out |
//! | `session` | one connection: credentials, requests, replies |
//! | `protocol` | what a peer gets, and what it may request |

mod listener;
mod peers;
mod protocol;
mod session;
mod table;

pub(crate) use listener::Listener;
pub(crate) use protocol::{PeerRequest, Welcome};
pub(crate) use table::{Kind, Sessions};
