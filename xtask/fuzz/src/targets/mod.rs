//! What reads hostile bytes. A target has valid examples, and a check that panics if an input
//! breaks what is promised: any bytes give a value or an error, and a value that is written again
//! reads the same.

mod check;
mod outputs;
mod packets;
mod records;
mod region;

use check::Checker;
use clap::ValueEnum;

/// One reader of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// A file that a program attaches as a region
    File,
    /// The words of a region that is attached already
    Slots,
    /// The description of a worker in a slot
    Record,
    /// The report of a worker's end in a slot
    Report,
    /// A packet from a backend
    Request,
    /// A packet from the postmaster
    Reply,
    /// The text of a handle
    Handle,
    /// An entry of the ring of events
    Event,
    /// A message from a command to its notify socket
    Notify,
    /// The output of a worker
    Output,
    /// A packet between the postmaster and its output collector
    Collector,
}

impl Target {
    pub(crate) const ALL: [Self; 11] = [
        Self::File,
        Self::Slots,
        Self::Record,
        Self::Report,
        Self::Request,
        Self::Reply,
        Self::Handle,
        Self::Event,
        Self::Notify,
        Self::Output,
        Self::Collector,
    ];

    pub(crate) fn examples(self) -> Vec<Vec<u8>> {
        match self {
            Self::File => region::files(),
            Self::Slots => region::words(),
            Self::Record => records::workers(),
            Self::Report => records::reports(),
            Self::Request => packets::requests(),
            Self::Reply => packets::replies(),
            Self::Handle => packets::handles(),
            Self::Event => records::events(),
            Self::Notify => outputs::notify_messages(),
            Self::Output => outputs::outputs(),
            Self::Collector => outputs::packets(),
        }
    }

    pub(crate) fn checker(self) -> Checker {
        match self {
            Self::File => region::check_file(),
            Self::Slots => region::check_words(),
            Self::Record => Box::new(records::check_worker),
            Self::Report => Box::new(records::check_report),
            Self::Request => Box::new(packets::check_request),
            Self::Reply => Box::new(packets::check_reply),
            Self::Handle => Box::new(packets::check_handle),
            Self::Event => Box::new(records::check_event),
            Self::Notify => Box::new(outputs::check_notify),
            Self::Output => Box::new(outputs::check_output),
            Self::Collector => Box::new(outputs::check_packet),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::input;

    /// Breaks if an example is not valid for its own check, or if a check panics without a reason.
    #[test]
    fn examples_and_their_first_mutations_pass() {
        for target in Target::ALL {
            let (examples, mut check) = (target.examples(), target.checker());
            assert!(!examples.is_empty(), "{target}");
            examples.iter().for_each(|example| check(example));
            (0..200).for_each(|number| check(&input::of(1, number, &examples)));
        }
    }
}
