//! For the fuzzer: what reads bytes of workers, without a postmaster around it. No part of the
//! interface.

use crate::{notify, outputs};

/// What a notify message says, a text for each assignment that is known.
#[must_use]
pub fn notify_message(message: &[u8]) -> Vec<String> {
    notify::parse(message).map(|said| format!("{said:?}")).collect()
}

/// The lines that a collector makes of `output`, which it reads in pieces of `read` bytes, and the
/// last `most` of them, as it remembers them.
#[must_use]
pub fn collected(output: &[u8], read: usize, most: u8) -> (Vec<u8>, Vec<u8>) {
    outputs::collected(output, read, most)
}

/// A packet between postmaster and collector, read and written again: as an order, and as a report.
#[must_use]
pub fn collector_packet(packet: &[u8]) -> [Option<Vec<u8>>; 2] {
    outputs::packet(packet)
}
