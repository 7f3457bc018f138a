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
    /// A spare accepts a published slot without comparing what it was offered with.
    AcceptStores,
    /// A spare accepts any offer in the slot that it was given, whoever the tenant is.
    AcceptAnyTenant,
    /// The postmaster takes in what a spare has not taken, and leaves the offer open.
    OfferStands,
    /// The gate closes without a look at what spares have begun.
    BegunIgnored,
    /// The gate closes the cells of spares, and not the words by which they begin.
    WordLeftOpen,
    /// What a spare was given when its cell is closed is nobody's.
    GivenForgotten,
    /// What a dead spare was given is nobody's.
    DeadSpareForgotten,
    /// The postmaster leaves a spare that does not wake alone for ever.
    Patient,
    /// What a spare was seen to have and has no more when it is late is nobody's.
    LateForgotten,
    /// A shutdown, or a reset, does not close the gate.
    GateLeftOpen,
    /// Spares may be given workers while a reset is under way.
    OpenInReset,
    /// A reset leaves spares alone that have had a worker.
    UsedOutliveReset,
    /// What one spare has not taken is taken in although another one runs it.
    OthersRunIgnored,
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
    /// The last one has one registration, which runs from the beginning on, in slot 0. A spare that
    /// serves again has served before.
    pub(crate) one_runs: bool,
    /// Races that a claim may lose before it gives up.
    pub(crate) tries: u8,
    /// Processes that wait for the first registration besides.
    pub(crate) waiters: u8,
    /// Spares that whoever registers may wake. With any, every registration is offered.
    pub(crate) spares: u8,
    /// A spare's process serves again when its worker has ended well.
    pub(crate) reuses: bool,
    /// Spares that are killed, at any step.
    pub(crate) spare_deaths: u8,
    /// Spares that are stopped, at any step, and never go on.
    pub(crate) stops: u8,
    /// Keys that somebody scribbles into the cells of spares.
    pub(crate) scribbles: u8,
    /// Shutdowns.
    pub(crate) shutdowns: u8,
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
