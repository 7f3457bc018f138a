//! The worker's side: a main that reads its input, and gives back an output or an error.

use super::format::{self, Carried};
use super::segments::read_value;
use super::types::{self, CallValue};
use crate::backend::Backend;
use crate::fault;
use crate::segment::SegmentError;
use crate::worker::Worker;
use bgw_core::internals::VALUE_LIMIT;
use bgw_core::{CallEntry, WorkerProcess, WorkerResult};
use shmem_slots::{Key, Snapshot};
use std::error::Error;
use std::sync::Arc;

/// Makes a function that others call out of one that takes a value and returns one, for the `call`
/// of the postmaster's builder.
///
/// The caller gets what it returns as [`Outcome::Output`](crate::Outcome), its error with its
/// sources as `Failed`, its panic as `Panicked`. An output of up to 1,024 bytes, encoded, lies in
/// the slot, a longer one in a segment, as far as the cluster's
/// [budget](crate::Backend::create_segment) goes: beyond it the call fails, and says so.
///
/// ```
/// use bgw_backend::{Worker, WorkerError, call};
///
/// fn longest(_: &mut Worker, words: Vec<String>) -> Result<String, WorkerError> {
///     words.into_iter().max_by_key(String::len).ok_or_else(|| "no words".into())
/// }
///
/// // Postmaster::builder().call("longest", call(longest))
/// # let _ = call(longest);
/// ```
pub fn call<F, I, O, E>(function: F) -> CallEntry
where
    F: Fn(&mut Worker, I) -> Result<O, E> + 'static,
    I: CallValue,
    O: CallValue,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let call = types::of::<I, O>();
    let tag = call.tag;
    let main = move |me: &'static WorkerProcess| -> WorkerResult {
        let input = input::<I>(me, tag)?;
        let output = function(&mut Worker::new(me), input).map_err(Into::into)?;
        Ok(give_back(me, format::encode(&output)?)?)
    };
    CallEntry { main: Box::new(main), call }
}

fn input<I: CallValue>(me: &'static WorkerProcess, tag: u64) -> Result<I, CallFault> {
    // A submission of another type was refused; this one was overwritten in its slot.
    let call = me.worker.call().filter(|call| call.tag == tag).ok_or(CallFault::NoInput)?;
    let Carried::InSegment { segment, len } = Carried::of(&call.input) else {
        return Ok(format::decode(&call.input)?);
    };
    let segment = backend(me).segment(segment).map_err(CallFault::InputSegment)?;
    Ok(format::decode(&read_value(&segment, len).map_err(CallFault::InputSegment)?)?)
}

fn backend(me: &'static WorkerProcess) -> Backend {
    Backend::from_attachment(Arc::clone(&me.attachment))
}

/// Says what the worker gives back. The report names the segment of a large output before the
/// caller holds it: so whatever happens in between, the caller can give it up.
fn give_back(me: &'static WorkerProcess, value: Vec<u8>) -> Result<(), CallFault> {
    fault::point("result:before_write");
    if value.len() <= VALUE_LIMIT {
        set_value(me, &value);
        return Ok(());
    }
    let key = Key { index: me.handle.slot(), generation: me.handle.generation() };
    let slots = me.attachment.slots();
    if !slots.look(key).is_some_and(Snapshot::is_kept) {
        // The caller has dropped its call, and gets nothing that it would have to give up.
        return Ok(());
    }
    let caller = slots.read(key).ok().and_then(|record| record.registered_by());
    let caller = caller.ok_or(CallFault::NoInput)?;
    let (segment, reference) = backend(me).put_value(&value).map_err(CallFault::Output)?;
    set_value(me, &reference);
    segment.pass_to(caller).map_err(CallFault::Output)?;
    fault::point("result:passed");
    Ok(())
}

fn set_value(me: &'static WorkerProcess, value: &[u8]) {
    let written = || fault::point("result:written");
    me.attachment.cells().set_value(me.berth.index, value, written);
    fault::point("result:set");
}

/// Why a call has failed beside its function.
#[derive(thiserror::Error)]
enum CallFault {
    #[error("the worker was registered without an input of the function's type")]
    NoInput,
    #[error("the input, or the output, is none of the function's type")]
    Input(#[from] postcard::Error),
    #[error("the input cannot be read from its segment")]
    InputSegment(#[source] SegmentError),
    #[error("the output cannot be given back in a segment")]
    Output(#[source] SegmentError),
}

bgw_core::debug_as_chain!(CallFault);
