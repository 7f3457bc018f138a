//! How big a model is, what may happen in it, and which mistake is built in.

use crate::state::{Job, State};

/// A mistake that somebody might make, built in to see that the properties find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No mistake.
    Nothing,
    /// The postmaster clears a change mark after it has looked at the slot.
    MarkClearedLast,
    /// The postmaster takes any published slot for a new registration.
    ListNotAsked,
    /// A claim takes an ended slot like a free one.
    EndedIsFree,
    /// The postmaster wakes the waiters before it publishes the end.
    WakeFirst,
    /// A reset stores without comparing.
    ResetStores,
    /// A reset frees a slot whose claim is under way.
    ResetFreesClaims,
    /// A reset frees a slot whose end its registrant has not read.
    ResetFreesEnds,
    /// A claim is marked as a change after its swap.
    MarkAfterSwap,
    /// An end is kept for a registrant that has died.
    EndKeptForDead,
    /// An end is kept although the registrant has released the slot.
    ReleaseIgnored,
    /// A waiter does not hold the slot.
    WaiterHoldsNothing,
    /// The hold of a dead waiter is not given back.
    HoldKeptForDead,
    /// A report is written after the word that announces it.
    ReportLast,
    /// A reader takes the report of a slot without comparing generations.
    AnyReport,
}

/// How big the model is, and what may happen in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// What this size is for.
    pub(crate) name: &'static str,
    /// Slots.
    pub(crate) slots: usize,
    /// Programs that register.
    pub(crate) registrants: u8,
    /// Registrations of each.
    pub(crate) jobs: u8,
    /// Races that a claim may lose before it gives up.
    pub(crate) tries: u8,
    /// Processes that wait for the first registration besides.
    pub(crate) waiters: u8,
    /// Registrants that are killed, at any step.
    pub(crate) deaths: u8,
    /// Workers that crash: each resets the slots.
    pub(crate) crashes: u8,
    /// Postmasters that are killed, at any step.
    pub(crate) postmaster_deaths: u8,
    /// Workers run until their end is asked for.
    pub(crate) terminates: bool,
    /// A registrant may drop its handle before it has read the end.
    pub(crate) drops: bool,
    /// The mistake.
    pub(crate) broken: Broken,
}

impl Config {
    /// All registrations.
    pub(crate) fn jobs<'a>(&self, state: &'a State) -> impl Iterator<Item = Job> + use<'a> {
        let per = self.jobs;
        (0..state.registrants.len() as u8)
            .flat_map(move |registrant| (0..per).map(move |number| Job { registrant, number }))
    }
}
